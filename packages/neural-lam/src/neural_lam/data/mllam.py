"""Zarr stores of mllam-data-prep, read by the yaml they were made from.

The store lies beside the yaml, ``danra.datastore.yaml`` beside ``danra.datastore.zarr``. It holds
``state`` and maybe ``forcing`` over ``(time, grid_index, feature)`` and ``static`` over
``(grid_index, feature)`` in any order of dimensions, the statistics of the training split as
``state__train__mean`` and so on, and the splits of the time.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
import yaml
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.data.statistics import Statistics
from neural_lam.fields.calendar import read_times
from neural_lam.fields.chunks import ChunkReader
from neural_lam.fields.datastore import Availability, check_finite, complete_store, usual_step
from neural_lam.fields.features import Feature
from neural_lam.shell.errors import InputError

__all__ = ["ForcingMoments", "PreparedStore", "inverse_projection", "read_yaml"]


class ForcingMoments(NamedTuple):
    """What standardises forcing features, ``(F,)`` each."""

    mean: Tensor
    std: Tensor


def read_yaml(path: str) -> dict[str, Any]:
    """A mapping from a yaml file.

    Raises:
        InputError: It is missing, or no mapping.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping, got {type(content).__name__}")
    return content


def inverse_projection(
    name: str, options: dict[str, Any], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Latitude and longitude of projected points, if the projection is known here.

    Plate Carree (degrees) and Lambert's conformal conic on a sphere are; on an ellipsoid the
    latter is good to about 0.2 degrees, which forcing made from the place doesn't feel.

    References:
        Snyder (1987), Map projections: a working manual, chapter 15.
    """
    inverse = _INVERSE.get(name)
    return None if inverse is None else inverse(options, x, y)


def _plate_carree(
    options: dict[str, Any], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return y, x + float(options.get("central_longitude", 0.0))


def _lambert_conformal(
    options: dict[str, Any], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    radius = float(options.get("globe", {}).get("semimajor_axis", 6_371_229.0))
    parallels = options.get("standard_parallels", (33.0, 45.0))
    first, second = (np.deg2rad(float(v)) for v in (parallels[0], parallels[-1]))
    middle = np.deg2rad(float(options.get("central_latitude", 39.0)))

    def tangent(latitude: float) -> float:
        return float(np.tan(np.pi / 4 + latitude / 2))

    n = np.sin(first)
    if abs(first - second) > 1e-10:
        n = np.log(np.cos(first) / np.cos(second)) / np.log(tangent(second) / tangent(first))
    scale = radius * np.cos(first) * tangent(first) ** n / n
    height = scale / tangent(middle) ** n - (y - float(options.get("false_northing", 0.0)))
    east = x - float(options.get("false_easting", 0.0))
    distance = np.sign(n) * np.hypot(east, height)
    angle = np.arctan2(np.sign(n) * east, np.sign(n) * height)
    latitude = 2 * np.arctan((scale / distance) ** (1 / n)) - np.pi / 2
    return np.rad2deg(latitude), np.rad2deg(angle / n) + float(
        options.get("central_longitude", -96)
    )


_INVERSE = {"PlateCarree": _plate_carree, "LambertConformal": _lambert_conformal}


class PreparedStore:
    """States, forcing and statistics of a prepared store.

    Arguments:
        path: Of the yaml.
        boundary_width: Grid points at the edge that are boundary.
        memory_limit: Bytes up to which states and forcing are kept in memory.

    Raises:
        InputError: The yaml or the store is broken.

    References:
        Adamov et al. (2025), Building machine learning limited area models: kilometer-scale weather
        forecasting in realistic settings, arXiv:2504.09340.
    """

    def __init__(
        self, path: str, boundary_width: int = 30, memory_limit: int = 2 * 1024**3
    ) -> None:
        self.path, self.boundary_width = path, boundary_width
        config = read_yaml(path)
        self._data = self._open(str(Path(path).with_suffix(".zarr")))
        self.times, self.calendar = read_times(path, self._data["time"])
        self._step = usual_step(path, self.times, self.calendar)
        self.features = self._features("state")
        self.dims: tuple[str, ...] = self._stacked(config)
        self._place(config)
        self.run_length: int | None = None
        self.wraps = False
        size = (
            4 * len(self.times) * len(self.latitude) * (len(self.features) + self._width("forcing"))
        )
        length = len(self.times) if size <= memory_limit else 32
        self._chunks = ChunkReader(self._read_states, len(self.times), length)
        self._forcing_chunks = ChunkReader(self._read_forcing, len(self.times), length)

    @staticmethod
    def _open(path: str) -> xr.Dataset:
        if not Path(path).exists():
            raise InputError(f"{path}: no such store; mllam_data_prep makes it from the yaml")
        try:
            data: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=None)
            return data
        except Exception as error:
            raise InputError(f"{path}: can't be read ({str(error).splitlines()[0]})") from None

    def _width(self, category: str) -> int:
        return self._data.sizes.get(f"{category}_feature", 0) if category in self._data else 0

    def _features(self, category: str) -> list[Feature]:
        if category not in self._data:
            raise InputError(f"{self.path}: the store has no {category!r}")
        names = self._data[f"{category}_feature"].values
        about = [
            self._data[f"{category}_feature_{kind}"].values
            if f"{category}_feature_{kind}" in self._data
            else np.full(len(names), default)
            for kind, default in (("units", "1"), ("long_name", ""))
        ]
        return [
            Feature(str(name), None, str(units), str(title) or str(name))
            for name, units, title in zip(names, *about, strict=True)
        ]

    def _stacked(self, config: dict[str, Any]) -> tuple[str, str]:
        try:
            found = {
                tuple(entry["dim_mapping"]["grid_index"]["dims"])
                for entry in config["inputs"].values()
            }
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"{self.path}: inputs.*.dim_mapping.grid_index.dims: expected a list of two names"
            ) from None
        if len(found) != 1 or len(next(iter(found))) != 2:
            raise InputError(
                f"{self.path}: all inputs must stack the same two dimensions, got {found}"
            )
        first, second = next(iter(found))
        return str(first), str(second)

    def _across(self) -> tuple[str, str]:
        """Names of the coordinates to the east and to the north."""
        for names in (("x", "y"), ("longitude", "latitude"), ("lon", "lat")):
            if set(names) == set(self.dims):
                return names
        return "x", "y"

    def _place(self, config: dict[str, Any]) -> None:
        slow, fast = (self._data[name].values.astype(np.float64) for name in self.dims)
        count = int((slow == slow[0]).sum())
        self.rows, self.columns = slow[::count].copy(), fast[:count].copy()
        expected = np.repeat(self.rows, count), np.tile(self.columns, len(self.rows))
        if not all(map(np.array_equal, expected, (slow, fast))):
            raise InputError(f"{self.path}: grid_index doesn't stack {self.dims} row by row")
        x, y = (self._data[name].values.astype(np.float64) for name in self._across())
        self.positions = np.stack((x, y), axis=1)
        for names in (("latitude", "longitude"), ("lat", "lon")):
            if all(name in self._data.coords for name in names):
                self.latitude, self.longitude = (
                    self._data[name].values.astype(np.float64).ravel() for name in names
                )
                return
        entry = (config.get("extra") or {}).get("projection") or {}
        place = inverse_projection(
            str(entry.get("class_name")), dict(entry.get("kwargs") or {}), x, y
        )
        # Nothing that is read from the store needs the place; forcing made here does.
        missing = np.full(len(x), np.nan)
        self.latitude, self.longitude = place if place is not None else (missing, missing)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.rows), len(self.columns)

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        return self._step

    def period(self, split: str) -> tuple[int, int]:
        """First state and one past the last of a split."""
        names = [str(name) for name in self._data["split_name"].values]
        if split not in names:
            raise InputError(f"{self.path}: no split {split!r}; it has {', '.join(names)}")
        first, last = (
            np.datetime64(str(t), "ns") for t in self._data["splits"].values[names.index(split)]
        )
        inside = np.flatnonzero((self.times >= first) & (self.times <= last))
        return int(inside[0]), int(inside[-1]) + 1

    @property
    def interior(self) -> Tensor:
        """1 where forecasts are made, ``(G,)``."""
        inside = torch.zeros(self.shape)
        width = self.boundary_width
        if width < 1 or 2 * width >= min(self.shape):
            raise InputError(
                f"boundary_width must be from 1 to less than half of {self.shape}, got {width}"
            )
        inside[width:-width, width:-width] = 1
        return inside.flatten()

    def _part(self, category: str, start: int, stop: int) -> Tensor:
        array = self._data[category].isel(time=slice(start, stop))
        values = array.transpose("time", "grid_index", f"{category}_feature").values
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    def _read_states(self, start: int, stop: int) -> Tensor:
        states = self._part("state", start, stop)
        check_finite(self.path, states, self.features, self.times[start:stop])
        return states

    def _read_forcing(self, start: int, stop: int) -> Tensor:
        if "forcing" not in self._data:
            return torch.zeros(stop - start, len(self.latitude), 0)
        return self._part("forcing", start, stop)

    @property
    def availability(self) -> Availability:
        """Everything: a missing value is refused where it is read."""
        return complete_store(len(self.times), len(self.latitude), len(self.features))

    @property
    def labels(self) -> tuple[NDArray[np.float64], ...]:
        """Coordinates of rows and columns."""
        return self.rows, self.columns

    def __repr__(self) -> str:
        names = ", ".join(feature.name for feature in self.features)
        return f"PreparedStore({self.path}: {names}; {len(self.times)} times)"

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``."""
        return self._chunks.read(start, stop)

    def forcing(self, start: int, stop: int) -> Tensor:
        """Consecutive forcing, ``(stop - start, G, F)``."""
        return self._forcing_chunks.read(start, stop)

    def _moment(self, category: str, kind: str) -> Tensor:
        name = f"{category}__train__{kind}"
        if name not in self._data:
            raise InputError(f"{self.path}: the store has no {name!r}; compute_statistics makes it")
        return torch.from_numpy(self._data[name].values.astype(np.float32))

    @property
    def statistics(self) -> Statistics:
        """Of the training split, from the store."""
        return Statistics(
            *(self._moment("state", k) for k in ("mean", "std", "diff_mean", "diff_std"))
        )

    @property
    def forcing_moments(self) -> ForcingMoments:
        """Of the training split, from the store."""
        if "forcing" not in self._data:
            return ForcingMoments(torch.zeros(0), torch.ones(0))
        return ForcingMoments(self._moment("forcing", "mean"), self._moment("forcing", "std"))

    @property
    def static(self) -> Tensor:
        """Standardised static fields, ``(G, S)``."""
        if "static" not in self._data:
            return torch.zeros(len(self.latitude), 0)
        values = self._data["static"].transpose("grid_index", "static_feature").values
        fields = torch.from_numpy(values.astype(np.float32))
        return (fields - self._moment("static", "mean")) / self._moment("static", "std")
