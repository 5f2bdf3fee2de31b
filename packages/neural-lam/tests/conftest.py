import numpy as np
import pytest
import torch
import xarray as xr
import yaml


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def wave_dataset(num_times=60, rows=14, columns=17, levels=(250, 750)):
    """Waves that travel east, different in each level, with a mean that varies with latitude."""
    time = np.arange(num_times)[:, None, None, None]
    level = np.arange(len(levels))[None, :, None, None]
    y, x = np.arange(rows)[None, None, :, None], np.arange(columns)[None, None, None, :]
    wave = np.sin(2 * np.pi * (x - 0.4 * (1 + level) * time) / 9 + 0.3 * y) * (1 + level)
    noise = np.random.default_rng(0).standard_normal(wave.shape) * 0.05
    values = (100.0 + 3 * y + 10 * (wave + noise)).astype(np.float32)
    return xr.Dataset(
        {
            "height": (
                ("time", "level", "latitude", "longitude"),
                values,
                {"units": "m", "long_name": "height"},
            )
        },
        {
            "time": np.datetime64("2020-01-01", "ns")
            + np.arange(num_times) * np.timedelta64(6, "h"),
            "level": list(levels),
            "latitude": 40.0 + np.arange(rows),
            "longitude": 5.0 + np.arange(columns),
        },
    )


@pytest.fixture
def waves():
    """A small data set."""
    return wave_dataset()


@pytest.fixture
def wave_store(tmp_path, waves):
    """It as a zarr store on disk."""
    path = str(tmp_path / "waves.zarr")
    waves.to_zarr(path, consolidated=False)
    return path


def prepared_store(folder, *, change=None, shape=(7, 6)):
    """What mllam-data-prep writes, small, and the yaml beside it."""
    rng = np.random.default_rng(0)
    (nx, ny), num_times = shape, 40
    state = rng.standard_normal((2, num_times, nx * ny)).astype(np.float32)
    forcing = rng.standard_normal((num_times, nx * ny, 3)).astype(np.float32)
    static = rng.standard_normal((nx * ny, 2)).astype(np.float32)
    x, y = np.repeat(1000.0 * np.arange(nx), ny), np.tile(500.0 * np.arange(ny), nx)
    times = np.datetime64("2020-01-01", "ns") + np.arange(num_times) * np.timedelta64(3, "h")
    data = xr.Dataset(
        {
            "state": (("state_feature", "time", "grid_index"), state),
            "forcing": (("time", "grid_index", "forcing_feature"), forcing),
            "static": (("grid_index", "static_feature"), static),
            "splits": (
                ("split_name", "split_part"),
                [
                    ["2020-01-01T00:00", "2020-01-03T00:00"],
                    ["2020-01-03T03:00", "2020-01-04T12:00"],
                    ["2020-01-04T15:00", "2020-01-05T21:00"],
                ],
            ),
        },
        {
            "time": times,
            "grid_index": np.arange(nx * ny),
            "x": ("grid_index", x),
            "y": ("grid_index", y),
            "state_feature": ["t2m", "u10"],
            "state_feature_units": ("state_feature", ["K", "m/s"]),
            "state_feature_long_name": ("state_feature", ["temperature", "wind"]),
            "split_name": ["train", "val", "test"],
            "split_part": ["start", "end"],
        },
    )
    for category, size in (("state", 2), ("forcing", 3), ("static", 2)):
        for kind in ("mean", "std", "diff_mean", "diff_std"):
            values = rng.random(size).astype(np.float32) + 0.5
            data[f"{category}__train__{kind}"] = (f"{category}_feature", values)
    data = data if change is None else change(data)
    data.to_zarr(folder / "small.datastore.zarr", consolidated=False)
    mapping = {"grid_index": {"method": "stack", "dims": ["x", "y"]}}
    projection = {"class_name": "PlateCarree", "kwargs": {}}
    config = {"inputs": {"a": {"dim_mapping": mapping}}, "extra": {"projection": projection}}
    (folder / "small.datastore.yaml").write_text(yaml.safe_dump(config))
    selection = {"kind": "mdp", "config_path": "small.datastore.yaml"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"datastore": selection}))
    return data


@pytest.fixture
def prepared():
    """Writes a small data set as mllam-data-prep does."""
    return prepared_store
