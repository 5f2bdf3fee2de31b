"""Every verb on the datastores of upstream's ``config.yaml``, whose features are paired by name."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from neural_lam.__main__ import main

SHAPE = (14, 13)


def _in_degrees(data):
    """Some hundred kilometres, on a plane whose coordinates are degrees."""
    x, y = (("grid_index", start + data[n].values / 4000) for n, start in (("x", 5), ("y", 45)))
    return data.assign_coords(x=x, y=y)


def _on_places(data):
    """The same grid, stacked over longitude and latitude."""
    return _in_degrees(data).rename(x="longitude", y="latitude")


def _walk(data):
    """States that wander, each feature at its own pace: the scores tell which is which."""
    rng = np.random.default_rng(1)
    steps = rng.standard_normal(data["state"].shape) * np.array([1.0, 20.0])[:, None, None]
    return data.assign(state=(data["state"].dims, steps.cumsum(1).astype(np.float32)))


def _turned(data):
    """The same with the features in the other order, in every variable."""
    return data.isel(state_feature=[1, 0])


def _stacked_over_places(folder):
    path = folder / "small.datastore.yaml"
    content = yaml.safe_load(path.read_text())
    for entry in content["inputs"].values():
        entry["dim_mapping"]["grid_index"]["dims"] = ["longitude", "latitude"]
    path.write_text(yaml.safe_dump(content))


def _run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    content = {
        "seed_everything": 0,
        "trainer": {
            "max_steps": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
            "enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0,
            "default_root_dir": "run",
        },
        "model": {
            "class_path": "neural_lam.Forecaster",
            "init_args": {
                "network": {"class_path": "neural_lam.GraphLAM", "init_args": {"hidden_size": 8}}
            },
        },
        "data": {
            "class_path": "neural_lam.UpstreamData",
            "init_args": {"config": "config.yaml", "boundary_width": 2, "lead_steps": 3},
        },
    }  # fmt: skip
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    config, checkpoint = ["--config", "mine.yaml"], ["--ckpt_path", "last.ckpt"]
    for verb in (
        ["graph", *config, "--output", "graph.pt", "--picture", "graph.png"],
        ["statistics", *config, "--output", "statistics.nc"],
        ["fit", *config],
        ["forecast", *config, *checkpoint, "--output", "forecast.zarr"],
        ["verify", "--forecast", "forecast.zarr", "--output", "scores"],
    ):
        assert main(verb) == 0, verb
        if verb[0] == "fit":
            next(folder.rglob("*.ckpt")).rename(folder / "last.ckpt")
    return xr.load_dataset("scores/scores.nc", decode_timedelta=True)["rmse"]


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("places", ["projected", "stacked over longitude and latitude"])
def test_every_verb_runs_and_scores_by_name(tmp_path, prepared, monkeypatch, places):
    def written(name, *changes):
        folder = tmp_path / name
        folder.mkdir()

        def change(data):
            for one in changes:
                data = one(data)
            return data

        data = prepared(folder, shape=SHAPE, change=change)
        if _on_places in changes:
            _stacked_over_places(folder)
        return folder, data

    kinds = (_on_places if "stacked" in places else _in_degrees,)
    folder, data = written("straight", _walk, *kinds)
    rmse = _run(folder, monkeypatch)
    assert set(rmse["feature"].values) == {"t2m", "u10"}
    # By hand: persistence over the test split, inside the boundary.
    state = data["state"].transpose("state_feature", "time", "grid_index")
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2] = True
    found = rmse.sel(forecast="persistence")
    for name in ("t2m", "u10"):
        field = state.sel(state_feature=name).values[:, inside.ravel()]
        starts = xr.open_zarr("forecast.zarr", consolidated=False)["time"].values
        at = np.searchsorted(data["time"].values, starts)
        for lead in (1, 2, 3):
            error = np.sqrt(np.mean((field[at + lead] - field[at]) ** 2))
            np.testing.assert_allclose(found.sel(feature=name)[lead - 1], error, rtol=1e-4)
    # The other order of features in the store gives the same truth, by name.
    turned, _ = written("turned", _walk, _turned, *kinds)
    other = _run(turned, monkeypatch).sel(forecast="persistence")
    for name in ("t2m", "u10"):
        np.testing.assert_allclose(other.sel(feature=name), found.sel(feature=name), rtol=1e-6)
