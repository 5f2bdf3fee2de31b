"""Gridded fields from zarr or NetCDF with the names of WeatherBench2.

A store has dimensions ``time``, ``latitude``, ``longitude`` and optionally ``level``. Each
variable and level is one feature of the state, so that states are ``(time, G, V)`` with
the grid nodes row by row: latitude outer, longitude inner, in the order of the file.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.configuration import InputError

__all__ = ["Datastore", "Feature", "FieldStore", "open_store"]

# Above it a store is read piece by piece instead of being kept in memory.
_MEMORY_LIMIT = 2 * 1024**3


class Feature(NamedTuple):
    """One variable at one level.

    Arguments:
        variable: Name in the store.
        level: In hPa, or nothing for a variable without levels.
        units: As the store says.
        long_name: For people.
    """

    variable: str
    level: int | None
    units: str
    long_name: str

    @property
    def name(self) -> str:
        """Variable and level in one word."""
        return self.variable if self.level is None else f"{self.variable}_{self.level}"


class Datastore(Protocol):
    """States at equal steps of time on a latitude-longitude grid."""

    features: list[Feature]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    times: NDArray[np.datetime64]

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``."""
        ...


def open_store(path: str) -> xr.Dataset:
    """Open a zarr or NetCDF store.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It can't be read.
    """
    from pathlib import Path

    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such data; `neural-lam example-data` makes some")
    # Consolidated metadata saves requests to a remote store; beside zarr 3 it is no standard.
    consolidated = None if "://" in path else False
    try:
        if path.rstrip("/").endswith(".zarr"):
            data: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=consolidated)
            return data
        return xr.open_dataset(path)
    except Exception as error:
        raise InputError(f"{path}: can't be read ({str(error).splitlines()[0]})") from None


def _uniform_step(path: str, times: NDArray[np.datetime64]) -> None:
    if len(times) < 2:
        raise InputError(f"{path}: at least two times are needed, got {len(times)}")
    steps = np.diff(times)
    if (steps != steps[0]).any() or steps[0] <= np.timedelta64(0, "ns"):
        where = int(np.argmax(steps != steps[0]))
        raise InputError(
            f"{path}: times must rise in equal steps of {steps[0]}, but {times[where + 1]}"
            f" follows {times[where]}"
        )


def _features(path: str, data: xr.Dataset, names: Sequence[str]) -> list[Feature]:
    features = []
    for name in names:
        if name not in data:
            raise InputError(
                f"{path}: no variable {name!r}; it has {', '.join(map(str, data.data_vars))}"
            )
        array = data[name]
        expected = {"time", "latitude", "longitude"}
        if {str(dim) for dim in array.dims} - {"level"} != expected:
            raise InputError(
                f"{path}: {name} must have the dimensions {', '.join(sorted(expected))}"
                f" and at most level, got {', '.join(map(str, array.dims))}"
            )
        levels = [int(level) for level in data["level"].values] if "level" in array.dims else [None]
        units = str(array.attrs.get("units", "1"))
        title = str(array.attrs.get("long_name", name))
        features += [Feature(name, level, units, title) for level in levels]
    return features


class FieldStore:
    """States read from a zarr or NetCDF store.

    Arguments:
        path: Of the store.
        variables: Which to read, in this order; each level is a feature.

    Raises:
        ValueError: A variable or dimension is missing, or the times have gaps.
    """

    def __init__(self, path: str, variables: Sequence[str]) -> None:
        self.path = path
        self._data = open_store(path)
        for name in ("time", "latitude", "longitude"):
            if name not in self._data.coords:
                raise InputError(f"{path}: no coordinate {name!r}")
        if not variables:
            raise InputError(f"{path}: name at least one variable")
        self.features = _features(path, self._data, variables)
        self.latitude = self._data["latitude"].values.astype(np.float64)
        self.longitude = self._data["longitude"].values.astype(np.float64)
        self.times = self._data["time"].values.astype("datetime64[ns]")
        _uniform_step(path, self.times)
        self._variables = list(variables)
        size = 4 * len(self.times) * len(self.features) * len(self.latitude) * len(self.longitude)
        self._kept = self._read(0, len(self.times)) if size <= _MEMORY_LIMIT else None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.latitude), len(self.longitude)

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        step: np.timedelta64 = self.times[1] - self.times[0]
        return step

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``.

        Raises:
            ValueError: A value is missing or not finite.
        """
        if not 0 <= start < stop <= len(self.times):
            raise InputError(f"states {start} to {stop} are not within 0 to {len(self.times)}")
        return self._read(start, stop) if self._kept is None else self._kept[start:stop]

    def _read(self, start: int, stop: int) -> Tensor:
        parts = []
        for name in self._variables:
            array = (
                self._data[name]
                .isel(time=slice(start, stop))
                .transpose("time", ..., "latitude", "longitude")
            )
            parts.append(
                array.values.astype(np.float32).reshape(
                    stop - start, -1, len(self.latitude) * len(self.longitude)
                )
            )
        states = torch.from_numpy(np.concatenate(parts, axis=1)).transpose(1, 2).contiguous()
        if not torch.isfinite(states).all():
            time, _, feature = (~torch.isfinite(states)).nonzero()[0].tolist()
            raise InputError(
                f"{self.path}: {self.features[feature].name} has a missing or infinite value"
                f" at {np.datetime_as_string(self.times[start + time], unit='m')}"
            )
        return states
