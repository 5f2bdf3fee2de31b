"""States read from files of fields, by the names of variables, levels and coordinates.

Each variable and level is one feature of the state, so that states are ``(time, G, V)`` with
the grid nodes row by row. Their order doesn't depend on the files': features are sorted by name
and level, rows rise, columns go from west to east. A large store is read a chunk at a time.

A value may be missing for good or for a while. A variable that exists on a part of the grid (sea
surface temperature, soil) has a *mask*: the points where it is there at most times. A time at which
a value is missing within the mask is *incomplete* and counts as missing altogether.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.fields.calendar import Times
from neural_lam.fields.chunks import ChunkReader
from neural_lam.fields.conventions import File, read_file
from neural_lam.fields.datastore import Availability, hours, in_order, usual_step
from neural_lam.fields.features import Feature as Feature
from neural_lam.fields.features import features_of, level_order
from neural_lam.fields.layouts import Layout
from neural_lam.fields.opening import expand, open_dataset
from neural_lam.shell.errors import InputError

__all__ = ["FieldStore"]

# Above it a store is read piece by piece instead of being kept in memory.
_MEMORY_LIMIT = 512 * 1024**2


class _Piece(NamedTuple):
    """Where a variable's states are: which file, and which of its times, ``(T,)`` each."""

    file: NDArray[np.int64]
    place: NDArray[np.int64]


def _same_layout(first: File, other: File) -> None:
    a, b = first.layout, other.layout
    same = a.dims == b.dims and len(a.latitude) == len(b.latitude)
    pairs = ((a.latitude, b.latitude), (a.longitude, b.longitude))
    if not same or not all(np.allclose(x, y, atol=1e-4, equal_nan=True) for x, y in pairs):
        raise InputError(f"{other.path}: its grid is not that of {first.path}")
    if first.calendar != other.calendar:
        raise InputError(
            f"{other.path}: its calendar {other.calendar.name} is not that of {first.path},"
            f" {first.calendar.name}"
        )


def _timeline(files: list[File], name: str) -> tuple[Times, _Piece]:
    """Times of a variable over all files, and where they are."""
    holding = [number for number, file in enumerate(files) if name in file.vertical]
    times = np.concatenate([files[n].times for n in holding])
    which = np.concatenate([np.full(len(files[n].times), n) for n in holding])
    place = np.concatenate([np.arange(len(files[n].times)) for n in holding])
    order = np.argsort(times, kind="stable")
    joined = times[order]
    twice = np.flatnonzero(joined[1:] == joined[:-1])
    if len(twice):
        when = files[0].calendar.label(joined[twice[0]])
        pair = sorted({files[which[order[twice[0] + k]]].path for k in (0, 1)})
        raise InputError(f"{' and '.join(pair)}: {name} at {when} comes twice")
    return joined, _Piece(which[order], place[order])


class FieldStore:
    """States read from files of fields.

    Arguments:
        path: A zarr store, NetCDF or GRIB file, a folder or a pattern of them, or several.
        variables: Which to read; each level is a feature. Their order doesn't matter.
        rename: New names of variables, coordinates and dimensions, by the file's.
        select: Values at which further dimensions (members, levels) are cut.
        memory_limit: Bytes up to which the states are kept in memory.

    Raises:
        InputError: A variable or coordinate is missing, twice there, or not in order.
    """

    def __init__(
        self,
        path: str | Sequence[str],
        variables: Sequence[str],
        *,
        rename: Mapping[str, str] | None = None,
        select: Mapping[str, Any] | None = None,
        memory_limit: int = _MEMORY_LIMIT,
    ) -> None:
        self.path = path if isinstance(path, str) else ", ".join(path)
        if not variables:
            raise InputError(f"{self.path}: name at least one variable")
        self._files = self._open(expand(path), sorted(set(variables)), rename, select)
        first = self._files[0]
        layout: Layout = first.layout
        self.dims, self.rows, self.columns = layout.dims, layout.rows, layout.columns
        self._labels, self.wraps = layout.labels, layout.wraps
        self.latitude, self.longitude = layout.latitude, layout.longitude
        self.calendar = first.calendar
        self._variables = sorted(set(variables))
        self.features = self._check_features()
        self.times, self._pieces = self._join()
        self._step = usual_step(self.path, self.times, self.calendar)
        size = 4 * len(self.times) * len(self.features) * len(self.latitude)
        self._chunks = ChunkReader(self._read, len(self.times), self._chunk_length())
        self._kept = self._read(0, len(self.times)) if size <= memory_limit else None
        self._availability: Availability | None = None

    def _open(
        self,
        paths: list[str],
        variables: list[str],
        rename: Mapping[str, str] | None,
        select: Mapping[str, Any] | None,
    ) -> list[File]:
        files, left, seen = [], set(variables), set[str]()
        for path in paths:
            data = open_dataset(path)
            present = {(rename or {}).get(str(name), str(name)) for name in data.data_vars}
            seen |= present
            wanted = [name for name in variables if name in present]
            left -= present
            if wanted:
                files.append(read_file(path, data, wanted, rename=rename, select=select))
        if left:
            raise InputError(
                f"{self.path}: no variable {sorted(left)[0]!r}; it has"
                f" {', '.join(sorted(seen)) or 'none'}"
            )
        for file in files[1:]:
            _same_layout(files[0], file)
        return files

    def _check_features(self) -> list[Feature]:
        found: dict[str, list[Feature]] = {}
        for file in self._files:
            for name in file.vertical:
                features = features_of(file, [name])
                if found.setdefault(name, features) != features:
                    raise InputError(
                        f"{file.path}: {name} has other levels or units than in other files"
                    )
        return [feature for name in self._variables for feature in found[name]]

    def _join(self) -> tuple[Times, dict[str, _Piece]]:
        lines = {name: _timeline(self._files, name) for name in self._variables}
        common = lines[self._variables[0]][0]
        for times, _ in lines.values():
            common = np.intersect1d(common, times)
        if not len(common):
            raise InputError(f"{self.path}: its variables have no time in common")
        everywhere = max(len(times) for times, _ in lines.values())
        self.dropped_times = everywhere - len(common)
        pieces = {}
        for name, (times, piece) in lines.items():
            at = np.searchsorted(times, common)
            pieces[name] = _Piece(piece.file[at], piece.place[at])
        return common, pieces

    @property
    def labels(self) -> tuple[NDArray[np.float64], ...]:
        """Coordinates along each of the dimensions, as the file has them."""
        return self._labels

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid; of points, how many and 1."""
        return len(self.rows), len(self.columns)

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        return self._step

    @property
    def positions(self) -> NDArray[np.float64]:
        """Degrees with longitudes shrunk at the middle latitude, or the plane's own, ``(G, 2)``."""
        if self.dims[-1] in {"longitude", "cell"}:
            shrink = np.cos(np.deg2rad(self.latitude.mean()))
            return np.stack((self.longitude * shrink, self.latitude), axis=1)
        y, x = np.meshgrid(self.rows, self.columns, indexing="ij")
        return np.stack((x.ravel(), y.ravel()), axis=1)

    @property
    def availability(self) -> Availability:
        """Where and when there are values, found in one pass over the store."""
        if self._availability is None:
            self._availability = self._look()
        return self._availability

    def _look(self) -> Availability:
        count, batch = len(self.times), 64
        present = torch.zeros(len(self.latitude), len(self.features), dtype=torch.long)
        absent = 0
        for start in range(0, count, batch):
            finite = torch.isfinite(self.states(start, min(start + batch, count)))
            there = finite.any(1).any(1)
            absent += int((~there).sum())
            present += finite[there].sum(0)
        mask = present > (count - absent) / 2
        for feature, inside in zip(self.features, mask.any(0).tolist(), strict=True):
            if not inside:
                raise InputError(f"{self.path}: {feature.name} is missing everywhere")
        complete = np.zeros(count, dtype=bool)
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            finite = torch.isfinite(self.states(start, stop))
            complete[start:stop] = (finite | ~mask).flatten(1).all(1).numpy()
        if complete.sum() < 2:
            raise InputError(
                f"{self.path}: {count - complete.sum()} of {count} times have missing values at"
                " points where there are values at other times"
            )
        return Availability(mask, complete)

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``; missing values are NaN."""
        if not 0 <= start < stop <= len(self.times):
            raise InputError(f"states {start} to {stop} are not within 0 to {len(self.times)}")
        return self._chunks.read(start, stop) if self._kept is None else self._kept[start:stop]

    def _chunk_length(self) -> int:
        """Times that are stored together, at most a few dozen megabytes of them."""
        file = self._files[0]
        array = file.data[next(iter(file.vertical))]
        chunks = array.encoding.get("chunks") or array.encoding.get("chunksizes")
        stored = 64
        if chunks and len(chunks) == array.ndim:
            stored = int(chunks[array.dims.index(file.time_dim)])
        each = max(1, 4 * len(self.features) * len(self.latitude))
        return int(max(1, min(stored * -(-32 // stored), 64 * 1024**2 // each)))

    def _read(self, start: int, stop: int) -> Tensor:
        parts = [self._read_variable(name, start, stop) for name in self._variables]
        states = torch.from_numpy(np.concatenate(parts, axis=1)).transpose(1, 2)
        # An infinite value is no value.
        return torch.where(torch.isfinite(states), states, torch.nan).contiguous()

    def _read_variable(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """``(time, levels, G)``, from as many files as hold these times."""
        piece = self._pieces[name]
        which, place = piece.file[start:stop], piece.place[start:stop]
        breaks = np.flatnonzero((np.diff(which) != 0) | (np.diff(place) != 1)) + 1
        parts = []
        for first, last in pairwise((0, *breaks.tolist(), stop - start)):
            file = self._files[which[first]]
            times = slice(int(place[first]), int(place[last - 1]) + 1)
            parts.append(_values(file, name, times))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __repr__(self) -> str:
        names = ", ".join(feature.name for feature in self.features[:4])
        more = ", ..." if len(self.features) > 4 else ""
        first, last = (self.calendar.label(t) for t in (self.times[0], self.times[-1]))
        grid = " x ".join(map(str, self.shape[: len(self.dims)]))
        return (
            f"FieldStore({self.path}: {names}{more}; {grid} grid points, {len(self.times)} times"
            f" of {hours(self.step)} from {first} to {last})"
        )


def _values(file: File, name: str, times: slice) -> NDArray[np.float32]:
    """A variable of a file in canonical order, ``(time, levels, G)``."""
    layout, vertical = file.layout, file.vertical[name]
    array = file.data[name].isel({file.time_dim: times})
    dims = [file.time_dim, *([vertical] if vertical else []), *layout.sources]
    try:
        values = np.asarray(array.transpose(*dims).values)
    except Exception as error:
        # A chunk that is cut off or missing shows only when it is read.
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file.path}: {name} can't be read ({first})") from None
    if values.dtype.kind not in "iufb":
        raise InputError(f"{file.path}: {name} must be numbers, got {values.dtype}")
    if vertical:
        values = values[:, level_order(file, name)]
    else:
        values = values[:, None]
    values = in_order(values, layout.order)
    single: NDArray[np.float32] = values.astype(np.float32).reshape(*values.shape[:2], -1)
    return single
