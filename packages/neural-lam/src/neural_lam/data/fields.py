"""Gridded fields from zarr or NetCDF with the names of WeatherBench2.

A store has dimensions ``time``, ``latitude``, ``longitude`` and optionally ``level``; on a
projected grid ``y`` and ``x`` instead, with latitudes and longitudes as coordinates over both.
Each variable and level is one feature of the state, so that states are ``(time, G, V)`` with
the grid nodes row by row, in the order of the file. A large store is read a chunk at a time: the
chunk in use is kept, the one after it is read ahead by a thread.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.shell.errors import InputError

__all__ = [
    "ChunkReader",
    "Datastore",
    "Feature",
    "FieldStore",
    "check_finite",
    "open_store",
    "uniform_step",
]

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
    """States at equal steps of time on a grid of rows and columns.

    Arguments:
        path: For messages.
        features: Of the state.
        dims: Names of the rows' and the columns' dimension.
        rows: Coordinate of each row.
        columns: Coordinate of each column.
        latitude: Of each grid node in degrees, ``(G,)``.
        longitude: Likewise.
        times: Of the states.
    """

    path: str
    features: list[Feature]
    dims: tuple[str, str]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    times: NDArray[np.datetime64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        ...

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        ...

    @property
    def positions(self) -> NDArray[np.float64]:
        """Where the nodes are in a plane, ``(G, 2)``, for the mesh."""
        ...

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


def uniform_step(path: str, times: NDArray[np.datetime64]) -> None:
    """Refuse times that don't rise in equal steps."""
    if len(times) < 2:
        raise InputError(f"{path}: at least two times are needed, got {len(times)}")
    steps = np.diff(times)
    if (steps != steps[0]).any() or steps[0] <= np.timedelta64(0, "ns"):
        where = int(np.argmax(steps != steps[0]))
        raise InputError(
            f"{path}: times must rise in equal steps of {steps[0]}, but {times[where + 1]}"
            f" follows {times[where]}"
        )


def _features(
    path: str, data: xr.Dataset, names: Sequence[str], dims: tuple[str, str]
) -> list[Feature]:
    features = []
    for name in names:
        if name not in data:
            raise InputError(
                f"{path}: no variable {name!r}; it has {', '.join(map(str, data.data_vars))}"
            )
        array = data[name]
        expected = {"time", *dims}
        if {str(dim) for dim in array.dims} - {"level"} != expected:
            raise InputError(
                f"{path}: {name} must have the dimensions {', '.join(sorted(expected))}"
                f" and at most level, got {', '.join(map(str, array.dims))}"
            )
        levels = [int(level) for level in data["level"].values] if "level" in array.dims else [None]
        units = _units(path, name, array)
        title = str(array.attrs.get("long_name", name))
        features += [Feature(name, level, units, title) for level in levels]
    return features


# What a variable of a name is measured in, where a wrong unit would pass unseen.
_DIMENSIONS = {
    "temperature": {"K", "kelvin", "degK", "degC", "Celsius", "C", "degree_Celsius", "celsius"},
    "pressure": {"Pa", "hPa", "mbar", "millibar", "millibars", "kPa"},
    "wind": {"m/s", "m s-1", "m s**-1", "m.s-1", "knot", "knots", "kt"},
}
# Kelvin fields lie here; Celsius fields don't.
_KELVIN = (130.0, 400.0)


def _units(path: str, name: str, array: xr.DataArray) -> str:
    units = str(array.attrs.get("units", "1"))
    kind = next((k for k in _DIMENSIONS if name.endswith(k)), None)
    if kind is not None and "units" in array.attrs and units not in _DIMENSIONS[kind]:
        known = ", ".join(sorted(_DIMENSIONS[kind]))
        raise InputError(f"{path}: {name} has the units {units!r}; a {kind} has one of {known}")
    if kind == "temperature" and units in {"K", "kelvin", "degK"}:
        first = array.isel(time=0).values
        if np.isfinite(first).all() and not _KELVIN[0] < float(first.mean()) < _KELVIN[1]:
            raise InputError(
                f"{path}: {name} says units {units!r}, but its mean at the first time is"
                f" {float(first.mean()):.4g}"
            )
    return units


class FieldStore:
    """States read from a zarr or NetCDF store.

    Arguments:
        path: Of the store.
        variables: Which to read, in this order; each level is a feature.
        memory_limit: Bytes up to which the states are kept in memory.

    Raises:
        ValueError: A variable or dimension is missing, or the times have gaps.
    """

    def __init__(
        self, path: str, variables: Sequence[str], memory_limit: int = _MEMORY_LIMIT
    ) -> None:
        self.path = path
        self._data = open_store(path)
        self.dims = _grid_dims(path, self._data)
        if not variables:
            raise InputError(f"{path}: name at least one variable")
        self.features = _features(path, self._data, variables, self.dims)
        self.rows, self.columns = (self._data[name].values.astype(np.float64) for name in self.dims)
        self.latitude, self.longitude = _coordinates(self._data, self.dims)
        self.times = self._data["time"].values.astype("datetime64[ns]")
        uniform_step(path, self.times)
        self._variables = list(variables)
        size = 4 * len(self.times) * len(self.features) * len(self.latitude)
        self._kept = self._read(0, len(self.times)) if size <= memory_limit else None
        self._chunks = ChunkReader(
            self._read, len(self.times), _chunk_length(self._data[variables[0]])
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.rows), len(self.columns)

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        step: np.timedelta64 = self.times[1] - self.times[0]
        return step

    @property
    def positions(self) -> NDArray[np.float64]:
        """Degrees with longitudes shrunk at the middle latitude, or the plane's own, ``(G, 2)``."""
        if self.dims == ("latitude", "longitude"):
            shrink = np.cos(np.deg2rad(self.latitude.mean()))
            return np.stack((self.longitude * shrink, self.latitude), axis=1)
        y, x = np.meshgrid(self.rows, self.columns, indexing="ij")
        return np.stack((x.ravel(), y.ravel()), axis=1)

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``.

        Raises:
            ValueError: A value is missing or not finite.
        """
        if not 0 <= start < stop <= len(self.times):
            raise InputError(f"states {start} to {stop} are not within 0 to {len(self.times)}")
        return self._chunks.read(start, stop) if self._kept is None else self._kept[start:stop]

    def _read(self, start: int, stop: int) -> Tensor:
        parts = []
        for name in self._variables:
            array = (
                self._data[name].isel(time=slice(start, stop)).transpose("time", ..., *self.dims)
            )
            parts.append(
                _values(self.path, name, array)
                .astype(np.float32)
                .reshape(stop - start, -1, len(self.latitude))
            )
        states = torch.from_numpy(np.concatenate(parts, axis=1)).transpose(1, 2).contiguous()
        check_finite(self.path, states, self.features, self.times[start:stop])
        return states


def check_finite(
    path: str, states: Tensor, features: list[Feature], times: NDArray[np.datetime64]
) -> None:
    """Refuse states ``(T, G, V)`` with a missing value, saying which and when."""
    if not torch.isfinite(states).all():
        time, _, feature = (~torch.isfinite(states)).nonzero()[0].tolist()
        raise InputError(
            f"{path}: {features[feature].name} has a missing or infinite value"
            f" at {np.datetime_as_string(times[time], unit='m')}"
        )


def _grid_dims(path: str, data: xr.Dataset) -> tuple[str, str]:
    for dims in (("latitude", "longitude"), ("y", "x")):
        if all(name in data.dims and name in data.coords for name in ("time", *dims)):
            return dims
    wanted = "time, latitude, longitude, or time, y, x"
    raise InputError(
        f"{path}: expected the coordinates {wanted}; it has {', '.join(map(str, data.coords))}"
    )


def _coordinates(
    data: xr.Dataset, dims: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude of every node, ``(G,)`` each."""
    for names in (("latitude", "longitude"), ("lat", "lon")):
        if all(name in data.coords for name in names):
            found = xr.broadcast(*(data[name] for name in names), data[dims[0]], data[dims[1]])
            latitude, longitude = (part.transpose(*dims).values for part in found[:2])
            return latitude.astype(np.float64).ravel(), longitude.astype(np.float64).ravel()
    raise InputError(f"a projected grid needs the coordinates latitude and longitude over {dims}")


def _values(path: str, name: str, array: xr.DataArray) -> NDArray[np.floating]:
    try:
        return np.asarray(array.values)
    except Exception as error:
        # A chunk that is cut off or missing shows only when it is read.
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: {name} can't be read ({first})") from None


def _chunk_length(array: xr.DataArray) -> int:
    """Times that are stored together, at most a few dozen megabytes of them."""
    chunks = array.encoding.get("chunks") or array.encoding.get("chunksizes")
    stored = chunks[array.dims.index("time")] if chunks else 64
    each = max(1, 4 * int(np.prod([s for d, s in array.sizes.items() if d != "time"])))
    return int(max(1, min(stored * -(-32 // stored), 64 * 1024**2 // each)))


class ChunkReader:
    """Reads consecutive items chunk by chunk, the next chunk ahead of its use.

    The memory it takes doesn't depend on how long the data are.

    Arguments:
        read: Reads items from a first to one past a last.
        count: Items.
        length: Items in a chunk.
        num_kept: Chunks that stay in memory.
    """

    def __init__(
        self, read: Callable[[int, int], Tensor], count: int, length: int, num_kept: int = 3
    ) -> None:
        self._read, self._count, self._length, self._num_kept = read, count, length, num_kept
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._chunks: OrderedDict[int, Future[Tensor]] = OrderedDict()

    def read(self, start: int, stop: int) -> Tensor:
        """Items ``start`` to ``stop``."""
        first, last = start // self._length, (stop - 1) // self._length
        parts = [self._chunk(number).result() for number in range(first, last + 1)]
        if (last + 1) * self._length < self._count:
            self._chunk(last + 1)
        while len(self._chunks) > max(self._num_kept, last - first + 2):
            self._chunks.popitem(last=False)
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined[start - first * self._length : stop - first * self._length]

    def _chunk(self, number: int) -> Future[Tensor]:
        if number not in self._chunks:
            first = number * self._length
            last = min(first + self._length, self._count)
            self._chunks[number] = self._pool.submit(self._read, first, last)
        self._chunks.move_to_end(number)
        return self._chunks[number]

    def __getstate__(self) -> dict[str, Any]:
        # Threads and what they hold stay behind when a process is spawned.
        return {"_read": self._read, "_count": self._count, "_length": self._length,
                "_num_kept": self._num_kept}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state.values())  # type: ignore[misc]
