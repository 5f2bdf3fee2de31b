"""Memory doesn't grow with the record's length, once it doesn't fit into the cache of states."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import yaml
import zarr

SIDE, CHUNK = 48, 64
# Peak resident memory of each verb, in MiB, with a cache of 1 MiB.
SCRIPT = """
import json, resource, sys
import torch
from neural_lam.__main__ import main
from neural_lam.fields.store import FieldStore
torch.set_num_threads(1)
FieldStore.__init__.__kwdefaults__["memory_limit"] = 2**20
code = main(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
open(sys.argv[1], "w").write(json.dumps([code, peak]))
"""


def _record(path, num_times):
    """A record written chunk by chunk: a wave, and noise that no compression shrinks."""
    template = xr.Dataset(
        coords={
            "time": np.datetime64("1990-01-01", "ns")
            + np.arange(num_times) * np.timedelta64(6, "h"),
            "latitude": np.linspace(40, 52, SIDE),
            "longitude": np.linspace(0, 12, SIDE),
        }
    )
    template.to_zarr(path, consolidated=False)
    group = zarr.open_group(path, mode="a")
    array = group.create_array(
        "height", shape=(num_times, SIDE, SIDE), chunks=(CHUNK, SIDE, SIDE), dtype="f4",
        dimension_names=("time", "latitude", "longitude"), compressors=None,
    )  # fmt: skip
    array.attrs["units"] = "m"
    rng = np.random.default_rng(0)
    x = np.arange(SIDE)
    for start in range(0, num_times, CHUNK):
        t = np.arange(start, min(start + CHUNK, num_times))[:, None, None]
        wave = 100 * np.sin(2 * np.pi * (x - 0.4 * t) / 16 + 0.2 * x[:, None])
        array[start : start + len(t)] = wave + rng.standard_normal(wave.shape)


def _configuration(folder, num_times):
    content = {
        "seed_everything": 0,
        "trainer": {
            "max_steps": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
            "enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 2,
            "default_root_dir": "run",
        },
        "model": {
            "class_path": "neural_lam.Forecaster",
            "init_args": {
                "network": {
                    "class_path": "neural_lam.ConvLAM",
                    "init_args": {"hidden_size": 8, "coarse_size": 8},
                }
            },
        },
        "data": {
            "class_path": "neural_lam.GriddedData",
            "init_args": {
                "path": "record.zarr", "variables": ["height"], "boundary_width": 3,
                "guess_reach": 2, "lead_steps": 2, "stride": num_times // 40, "batch_size": 2,
                "memory_limit": 1,
            },
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


def _peaks(folder, num_times):
    folder.mkdir()
    _record(folder / "record.zarr", num_times)
    _configuration(folder, num_times)
    config, checkpoint = ["--config", "config.yaml"], ["--ckpt_path", "last.ckpt"]
    verbs = (
        ["statistics", *config, "--output", "statistics.nc"],
        ["fit", *config],
        ["forecast", *config, *checkpoint, "--output", "forecast.zarr"],
        ["verify", "--forecast", "forecast.zarr", "--output", "scores"],
    )
    peaks = {}
    for verb in verbs:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, "peak.json", *verb], cwd=folder, check=True,
            capture_output=True,
        )  # fmt: skip
        code, peaks[verb[0]] = json.loads((folder / "peak.json").read_text())
        assert code == 0, verb
        if verb[0] == "fit":
            next(folder.rglob("*.ckpt")).rename(folder / "last.ckpt")
    return peaks


@pytest.mark.slow
def test_peak_memory_is_flat_in_the_length_of_the_record(tmp_path):
    short, long = 640, 640 * 24
    few, many = _peaks(tmp_path / "short", short), _peaks(tmp_path / "long", long)
    added = (long - short) * SIDE**2 * 4 / 2**20
    assert added > 125
    grown = {verb: many[verb] - few[verb] for verb in few}
    # What is kept of each time are numbers, not fields.
    assert max(grown.values()) < added / 3, grown
