"""ERA5-UK as the other project reads it, for `era5_upstream.py`.

Writes the fields, the same forcing as ours (radiation, sine and cosine of the hour) and its
two configuration files into a folder. In its environment, its own program then makes the datastore:

    python bench/era5_datastore.py --data era5_uk_2m_temperature_2019-03.nc --output FOLDER
    UPSTREAM/bin/mllam_data_prep FOLDER/era5.datastore.yaml
    UPSTREAM/bin/python bench/era5_upstream.py --datastore FOLDER/era5.datastore.yaml ...
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from neural_lam.data.forcing import forcing

METRES_PER_DEGREE = 111_195.0
# Training, validation and test as ours: the first 60 %, the next 20 %, the rest of the month.
SPLITS = {
    "train": ("2019-03-01T00:00", "2019-03-19T13:00"),
    "val": ("2019-03-19T14:00", "2019-03-25T18:00"),
    "test": ("2019-03-25T19:00", "2019-03-31T23:00"),
}
UNITS = {
    "t2m": "K",
    "toa_radiation": "W m**-2",
    "sin_hour": "1",
    "cos_hour": "1",
    "lat_field": "degrees",
    "lon_field": "degrees",
}


def fields(path: str) -> xr.Dataset:
    """Temperature, forcing and static fields on a plane."""
    # Ascending, since its get_xy sorts coordinates, but not the data.
    data = xr.open_dataset(path).sortby("latitude")
    latitude, longitude = data.latitude.values, data.longitude.values
    north, east = np.meshgrid(latitude, longitude, indexing="ij")
    times = data.time.values.astype("datetime64[ns]")
    given = forcing(times, north.ravel(), east.ravel(), ["toa_radiation", "hour"]).numpy()
    given = given.reshape(len(times), *north.shape, 3)
    values = {
        "t2m": data["2m_temperature"].values.astype(np.float32),
        **{name: given[..., k] for k, name in enumerate(("toa_radiation", "sin_hour", "cos_hour"))},
        "lat_field": north.astype(np.float32),
        "lon_field": east.astype(np.float32),
    }
    variables = {
        name: (
            ("time", "y", "x")[3 - field.ndim :],
            field,
            {"units": UNITS[name], "long_name": name},
        )
        for name, field in values.items()
    }
    shrink = np.cos(np.deg2rad(latitude.mean()))
    place = {"x": longitude * shrink * METRES_PER_DEGREE, "y": latitude * METRES_PER_DEGREE}
    return xr.Dataset(variables, {"time": data.time.values, **place})


def source(variables: list[str], target: str, dims: list[str]) -> dict[str, Any]:
    """One input of the datastore."""
    mapping: dict[str, Any] = {
        f"{target}_feature": {"method": "stack_variables_by_var_name", "name_format": "{var_name}"},
        "grid_index": {"method": "stack", "dims": ["x", "y"]},
    }
    if "time" in dims:
        mapping["time"] = {"method": "rename", "dim": "time"}
    return {
        "path": "source.zarr",
        "dims": dims,
        "variables": variables,
        "dim_mapping": mapping,
        "target_output_variable": target,
    }


def datastore() -> dict[str, Any]:
    """The configuration of mllam-data-prep."""
    splits: dict[str, Any] = {k: {"start": a, "end": b} for k, (a, b) in SPLITS.items()}
    splits["train"]["compute_statistics"] = {
        "ops": ["mean", "std", "diff_mean", "diff_std"],
        "dims": ["grid_index", "time"],
    }
    span = {"start": SPLITS["train"][0], "end": SPLITS["test"][1], "step": "PT1H"}
    moving = ["time", "x", "y"]
    return {
        "schema_version": "v0.5.0",
        "dataset_version": "v0.1.0",
        "output": {
            "variables": {
                "static": ["grid_index", "static_feature"],
                "state": ["time", "grid_index", "state_feature"],
                "forcing": ["time", "grid_index", "forcing_feature"],
            },
            "coord_ranges": {"time": span},
            "chunking": {"time": 24},
            "splitting": {"dim": "time", "splits": splits},
        },
        "inputs": {
            "state": source(["t2m"], "state", moving),
            "forcing": source(["toa_radiation", "sin_hour", "cos_hour"], "forcing", moving),
            "static": source(["lat_field", "lon_field"], "static", ["x", "y"]),
        },
        "extra": {
            "projection": {"class_name": "PlateCarree", "kwargs": {"central_longitude": 0.0}}
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    fields(chosen.data).to_zarr(
        chosen.output / "source.zarr", mode="w", consolidated=True, zarr_format=2
    )
    content = datastore()
    for given in content["inputs"].values():
        given["path"] = str((chosen.output / "source.zarr").resolve())
    (chosen.output / "era5.datastore.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    weighting = {"state_feature_weighting": {"__config_class__": "UniformFeatureWeighting"}}
    settings = {
        "datastore": {"kind": "mdp", "config_path": "era5.datastore.yaml"},
        "training": weighting,
    }
    (chosen.output / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
