import json
import math
import os

import pyarrow.parquet
import pytest
import torch

from ardm_guidance.data.gathering import gather_rows
from ardm_guidance.data.modules import MoleculeData
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.shell.checkpoints import CheckpointError
from ardm_guidance.training.molecule_ardm import MoleculeARDM
from ardm_guidance.training.sampling import SamplingTrainer, WriteResults

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")


def build(width=8):
    torch.manual_seed(0)
    network = GraphTransformer(8, 4, 9, width=width, pair_width=8, num_layers=1, num_heads=2)
    model = MoleculeARDM(network)
    model.size_counts[:] = torch.tensor([0, 0, 0, 1, 2, 3, 0, 0, 0, 5])
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.ckpt"
    torch.save({"state_dict": build().state_dict()}, path)
    return path


def trainer(path, devices=1, callbacks=()):
    torch.set_num_threads(1)
    return SamplingTrainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=path,
        callbacks=list(callbacks),
    )


def read(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def test_samples_are_the_same_on_one_device_and_on_two(checkpoint, tmp_path):
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    settings = {"ckpt_path": str(checkpoint), "num_samples": 13, "seed": 3}
    trainer(tmp_path).sample(build(), batch_size=5, output=str(one), **settings)
    trainer(tmp_path, 2).sample(build(), batch_size=4, output=str(two), pictures=False, **settings)
    rows, others = read(one), read(two)
    assert [row["index"] for row in rows] == list(range(13))
    for row, other in zip(rows, others, strict=True):
        assert (row["smiles"], row["num_atoms"]) == (other["smiles"], other["num_atoms"])
        assert row["log_prob"] == pytest.approx(other["log_prob"], abs=1e-4)
        assert row["log_weight"] == row["log_normalizer"] == 0
        assert row["num_evaluations"] > 0
    notes = json.loads(pyarrow.parquet.read_schema(one).metadata[b"ardm_guidance"])
    assert (notes["num_samples"], notes["seed"], notes["devices"]) == (13, 3, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film_strip.png", "one.parquet", "two.parquet",
    ]  # fmt: skip


def test_a_checkpoint_of_another_model_is_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="of another model"):
        trainer(tmp_path).sample(build(width=16), ckpt_path=str(checkpoint))


@pytest.mark.parametrize("options", [{"num_samples": 0, "ckpt_path": "x"}, {"ckpt_path": None}])
def test_impossible_requests_are_refused(options, tmp_path):
    with pytest.raises(ValueError, match=r"at least 1|needs a checkpoint"):
        trainer(tmp_path).sample(build(), **options)


def test_rows_are_merged_by_index():
    rows = [{"index": 2}, {"index": 0}, {"index": 1}]
    assert [row["index"] for row in gather_rows(rows)] == [0, 1, 2]


@pytest.mark.parametrize("devices", [1, 2])
def test_test_and_predict_write_every_molecule_once(tmp_path, devices):
    source = tmp_path / "some.smi"
    source.write_text("\n".join(["CCO", "CCN", "C1CC1", "CC#N", "C=O", "CCCC", "CO", "CN"]) + "\n")
    model, data = build(), MoleculeData(str(source), batch_size=2, val=0.1, test=0.6)
    run = trainer(tmp_path, devices, [WriteResults()])
    run.test(model, data, verbose=False)
    run.predict(model, data)
    scores = json.loads((tmp_path / "test.json").read_text())
    rows = read(tmp_path / "predictions.parquet")
    data.read(model.alphabet)
    assert [row["index"] for row in rows] == data.parts["test"].tolist()
    assert [row["smiles"] for row in rows] == [
        data.molecules.smiles[row] for row in data.parts["test"].tolist()
    ]
    assert scores["count"] + scores["excluded"] == len(rows) == 5
    labellings = scores["nats"] - scores["nats_unlabelled"]
    assert labellings == pytest.approx(scores["log_labellings"])
    assert 0 < labellings < math.log(24)
    bounds = [row["log_prob_bound"] for row in rows if math.isfinite(row["log_prob_bound"])]
    assert 0 < len(bounds) == scores["count"]
    mean = -sum(bounds) / len(bounds)
    assert scores["nats"] == pytest.approx(mean, rel=1e-5)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
