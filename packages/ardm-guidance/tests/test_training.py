import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from ardm_guidance.data.modules import MoleculeData
from ardm_guidance.models.ardm import OrderAgnosticARDM, hide, steps
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.models.orders import by_keys
from ardm_guidance.shell.guards import NonFiniteError, NonFiniteGuard
from ardm_guidance.shell.randomness import keyed_uniform
from ardm_guidance.sites.graphs import MASK, PAD
from ardm_guidance.training.molecule_ardm import MoleculeARDM

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")


class Record(lightning.Callback):
    """Validation losses and final weights, as plain numbers."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            torch.save(
                {"state": pl_module.state_dict(), "val": trainer.callback_metrics["val/nats"]},
                self.path,
            )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from ardm_guidance.data.files import read_rows, source_files

    path = tmp_path_factory.mktemp("molecules") / "some.smi"
    rows = list(read_rows(source_files("qm9-sample")[0]))[:53]
    path.write_text("\n".join(row.smiles for row in rows) + "\n")
    return str(path)


def build(source, batch_size=8):
    torch.manual_seed(0)
    network = GraphTransformer(8, 4, 9, width=8, pair_width=8, num_layers=1, num_heads=2)
    return MoleculeARDM(network, warmup_steps=2), MoleculeData(
        source, batch_size=batch_size, val=0.2
    )


def trainer(path, **options):
    torch.set_num_threads(1)
    settings = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in options["callbacks"]),
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": path,
    }
    return lightning.Trainer(**{**settings, **options})


def fit(source, path, *, devices=1, batch_size=8, ckpt_path=None, callbacks=()):
    path.mkdir(exist_ok=True)
    model, data = build(source, batch_size)
    run = trainer(
        path,
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        callbacks=[Record(path / "record.pt"), NonFiniteGuard(), *callbacks],
    )
    run.fit(model, data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return torch.load(path / "record.pt")


def test_one_device_with_eight_equals_two_with_four(source, tmp_path):
    one = fit(source, tmp_path / "one", batch_size=8)
    two = fit(source, tmp_path / "two", batch_size=4, devices=2)
    torch.testing.assert_close(two["state"], one["state"], rtol=0, atol=1e-6)
    torch.testing.assert_close(two["val"], one["val"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("step", [3, 4, 6], ids=["middle", "end", "second"])
def test_stop_and_resume_equals_no_stop(source, tmp_path, step):
    whole = fit(source, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    save = ModelCheckpoint(stopped, every_n_train_steps=step, save_top_k=-1, filename="{step}")
    fit(source, stopped, callbacks=[save])
    resumed = fit(source, tmp_path / "resumed", ckpt_path=str(stopped / f"step={step}.ckpt"))
    assert whole["state"].keys() == resumed["state"].keys()
    for name, value in whole["state"].items():
        assert torch.equal(resumed["state"][name], value), name
    assert torch.equal(resumed["val"], whole["val"])


def test_a_non_finite_gradient_stops_before_the_weights_change(source, tmp_path):
    class Poison(lightning.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 3:
                next(pl_module.parameters()).grad.fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=r"step 3 .*none yet"):
        fit(source, tmp_path, callbacks=[Poison()])


def test_the_average_is_of_the_weights_and_sizes_come_from_training(source, tmp_path):
    class Weights(lightning.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, *rest):
            self.seen.append(pl_module.network.size.weight.detach().clone())

    weights = Weights()
    state = fit(source, tmp_path, callbacks=[weights])["state"]
    assert len(weights.seen) == int(state["num_averaged"]) == 8
    mean = torch.stack(weights.seen).mean(0)  # fewer steps than the horizon: a plain mean
    torch.testing.assert_close(state["average.size.weight"], mean)
    assert int(state["size_counts"].sum()) == 37


def test_looking_ahead_raises_the_bound_of_connected_molecules(source):
    model, data = build(source)
    data.read(model.alphabet)
    batch = data.part("train")[torch.arange(37)]
    model.size_counts += 1
    ahead = model.log_prob_bounds(batch, look_ahead=True)
    without = model.log_prob_bounds(batch, look_ahead=False)
    assert (ahead >= without - 1e-5).all()
    assert (ahead > without + 1e-3).any()


def test_samples_depend_on_seed_and_index_alone(source):
    model, _ = build(source)
    model.size_counts[:] = torch.tensor([0, 0, 0, 1, 2, 3, 0, 0, 0, 5])
    with torch.no_grad():
        whole = model.draw(torch.arange(8), seed=4)
        part = model.draw(torch.tensor([5, 2]), seed=4)
        other = model.draw(torch.arange(8), seed=5)
    assert torch.equal(part.sites, whole.sites[[5, 2]])
    assert not torch.equal(other.sites, whole.sites)
    for sites in whole.sites:
        molecule = model.alphabet.decode(sites)
        assert molecule is not None
        assert molecule.GetNumAtoms() in {3, 4, 5, 9}


def test_the_aromatic_encoding_trains_and_samples_without_constraints(source, tmp_path):
    torch.manual_seed(0)
    network = GraphTransformer(4, 5, 9, width=8, pair_width=8, num_layers=1, num_heads=2)
    model = MoleculeARDM(network, ["C", "N", "O", "F"], warmup_steps=2, aromatic=True)
    data = MoleculeData(source, batch_size=8, val=0.2)
    trainer(tmp_path, callbacks=[], max_epochs=1).fit(model, data)
    assert len(model.look_ahead) == 0
    drawn = model.draw(torch.arange(50), 0)
    assert drawn.sites[:, 9:].max() == 4


def test_a_loss_without_masks_has_the_mass_of_what_fits_besides(source):
    model, data = build(source)
    data.read(model.alphabet)
    part = data.part("train")
    batch = part[torch.arange(len(part))]
    masked = model.training_step(batch, 0)
    model.masked_loss = False
    free = model.training_step(batch, 0)

    keys = keyed_uniform(model.seed, 0, batch.rows, (batch.sites.shape[-1] + 1,))
    partial = hide(batch.sites, by_keys(batch.sites, keys[:, 1:]), steps(batch.sites, keys[:, 0]))
    hidden, every = partial == MASK, torch.arange(45).expand(partial.shape)
    fits = model.constraints[0](partial, every)
    mass = OrderAgnosticARDM(model.network).log_probs(partial).masked_fill(~fits, -torch.inf)
    mass = torch.where(hidden, mass.logsumexp(-1), 0.0).sum(-1)
    weight = (batch.sites != PAD).sum(-1) / hidden.sum(-1)
    besides = -(weight * mass).mean() / 45
    assert besides > 0.01
    torch.testing.assert_close(free - masked, besides)
