import numpy as np
import pytest
import torch
import xarray as xr


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
