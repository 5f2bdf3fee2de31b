import copy
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from neural_lam.__main__ import VERBS, main
from neural_lam.shell.configuration import shipped_configs

NETWORK = {
    "class_path": "neural_lam.GraphLAM",
    "init_args": {"hidden_size": 8},
}
MODEL = {"class_path": "neural_lam.Forecaster", "init_args": {"network": NETWORK}}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """A run without a logger writes its configuration where it stands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path, wave_store):
    """Writes a configuration with some of its parts changed."""

    def write(data=None, **changes):
        arguments = {"path": wave_store, "variables": ["height"], "boundary_width": 2}
        arguments |= {"lead_steps": 3, "batch_size": 4, **(data or {}).pop("init_args", {})}
        source = {"class_path": "neural_lam.GriddedData", "init_args": arguments}
        trainer = {"accelerator": "cpu", "logger": False, "default_root_dir": str(tmp_path / "run")}
        content = {"model": MODEL, "data": {**source, **(data or {})}, "trainer": trainer}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}))
        return path

    return write


def answer(capsys, *arguments):
    """Exit code and the last line on standard error."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


def with_network(**init_args):
    return {**MODEL, "init_args": {"network": {**NETWORK, "init_args": init_args}}}


BAD = {
    "unknown trainer option": (
        {"trainer": {"max_epoch": 3}},
        "trainer.max_epoch: not accepted; did you mean 'max_epochs'?",
    ),
    "unknown argument of an object": (
        {"model": with_network(hiden_size=3)},
        "model.init_args.network.init_args.hiden_size: not accepted; did you mean 'hidden_size'?",
    ),
    "wrong type": (
        {"model": with_network(hidden_size="many")},
        "model.init_args.network.init_args.hidden_size: expected int, got many",
    ),
    "unknown class": (
        {"model": {**MODEL, "class_path": "neural_lam.Forecastr"}},
        "has no attribute 'Forecastr'; did you mean 'Forecaster'?",
    ),
    "misspelt init_args": (
        {"data": {"init_arg": {"batch_size": 3}}},
        "data.init_arg: not accepted; did you mean 'init_args'?",
    ),
    "refused value": (
        {"data": {"init_args": {"validation_from": 1.5}}},
        "expected 0 < validation_from < test_from < 1, got 1.5 and 0.8",
    ),
    "missing data": (
        {"data": {"init_args": {"path": "nowhere.zarr"}}},
        "nowhere.zarr: no such data; `neural-lam example-data` makes some",
    ),
    "missing variable": (
        {"data": {"init_args": {"variables": ["depth"]}}},
        "no variable 'depth'; it has height",
    ),
    "refused later": (
        {"data": {"init_args": {"batch_size": 300}}},
        "batch_size x devices must be at most the 34 training samples, got 300 x 1",
    ),
}


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("case", BAD)
def test_a_wrong_configuration_gets_one_line(config, capsys, case):
    changes, expected = BAD[case]
    path = config(**copy.deepcopy(changes))
    code, line = answer(capsys, "fit", "--config", path, "--trainer.logger", "false")
    assert code == 2
    assert line.startswith("neural-lam: ")
    assert line.endswith(expected)
    if case not in {"refused later", "missing data", "missing variable"}:
        assert str(path) in line


def test_a_missing_file_names_the_closest(capsys):
    code, line = answer(capsys, "fit", "--config", "era5-uk.yml")
    assert (code, line) == (
        2,
        "neural-lam: era5-uk.yml: no such file; did you mean 'era5-uk.yaml'?",
    )


def test_an_unknown_verb_names_the_closest(capsys):
    assert answer(capsys, "fitt") == (2, "neural-lam: fitt: not a verb; did you mean 'fit'?")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x80\x04]\x94."])
def test_a_damaged_checkpoint_gets_one_line(tmp_path, config, capsys, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    code, line = answer(capsys, "validate", "--config", config(), "--ckpt_path", path)
    assert code == 2
    assert line.startswith(f"neural-lam: {path}: ")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_configuration_trains(tmp_path, waves, name):
    store = str(tmp_path / "small.zarr")
    two = waves.isel(time=[*range(60)] * 5).assign_coords(
        time=waves["time"].values[0] + np.arange(300) * np.timedelta64(1, "h")
    )
    two["geopotential_height"], two["2m_temperature"] = (
        two["height"],
        two["height"].isel(level=0).drop_attrs(),
    )
    two.drop_vars("height").to_zarr(store, consolidated=False)
    arguments = ["fit", "--config", name, "--trainer.fast_dev_run", "2"]
    arguments += ["--data.init_args.path", store, "--data.init_args.boundary_width", "4"]
    arguments += ["--data.init_args.lead_steps", "3"]
    assert main([*arguments, "--trainer.default_root_dir", str(tmp_path)]) == 0


@pytest.mark.filterwarnings("ignore:.*:")
def test_the_verbs_lead_from_data_to_a_report(tmp_path, config, capsys):
    out = tmp_path / "out"
    path = str(config())
    graph, forecast = str(tmp_path / "graph.pt"), str(out / "forecast.zarr")
    picture = str(tmp_path / "graph.png")
    assert main(["graph", "--config", path, "--output", graph, "--picture", picture]) == 0
    assert main(["statistics", "--config", path, "--output", str(out / "statistics.nc")]) == 0
    assert "238 grid nodes" in capsys.readouterr().out
    assert (
        main(["fit", "--config", path, "--data.init_args.graph", graph, "--trainer.max_steps", "5"])
        == 0
    )
    checkpoint = str(next(tmp_path.rglob("*.ckpt")))
    common = ["--config", path, "--ckpt_path", checkpoint]
    assert main(["validate", *common]) == 0
    assert main(["test", *common]) == 0
    for devices in ("1", "2"):
        strategy = ["--trainer.devices", devices]
        strategy += ["--trainer.strategy", "ddp_fork"] if devices == "2" else []
        strategy += ["--overwrite"] if devices == "2" else []
        assert main(["forecast", *common, "--output", forecast, *strategy]) == 0
        report = str(out / "report.json")
        verify = ["verify", "--forecast", forecast, "--output", str(out), "--report", report]
        verify += ["--overwrite"] if devices == "2" else []
        assert main(verify) == 0
        content = json.loads((out / "report.json").read_text())
        if devices == "1":
            first = content["scores"]
    assert content["scores"] == first
    assert content["num_forecasts"] == 9
    assert all(Path(picture).stat().st_size > 10_000 for picture in content["pictures"])
    with xr.open_dataset(out / "scores.nc", decode_timedelta=True) as scores:
        assert np.isfinite(scores["rmse"]).all()


@pytest.mark.filterwarnings("ignore:.*:")
def test_mesh_and_network_are_chosen_by_class_path(tmp_path, config, capsys):
    path, graph = str(config()), str(tmp_path / "graph.pt")
    mesh = ["--data.init_args.mesh", "neural_lam.Rectangular"]
    mesh += ["--data.init_args.mesh.init_args.hierarchical", "true"]
    mesh += ["--data.init_args.mesh.init_args.refinement", "2"]
    mesh += ["--data.init_args.mesh.init_args.radius", "0.75"]
    folder = str(tmp_path / "folder")
    options = ["--output", graph, "--upstream", folder]
    assert main(["graph", "--config", path, *mesh, *options]) == 0
    assert "63 + 20 + 6 mesh nodes" in capsys.readouterr().out
    network = ["--model.init_args.network", "neural_lam.HiLAM"]
    network += ["--model.init_args.network.init_args.num_layers", "1"]
    fit = ["fit", "--config", path, *network, "--trainer.fast_dev_run", "1"]
    for source in (mesh, ["--data.init_args.graph", folder]):
        assert main([*fit, *source]) == 0
    code, line = answer(capsys, *fit)
    assert code == 2
    assert "HiLAM needs a mesh of at least 2 levels" in line


def test_help_is_fast_and_free_of_torch():
    program = "import sys, neural_lam.__main__ as m; m.main(['--help'])"
    program += "; assert 'torch' not in sys.modules"
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert time.perf_counter() - start < 0.5
    assert all(f"\n  {verb} " in shown.stdout for verb in VERBS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:")
def test_a_killed_forecast_goes_on_to_the_same_store(tmp_path, config):
    path = str(config({"init_args": {"lead_steps": 1, "evaluation_batch_size": 1}}))
    saved = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    saved["init_args"] = {"dirpath": str(tmp_path), "filename": "last"}
    arguments = ["fit", "--config", path, "--trainer.max_steps", "2"]
    assert main([*arguments, "--trainer.callbacks", json.dumps([saved])]) == 0

    def command(output):
        given = ["forecast", "--config", path, "--ckpt_path", str(tmp_path / "last.ckpt")]
        return [sys.executable, "-m", "neural_lam", *given, "--output", str(output)]

    whole, broken = tmp_path / "whole.zarr", tmp_path / "broken.zarr"
    assert main(command(whole)[3:]) == 0
    process = subprocess.Popen(command(broken), cwd=tmp_path, stderr=subprocess.DEVNULL)
    notes = tmp_path / "broken.zarr.part" / ".written"
    while process.poll() is None and len(list(notes.glob("[0-9]*"))) < 2:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not broken.exists()
    assert 2 <= len(list(notes.glob("[0-9]*"))) < 11
    assert main(command(broken)[3:]) == 0
    files = {
        store: {
            str(file.relative_to(store)): file.read_bytes()
            for file in store.rglob("*")
            if file.is_file()
        }
        for store in (whole, broken)
    }
    assert files[whole] == files[broken]
    assert not list(tmp_path.glob("*.part"))
