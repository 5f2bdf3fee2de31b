"""Forecasts as zarr with the dimensions of WeatherBench2.

``time`` is the analysis time, ``prediction_timedelta`` the lead time; then ``level`` where
the variable has one, ``latitude`` and ``longitude``. One chunk holds one forecast, so that
many processes write disjoint chunks of one store. It grows under a temporary name and is
moved when it is whole. Beside its chunks it notes which forecasts are written, so that a run that
was killed goes on where it stopped, and gives the same store.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.data.fields import Datastore, Feature
from neural_lam.shell.errors import InputError

__all__ = [
    "create_forecasts",
    "finish_forecasts",
    "partial_path",
    "resume_forecasts",
    "write_forecast",
    "written_forecasts",
]


_GRID_ATTRIBUTES = {
    "latitude": {"units": "degrees_north", "standard_name": "latitude"},
    "longitude": {"units": "degrees_east", "standard_name": "longitude"},
    "y": {"units": "m", "standard_name": "projection_y_coordinate"},
    "x": {"units": "m", "standard_name": "projection_x_coordinate"},
}


def partial_path(path: str) -> str:
    """Where a store grows."""
    return f"{path.rstrip('/')}.part"


def _notes(path: str) -> Path:
    return Path(partial_path(path)) / ".written"


def written_forecasts(path: str) -> set[int]:
    """Positions of the forecasts that an unfinished store holds."""
    return {int(note.name) for note in _notes(path).glob("[0-9]*")}


def resume_forecasts(
    path: str,
    store: Datastore,
    times: NDArray[np.datetime64],
    num_steps: int,
    attributes: dict[str, str | int | float],
) -> None:
    """Keep an unfinished store of the same forecasts, or create one; as `create_forecasts`."""
    description = json.dumps(
        [[str(time) for time in times], num_steps, store.features, attributes], sort_keys=True
    )
    plan = _notes(path) / "plan"
    if not plan.is_file() or plan.read_text(encoding="utf-8") != description:
        create_forecasts(path, store, times, num_steps, attributes)
        _notes(path).mkdir()
        plan.write_text(description, encoding="utf-8")


def _variables(features: Sequence[Feature]) -> dict[str, list[Feature]]:
    grouped: dict[str, list[Feature]] = {}
    for feature in features:
        grouped.setdefault(feature.variable, []).append(feature)
    return grouped


def _coordinates(store: Datastore, times: NDArray[np.datetime64], num_steps: int) -> xr.Dataset:
    leads = np.arange(1, num_steps + 1) * store.step
    coordinates: dict[str, tuple[str | tuple[str, str], object, dict[str, str]]] = {
        "time": ("time", times, {"standard_name": "forecast_reference_time"}),
        "prediction_timedelta": (
            "prediction_timedelta",
            leads,
            {"standard_name": "forecast_period"},
        ),
    }
    dims = store.dims
    for name, values in zip(dims, (store.rows, store.columns), strict=True):
        coordinates[name] = (name, values, dict(_GRID_ATTRIBUTES.get(name, {})))
    if dims != ("latitude", "longitude"):
        for name, values in (("latitude", store.latitude), ("longitude", store.longitude)):
            coordinates[name] = (dims, values.reshape(store.shape), dict(_GRID_ATTRIBUTES[name]))
    levels = sorted({feature.level for feature in store.features if feature.level is not None})
    if levels:
        coordinates["level"] = ("level", levels, {"units": "hPa", "standard_name": "air_pressure"})
    data = xr.Dataset(coords=coordinates)
    data["prediction_timedelta"].encoding = {"units": "seconds", "dtype": "int64"}
    return data


def create_forecasts(
    path: str,
    store: Datastore,
    times: NDArray[np.datetime64],
    num_steps: int,
    attributes: dict[str, str | int | float],
) -> None:
    """Create the store under its temporary name, all values missing.

    Arguments:
        path: Where the finished store shall be.
        store: The data it is a forecast of: grid, features, units.
        times: Analysis times.
        num_steps: Lead times.
        attributes: Of the whole store.
    """
    partial = partial_path(path)
    shutil.rmtree(partial, ignore_errors=True)
    Path(partial).parent.mkdir(parents=True, exist_ok=True)
    coordinates = _coordinates(store, times, num_steps).assign_attrs(
        Conventions="CF-1.11", **attributes
    )
    coordinates.to_zarr(partial, mode="w", consolidated=False, zarr_format=3)
    group = zarr.open_group(partial, mode="r+")
    for name, features in _variables(store.features).items():
        levels = [] if features[0].level is None else [len(features)]
        dims = [
            "time",
            "prediction_timedelta",
            *(["level"] if levels else []),
            *store.dims,
        ]
        shape = (len(times), num_steps, *levels, *store.shape)
        group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype="float32",
            fill_value=float("nan"),
            dimension_names=dims,
            attributes={"units": features[0].units, "long_name": features[0].long_name},
        )


def write_forecast(path: str, store: Datastore, position: int, forecast: Tensor) -> None:
    """Write one forecast ``(T, G, V)`` in physical units.

    Raises:
        ValueError: It has blown up.
    """
    values = forecast.numpy()
    if not np.isfinite(values).all():
        lead = int(np.argmax(~np.isfinite(values).all(axis=(1, 2))))
        raise InputError(
            f"forecast {position} is not finite from lead step {lead + 1} on; nothing is written"
        )
    group = zarr.open_group(partial_path(path), mode="r+")
    fields = values.transpose(0, 2, 1).reshape(len(values), -1, *store.shape)
    first = 0
    for name, features in _variables(store.features).items():
        block = fields[:, first : first + len(features)]
        array = group[name]
        assert isinstance(array, zarr.Array)
        array[position] = block[:, 0] if features[0].level is None else block
        first += len(features)
    _notes(path).mkdir(exist_ok=True)
    # After the chunks: a forecast without a note is made again.
    (_notes(path) / str(position)).touch()


def finish_forecasts(path: str) -> None:
    """Move the whole store into place."""
    partial = partial_path(path)
    shutil.rmtree(_notes(path), ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(partial, path)
