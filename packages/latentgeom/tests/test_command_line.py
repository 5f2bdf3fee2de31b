import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray
import yaml

from latentgeom.__main__ import VERBS, main
from latentgeom.shell.configuration import shipped_configs


@pytest.fixture(autouse=True)
def _single_precision(_one_thread_in_double_precision, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a run without a logger writes its config where it stands
    torch.set_default_dtype(torch.float32)


PERCEPTRON = "latentgeom.Perceptron"
METRIC = {"class_path": "latentgeom.Euclidean", "init_args": {"dim": 2}}
DATA = {"class_path": "latentgeom.Digits"}


def perceptron(widths):
    return {"class_path": PERCEPTRON, "init_args": {**widths, "hidden": [8]}}


def model(metric=METRIC, **init_args):
    networks = {
        "encoder": perceptron({"in_features": 64, "out_features": 2}),
        "decoder": perceptron({"in_features": 2, "out_features": 64}),
        "metric": metric,
    }
    autoencoder = {"class_path": "latentgeom.Autoencoder", "init_args": networks}
    return {
        "class_path": "latentgeom.IsometricAutoencoder",
        "init_args": {"autoencoder": autoencoder, **init_args},
    }


def config(tmp_path, **changes):
    content = {"model": model(), "data": DATA, **changes}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def answer(capsys, *arguments):
    """Exit code and the last line on standard error."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


BAD = {
    "unknown trainer option": (
        {"trainer": {"max_epoch": 3}},
        "trainer.max_epoch: not accepted; did you mean 'max_epochs'?",
    ),
    "unknown argument of an object": (
        {"model": model({**METRIC, "init_args": {"dims": 2}})},
        "autoencoder.init_args.metric.init_args.dims: not accepted; did you mean 'dim'?",
    ),
    "wrong type": (
        {"model": model({**METRIC, "init_args": {"dim": "two"}})},
        "autoencoder.init_args.metric.init_args.dim: expected int, got two",
    ),
    "unknown class": (
        {"model": {**model(), "class_path": "latentgeom.training.isometric.IsometricAutoencoda"}},
        "has no attribute 'IsometricAutoencoda'; did you mean 'IsometricAutoencoder'?",
    ),
    "refused weight": (
        {"model": model(isometry_weight=-1.0)},
        "isometry_weight must be at least 0, got -1.0",
    ),
    "misspelt init_args": (
        {"data": {**DATA, "init_arg": {"batch_size": 3}}},
        "data.init_arg: not accepted; did you mean 'init_args'?",
    ),
    "refused value": (
        {"data": {**DATA, "init_args": {"num_test": 0}}},
        "num_validation and num_test must be positive and leave some of the 1797 digits,"
        " got 200 and 0",
    ),
    "refused later": (
        {"data": {**DATA, "init_args": {"batch_size": 3000}}},
        "batch_size x devices must be at most the 1297 training samples, got 3000 x 1",
    ),
}


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("case", BAD)
def test_a_wrong_configuration_gets_one_line(tmp_path, capsys, case):
    changes, expected = BAD[case]
    path = config(tmp_path, **changes)
    code, line = answer(capsys, "fit", "--config", path, "--trainer.logger", "false")
    assert code == 2
    assert line.startswith("latentgeom: ")
    assert line.endswith(expected)
    if case != "refused later":
        assert str(path) in line


def test_a_missing_file_names_the_closest(capsys):
    code, line = answer(capsys, "fit", "--config", "digits-spere.yaml")
    expected = "digits-spere.yaml: no such file; did you mean 'digits-sphere.yaml'?"
    assert (code, line) == (2, f"latentgeom: {expected}")


def test_an_unknown_verb_names_the_closest(capsys):
    assert answer(capsys, "fitt") == (2, "latentgeom: fitt: not a verb; did you mean 'fit'?")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x80\x04]\x94."])
def test_a_damaged_checkpoint_gets_one_line(tmp_path, capsys, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    code, line = answer(capsys, "validate", "--config", config(tmp_path), "--ckpt_path", path)
    assert code == 2
    assert line.startswith(f"latentgeom: {path}: ")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_configuration_trains(tmp_path, name):
    arguments = ["fit", "--config", name, "--trainer.fast_dev_run", "2"]
    if name == "array.yaml":
        np.save(tmp_path / "observations.npy", np.random.default_rng(0).normal(size=(200, 5)))
        arguments += ["--data.path", str(tmp_path / "observations.npy")]
    assert main([*arguments, "--trainer.default_root_dir", str(tmp_path)]) == 0


def test_help_is_fast_and_free_of_torch():
    program = (
        "import sys, latentgeom.__main__ as m\n"
        "m.main(['--help'])\n"
        "assert 'torch' not in sys.modules"
    )
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert time.perf_counter() - start < 0.5
    assert all(f"\n  {verb} " in shown.stdout for verb in VERBS)


@pytest.mark.filterwarnings("ignore:.*:")
def test_own_verbs_turn_a_checkpoint_into_reports_and_pictures(tmp_path):
    path = config(tmp_path)
    root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.logger", "false"]
    quick = ["--trainer.max_epochs", "3", "--trainer.enable_model_summary", "false"]
    assert main(["fit", "--config", str(path), *root, *quick]) == 0
    (checkpoint,) = tmp_path.glob("checkpoints/*.ckpt")
    common = ["--config", str(path), "--ckpt_path", str(checkpoint)]
    out = tmp_path / "out"
    for verb, options in {
        "distortion": [
            "--baseline_ckpt",
            str(checkpoint),
            "--relaxed_ckpt",
            str(checkpoint),
            "--num_pairs",
            "20",
        ],
        "geodesics": ["--num_pairs", "10", "--num_segments", "16"],
        "plot": ["--num_pairs", "3"],
    }.items():
        assert main([verb, *common, *options, "--output", str(out)]) == 0
    assert main(["plot", *common, "--num_pairs", "2", *root]) == 0
    assert (tmp_path / "latent.png").exists()  # the run's folder, where no other is named
    report = json.loads((out / "report.json").read_text())
    assert report["isometric"]["distortion"] >= 1
    assert report["isometric"] == report["plain"] == report["relaxed"]
    assert report["plain"]["distortion_euclidean"] >= 1
    assert report["plain"]["principal_components"]["distortion"] >= 1
    curves = xarray.open_zarr(out / "geodesics.zarr", consolidated=False)
    codes = xarray.open_zarr(out / "codes.zarr", consolidated=False)
    assert curves.points.dims == ("pair", "node", "latent")
    assert dict(curves.sizes) == {"pair": 10, "node": 17, "latent": 2, "end": 2}
    ends = codes.code.values[curves.endpoint.values]
    assert abs(curves.points.values[:, [0, -1]] - ends).max() < 1e-12
    assert (out / "latent.png").read_bytes().startswith(b"\x89PNG")
    assert main(["predict", *common, *root]) == 0
    predicted = xarray.open_zarr(tmp_path / "codes.zarr", consolidated=False)
    assert predicted.sample.values.tolist() == list(range(300))
    assert abs(predicted.code.values - codes.code.values).max() < 1e-4


@pytest.mark.filterwarnings("ignore:.*:")
def test_a_checkpoint_of_another_model_gets_one_line(tmp_path, capsys):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, path)
    code, line = answer(capsys, "distortion", "--config", config(tmp_path), "--ckpt_path", path)
    assert code == 2
    assert line.startswith(f"latentgeom: {path}: not of this model: ")
