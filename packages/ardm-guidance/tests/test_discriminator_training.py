import json
import math

import lightning.pytorch as lightning
import pyarrow.parquet
import pytest
import torch
import yaml

from ardm_guidance import ARDG, BSDG, FADG, BestOf, Importance
from ardm_guidance.__main__ import main
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.shell.checkpoints import CheckpointError
from ardm_guidance.shell.configuration import shipped_configs
from ardm_guidance.shell.errors import InputError
from ardm_guidance.training.discriminator import (
    DiscriminatorData,
    JudgedDataset,
    MoleculeDiscriminator,
    load_discriminator,
    read_generated,
)
from ardm_guidance.training.molecule_ardm import MoleculeARDM
from ardm_guidance.training.sampling import SamplingTrainer

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")


def network():
    torch.manual_seed(0)
    return GraphTransformer(8, 4, 9, width=8, pair_width=8, num_layers=1, num_heads=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A generator, its negatives, and real molecules."""
    path = tmp_path_factory.mktemp("run")
    model = MoleculeARDM(network())
    model.size_counts[:] = torch.tensor([0, 0, 0, 0, 0, 1, 1, 0, 0, 0])
    torch.save({"state_dict": model.state_dict()}, path / "generator.ckpt")
    settings = {"logger": False, "enable_progress_bar": False, "default_root_dir": path}
    trainer = SamplingTrainer(accelerator="cpu", **settings)
    trainer.negatives(model, ckpt_path=str(path / "generator.ckpt"), num_samples=40)
    (path / "real.smi").write_text("\n".join(["CCOCC", "CC(C)=O", "C1CCC1C", "NCC#N"] * 10) + "\n")
    return path


def fit(folder, path, devices=1, batch_size=8, ckpt_path=None, heads=None, **options):
    torch.set_num_threads(1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=path,
        **options,
    )
    model = MoleculeDiscriminator(network(), str(folder / "generator.ckpt"), **(heads or {}))
    data = DiscriminatorData(
        str(folder / "negatives.parquet"), str(folder / "real.smi"), batch_size=batch_size, val=0.2
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return trainer, model, data


def last(path):
    return torch.load(next(path.rglob("*.ckpt")), weights_only=True)["state_dict"]


def test_one_device_with_eight_equals_two_with_four(folder, tmp_path):
    fit(folder, tmp_path / "one")
    fit(folder, tmp_path / "two", devices=2, batch_size=4)
    torch.testing.assert_close(last(tmp_path / "two"), last(tmp_path / "one"), rtol=0, atol=1e-5)


def test_the_trunk_starts_from_the_average_of_the_generator(folder):
    generator = torch.load(folder / "generator.ckpt")["state_dict"]
    model = MoleculeDiscriminator(network().requires_grad_(True), str(folder / "generator.ckpt"))
    for name, value in model.discriminator.trunk.state_dict().items():
        assert torch.equal(value, generator[f"average.{name}"])


def test_a_trained_discriminator_is_scored_drawn_and_guides(folder, tmp_path):
    trainer, model, data = fit(folder, tmp_path)
    trainer.test(model, data, verbose=False)
    assert (tmp_path / "reliability.png").stat().st_size > 0
    assert 0 <= float(trainer.callback_metrics["test/calibration_error"]) <= 1
    path = next(tmp_path.rglob("*.ckpt"))
    loaded = load_discriminator(str(path))
    sites = torch.stack([torch.tensor(row) for row in negatives(folder)[:3]])
    torch.testing.assert_close(loaded(sites), model.eval().discriminator(sites).detach())
    generator = MoleculeARDM(network())
    settings = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    drawn = []
    nothing = {"guide": str(path), "guide_power": 0.0, "guide_start": 3, "method": ARDG()}
    for options in ({}, nothing):
        output = tmp_path / f"alone-{len(drawn)}.parquet"
        SamplingTrainer(accelerator="cpu", **settings).sample(
            generator, ckpt_path=str(folder / "generator.ckpt"), num_samples=6,
            output=str(output), pictures=False, **options,
        )  # fmt: skip
        drawn.append(pyarrow.parquet.read_table(output)["smiles"].to_pylist())
    assert drawn[0] == drawn[1]
    every = ARDG(), BSDG(3), FADG(3), FADG(3, reweight=True), BestOf(3), Importance(3)
    for number, method in enumerate(every):
        output = tmp_path / str(number) / "guided.parquet"
        SamplingTrainer(accelerator="cpu", **settings).sample(
            generator, ckpt_path=str(folder / "generator.ckpt"), num_samples=4, batch_size=3,
            output=str(output), guide=str(path), method=method,
        )  # fmt: skip
        rows = pyarrow.parquet.read_table(output).to_pylist()
        assert [row["index"] for row in rows] == list(range(4))
        assert all(5 <= row["num_atoms"] <= 6 for row in rows)
        assert (output.parent / "ancestry.png").exists() == (number in {1, 2, 3})
        assert all(row["num_evaluations"] > 6 for row in rows)
        assert all((row["log_weight"] is None) == (number == 0) for row in rows)
        assert all((row["log_normalizer"] is None) == (number in {0, 4}) for row in rows)
        assert {row["group"] for row in rows} <= set(range(4))


def test_heads_on_the_generators_trunk_make_a_guided_step_one_call(folder, tmp_path):
    _, model, _ = fit(folder, tmp_path, heads={"freeze_trunk": True, "head_width": 6})
    untouched = torch.load(folder / "generator.ckpt")["state_dict"]
    for name, value in model.discriminator.trunk.state_dict().items():
        assert torch.equal(value, untouched[f"average.{name}"])
    assert model.discriminator.value.weight.abs().max() > 0
    path = str(next(tmp_path.rglob("*.ckpt")))
    loaded = load_discriminator(path)
    sites = torch.stack([torch.tensor(row) for row in negatives(folder)[:3]])
    torch.testing.assert_close(loaded(sites), model.eval().discriminator(sites).detach())
    settings = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    rows = {}
    for name, options in {
        "plain": {},
        "guided": {"guide": path, "method": FADG(3)},
        "rounded": {"guide": path, "method": FADG(3), "bfloat16": True},
    }.items():
        output = tmp_path / f"{name}.parquet"
        SamplingTrainer(accelerator="cpu", **settings).sample(
            MoleculeARDM(network()), ckpt_path=str(folder / "generator.ckpt"), num_samples=6,
            output=str(output), pictures=False, **options,
        )  # fmt: skip
        rows[name] = pyarrow.parquet.read_table(output).to_pylist()
    plain, guided = (rows[name][0]["num_evaluations"] for name in ("plain", "guided"))
    # Three particles; besides the steps, the value of the empty and of the finished objects.
    assert guided <= 3 * plain + 1 + 3 * 8
    assert all(math.isfinite(row["log_weight"]) for row in rows["rounded"])


def test_a_frozen_trunk_needs_a_generator(folder):
    with pytest.raises(ValueError, match="freeze_trunk needs generator"):
        MoleculeDiscriminator(network(), freeze_trunk=True)
    with pytest.raises(ValueError, match="head_width must be at least 1, got 0"):
        MoleculeDiscriminator(network(), head_width=0)


def negatives(folder):
    return pyarrow.parquet.read_table(folder / "negatives.parquet")["sites"].to_pylist()


def test_one_particle_is_ancestral_sampling_bit_for_bit(folder, tmp_path):
    _, model, _ = fit(folder, tmp_path)
    potential = model.eval().discriminator
    with torch.no_grad():
        potential.value.weight.normal_()
        potential.node_ahead.weight.normal_()
        generator = MoleculeARDM(network())
        generator.size_counts[6] += 1
        index = torch.arange(5)
        plain = generator.draw(index, 3).sites
        alone = ARDG().draw(generator, potential, index, 3).sites
        assert torch.equal(BSDG(1).draw(generator, potential, index, 3).sites, plain)
        assert torch.equal(FADG(1).draw(generator, potential, index, 3).sites, alone)
        assert not torch.equal(alone, plain)


@pytest.mark.parametrize("name", ["qm9-discriminator.yaml", "qm9-shared-discriminator.yaml"])
def test_the_shipped_configurations_train(name, folder, tmp_path):
    content = yaml.safe_load(shipped_configs()[name].read_text())
    model, data = content["model"]["init_args"], content["data"]["init_args"]
    model["generator"] = str(folder / "generator.ckpt")
    model["network"]["init_args"] |= {
        "width": 8, "pair_width": 8, "num_layers": 1, "num_heads": 2,
    }  # fmt: skip
    data |= {"negatives": str(folder / "negatives.parquet"), "batch_size": 4}
    content["trainer"] |= {"fast_dev_run": 2, "default_root_dir": str(tmp_path)}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(content))
    assert main(["fit", "--config", str(path)]) == 0


def test_labels_alternate_and_sets_are_balanced():
    data = JudgedDataset(torch.zeros(5, 6).long(), torch.ones(3, 6).long())
    batch = data[torch.arange(6)]
    assert len(data) == 6
    assert torch.equal(batch.real, 1 - batch.sites[:, 0])


def test_bad_input_is_one_line(folder, tmp_path):
    with pytest.raises(InputError, match="the verb negatives writes it"):
        read_generated("nowhere.parquet", 45)
    with pytest.raises(InputError, match="expected 10 sites a row, got"):
        read_generated(str(folder / "negatives.parquet"), 10)
    with pytest.raises(CheckpointError, match="not a checkpoint of a discriminator"):
        load_discriminator(str(folder / "generator.ckpt"))
    with pytest.raises(ValueError, match="method FADG needs a guide"):
        FADG().draw(None, None, torch.arange(2), 0)


def test_the_larger_set_is_thinned_evenly_because_sources_are_ordered_by_size():
    pairs = JudgedDataset(torch.arange(90).view(90, 1), torch.arange(100, 130).view(30, 1))
    assert pairs.sites[::2, 0].tolist() == list(range(0, 90, 3))
    assert pairs.sites[1::2, 0].tolist() == list(range(100, 130))
