"""Forecasts as zarr with the dimensions of WeatherBench2.

``time`` is the analysis time, ``prediction_timedelta`` the lead time; then the levels where
the variable has any, and the grid. Coordinates are those of the data the forecast was made from, by
value: each level and each row stands at its own label. One chunk holds one forecast, so that
many processes write disjoint chunks of one store. It grows under a temporary name and is
moved when it is whole. Beside its chunks it notes which forecasts are written, so that a run that
was killed goes on where it stopped, and gives the same store.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.fields.calendar import Times
from neural_lam.fields.datastore import Datastore
from neural_lam.fields.features import Feature, Level
from neural_lam.shell.errors import InputError
from neural_lam.shell.writing import note, overwrite

__all__ = [
    "claim_forecasts",
    "create_forecasts",
    "discard_empty",
    "finish_forecasts",
    "is_forecast",
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


def discard_empty(path: str) -> None:
    """Remove an unfinished store that holds no forecast."""
    if _notes(path).is_dir() and not written_forecasts(path):
        shutil.rmtree(partial_path(path))


def is_forecast(path: str) -> bool:
    """Whether a folder is a store of forecasts."""
    return (Path(path) / "prediction_timedelta" / "zarr.json").is_file()


def claim_forecasts(path: str) -> None:
    """Make sure, before long work, that forecasts can be written to a place.

    Raises:
        InputError: Something else is there, or forecasts that may not be replaced.
    """
    if not Path(path).exists():
        return
    if not is_forecast(path):
        raise InputError(f"{path}: is there already and no store of forecasts; name another place")
    if not overwrite():
        raise InputError(f"{path}: is there already; --overwrite replaces it")


def resume_forecasts(
    path: str,
    store: Datastore,
    times: Times,
    num_steps: int,
    attributes: dict[str, str | int | float],
) -> None:
    """Keep an unfinished store of the same forecasts, or create one; as `create_forecasts`."""
    features = [list(feature) for feature in store.features]
    description = json.dumps(
        [[str(time) for time in times], num_steps, features, attributes], sort_keys=True
    )
    plan = _notes(path) / "plan"
    if not plan.is_file() or plan.read_text(encoding="utf-8") != description:
        create_forecasts(path, store, times, num_steps, attributes)
        _notes(path).mkdir()
        plan.write_text(description, encoding="utf-8")


def _variables(features: Sequence[Feature]) -> dict[str, list[int]]:
    """Numbers of the features of each variable."""
    grouped: dict[str, list[int]] = {}
    for number, feature in enumerate(features):
        grouped.setdefault(feature.variable, []).append(number)
    return grouped


def _levels(features: Sequence[Feature]) -> dict[str, list[Level]]:
    """Levels along each vertical dimension, of all variables together."""
    found: dict[str, list[Level]] = {}
    for feature in features:
        if feature.level is not None and feature.level not in found.setdefault(
            feature.vertical, []
        ):
            found[feature.vertical].append(feature.level)
    return {name: sorted(levels, key=_rank) for name, levels in found.items()}


def _rank(level: Level) -> tuple[int, float, str]:
    return (1, 0.0, level) if isinstance(level, str) else (0, float(level), "")


def _coordinates(store: Datastore, times: Times, num_steps: int) -> xr.Dataset:
    leads = np.arange(1, num_steps + 1) * store.step
    coordinates: dict[str, Any] = {
        "time": ("time", store.calendar.dates(times), {"standard_name": "forecast_reference_time"}),
        "prediction_timedelta": (
            "prediction_timedelta",
            leads,
            {"standard_name": "forecast_period"},
        ),
    }
    dims = store.dims
    for name, values in zip(dims, store.labels, strict=True):
        coordinates[name] = (name, values, dict(_GRID_ATTRIBUTES.get(name, {})))
    if dims != ("latitude", "longitude"):
        shape = store.shape[: len(dims)]
        for name, values in (("latitude", store.latitude), ("longitude", store.longitude)):
            coordinates[name] = (dims, values.reshape(shape), dict(_GRID_ATTRIBUTES[name]))
    for name, levels in _levels(store.features).items():
        units = next(f.level_units for f in store.features if f.vertical == name)
        attributes = {"units": units} if units else {}
        if name == "level":
            attributes["standard_name"] = "air_pressure"
        coordinates[name] = (name, levels, attributes)
    data = xr.Dataset(coords=coordinates)
    data["prediction_timedelta"].encoding = {"units": "seconds", "dtype": "int64"}
    return data


def create_forecasts(
    path: str,
    store: Datastore,
    times: Times,
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

    References:
        Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
        global weather models, arXiv:2308.15560.
    """
    partial = partial_path(path)
    if Path(partial).exists() and not _notes(path).is_dir():
        raise InputError(f"{partial}: is there already and no unfinished store of forecasts")
    shutil.rmtree(partial, ignore_errors=True)
    Path(partial).parent.mkdir(parents=True, exist_ok=True)
    coordinates = _coordinates(store, times, num_steps).assign_attrs(
        Conventions="CF-1.11", **attributes
    )
    coordinates.to_zarr(partial, mode="w", consolidated=False, zarr_format=3)
    group = zarr.open_group(partial, mode="r+")
    along = _levels(store.features)
    for name, numbers in _variables(store.features).items():
        first = store.features[numbers[0]]
        vertical = [] if first.level is None else [first.vertical]
        shape = (
            len(times),
            num_steps,
            *(len(along[dim]) for dim in vertical),
            *store.shape[: len(store.dims)],
        )
        group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype="float32",
            fill_value=float("nan"),
            dimension_names=["time", "prediction_timedelta", *vertical, *store.dims],
            attributes={"units": first.units, "long_name": first.long_name},
        )


def write_forecast(path: str, store: Datastore, position: int, forecast: Tensor) -> None:
    """Write one forecast ``(T, G, V)`` in physical units.

    Raises:
        ValueError: It has blown up.
    """
    values = forecast.numpy()
    wrong = ~np.isfinite(values) & store.availability.mask.numpy()
    if wrong.any():
        lead = int(np.argmax(wrong.any(axis=(1, 2))))
        raise InputError(
            f"forecast {position} is not finite from lead step {lead + 1} on; nothing is written"
        )
    group = zarr.open_group(partial_path(path), mode="r+")
    shape = store.shape[: len(store.dims)]
    along = _levels(store.features)
    for name, numbers in _variables(store.features).items():
        array = group[name]
        assert isinstance(array, zarr.Array)
        fields = values[..., numbers].transpose(0, 2, 1).reshape(len(values), -1, *shape)
        first = store.features[numbers[0]]
        if first.level is None:
            array[position] = fields[:, 0]
            continue
        # By the level's own label: variables may have some of the levels alone.
        block: NDArray[np.float32] = np.full(
            (len(values), len(along[first.vertical]), *shape), np.nan, np.float32
        )
        places = [along[first.vertical].index(store.features[n].level) for n in numbers]  # type: ignore[arg-type]
        block[:, places] = fields
        array[position] = block
    _notes(path).mkdir(exist_ok=True)
    # After the chunks: a forecast without a note is made again.
    (_notes(path) / str(position)).touch()


def finish_forecasts(path: str) -> None:
    """Move the whole store into place; an older store of forecasts is replaced at once."""
    partial = partial_path(path)
    shutil.rmtree(_notes(path), ignore_errors=True)
    if Path(path).exists():
        claim_forecasts(path)
        aside = f"{path.rstrip('/')}.old-{os.getpid()}"
        os.rename(path, aside)
        os.replace(partial, path)
        shutil.rmtree(aside)
    else:
        os.replace(partial, path)
    note(path)
