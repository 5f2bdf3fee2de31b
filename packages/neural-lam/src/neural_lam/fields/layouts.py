"""Grids of files in canonical order: rows rise, columns go from west to east without a jump."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neural_lam.fields.roles import coordinate, dimension_role
from neural_lam.fields.units import convert, known
from neural_lam.shell.errors import InputError

__all__ = ["Columns", "Layout", "make_layout", "unwrapped"]

Array = NDArray[np.float64]


class Columns(NamedTuple):
    """Longitudes in order from west to east.

    Arguments:
        order: Their places in the file, ``(X,)``.
        values: Rising without a jump, in degrees, ``(X,)``.
        wraps: Whether the last is followed by the first.
    """

    order: NDArray[np.int64]
    values: Array
    wraps: bool


class Layout(NamedTuple):
    """The grid of a file in canonical order.

    Arguments:
        dims: Canonical names of rows and columns, or of the points.
        sources: The file's names of them.
        order: Places of the rows (or points) and columns in the file.
        rows: Coordinate of each row, rising; of points, their numbers.
        columns: Coordinate of each column, rising; of points a single zero.
        labels: The file's own coordinates of rows and columns, in canonical order.
        latitude: Of each node in degrees, ``(G,)``; NaN where the file doesn't tell.
        longitude: Likewise.
        wraps: Whether the last column is followed by the first.
    """

    dims: tuple[str, ...]
    sources: tuple[str, ...]
    order: tuple[NDArray[np.int64], ...]
    rows: Array
    columns: Array
    labels: tuple[Array, ...]
    latitude: Array
    longitude: Array
    wraps: bool

    def turned(self) -> "Layout":
        """Columns first: the same grid for those that count its nodes that way."""
        shape = len(self.rows), len(self.columns)
        return Layout(
            self.dims[::-1],
            self.sources[::-1],
            self.order[::-1],
            self.columns,
            self.rows,
            self.labels[::-1],
            self.latitude.reshape(shape).T.ravel(),
            self.longitude.reshape(shape).T.ravel(),
            self.wraps,
        )


def unwrapped(path: str, longitude: Array) -> Columns:
    """Columns of any convention (0 to 360, -180 to 180, across Greenwich) in order.

    They begin after the widest gap on the circle; on a whole circle at or after -180.

    Raises:
        InputError: A meridian comes twice.
    """
    on_circle = np.mod(longitude + 180.0, 360.0)
    on_circle[on_circle > 360.0 - 1e-6] = 0.0
    order = np.argsort(on_circle, kind="stable")
    east = on_circle[order]
    steps = np.diff(east, append=east[0] + 360.0)
    if (steps < 1e-6).any():
        twice = longitude[order[int(np.argmin(steps))]]
        raise InputError(f"{path}: the meridian {twice:g} comes twice; remove one of its columns")
    widest, usual = int(np.argmax(steps)), float(np.median(steps[:-1])) if len(east) > 1 else 0.0
    wraps = len(east) > 2 and bool(steps[widest] < 1.5 * usual)
    first = 0 if wraps else (widest + 1) % len(east)
    turned = np.roll(order, -first)
    values = np.mod(np.roll(east, -first) - east[first], 360.0) + east[first] - 180.0
    # The middle of a limited area lies within -180 to 180.
    values -= 360.0 * np.floor((values.mean() + 180.0) / 360.0)
    return Columns(turned, values, wraps)


def _numbers(path: str, data: xr.Dataset, name: str) -> Array:
    try:
        values = data[name].values.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: {name} must be numbers, got {data[name].dtype}") from None
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {name} has missing values")
    return values


def _degrees(path: str, data: xr.Dataset, name: str) -> Array:
    """Latitudes or longitudes in degrees, from radians too."""
    values, units = _numbers(path, data, name), str(data[name].attrs.get("units", ""))
    if units.lower().startswith("radian") or units.lower() == "rad":
        return np.rad2deg(values)
    return values


def _rising(path: str, name: str, values: Array) -> NDArray[np.int64]:
    """Order in which values rise.

    Raises:
        InputError: They neither rise nor fall throughout.
    """
    steps = np.diff(values)
    if not ((steps > 0).all() or (steps < 0).all()):
        where = int(np.argmax(np.sign(steps) != np.sign(steps[0]))) if len(steps) else 0
        raise InputError(
            f"{path}: {name} must rise or fall throughout, but {values[where + 1]:g} follows"
            f" {values[where]:g}"
        )
    order: NDArray[np.int64] = np.arange(len(values))
    return order if not len(steps) or steps[0] > 0 else order[::-1].copy()


def _latitude_rows(path: str, name: str, values: Array) -> NDArray[np.int64]:
    if np.abs(values).max() > 90 + 1e-6:
        raise InputError(f"{path}: {name} must lie within -90 to 90, got {values.max():g}")
    return _rising(path, name, values)


def _regular(path: str, data: xr.Dataset, lat: str, lon: str) -> Layout:
    """Rows of latitude, columns of longitude."""
    latitude, longitude = _degrees(path, data, lat), _degrees(path, data, lon)
    sources = str(data[lat].dims[0]), str(data[lon].dims[0])
    rows, columns = _latitude_rows(path, lat, latitude), unwrapped(path, longitude)
    phi, lam = np.meshgrid(latitude[rows], columns.values, indexing="ij")
    return Layout(
        ("latitude", "longitude"),
        sources,
        (rows, columns.order),
        latitude[rows],
        columns.values,
        (latitude[rows], longitude[columns.order]),
        phi.ravel(),
        lam.ravel(),
        columns.wraps,
    )


def _points(path: str, data: xr.Dataset, lat: str, lon: str) -> Layout:
    latitude, longitude = _degrees(path, data, lat), _degrees(path, data, lon)
    placed = unwrapped_points(longitude)
    dim, every = str(data[lat].dims[0]), np.arange(len(latitude))
    _latitude_rows(path, lat, np.sort(np.unique(latitude)))
    return Layout(
        ("cell",),
        (dim,),
        (every,),
        every.astype(np.float64),
        np.zeros(1),
        (every.astype(np.float64),),
        latitude,
        placed,
        False,
    )


def unwrapped_points(longitude: Array) -> Array:
    """Longitudes of nodes in any convention, near to each other where the nodes are."""
    on_circle = np.mod(longitude + 180.0, 360.0)
    east = np.unique(on_circle)
    steps = np.diff(east, append=east[0] + 360.0)
    first = east[(int(np.argmax(steps)) + 1) % len(east)]
    values = np.mod(on_circle - first, 360.0) + first - 180.0
    centred: Array = values - 360.0 * np.floor(((values.min() + values.max()) / 2 + 180.0) / 360.0)
    return centred


def _axis_values(path: str, data: xr.Dataset, dim: str, size: int) -> Array:
    """Coordinates along a dimension of a plane, or its numbers."""
    if dim in data.variables and data[dim].ndim == 1 and data[dim].dtype.kind in "iuf":
        values = _numbers(path, data, dim)
        units = str(data[dim].attrs.get("units", ""))
        if known(units) and units and units.lower() in {"km", "kilometer", "kilometre"}:
            values = values * convert(1.0, units, "m")
        return values
    return np.arange(size, dtype=np.float64)


def _place(data: xr.Dataset, rows: Array, columns: Array) -> tuple[Array, Array] | None:
    """Latitude and longitude by the file's grid mapping, of rotated poles."""
    for variable in data.variables.values():
        attributes = variable.attrs
        if attributes.get("grid_mapping_name") == "rotated_latitude_longitude":
            y, x = np.meshgrid(np.deg2rad(rows), np.deg2rad(columns), indexing="ij")
            pole = np.deg2rad(float(attributes.get("grid_north_pole_latitude", 90.0)))
            turned = float(attributes.get("grid_north_pole_longitude", 0.0))
            shift = np.deg2rad(float(attributes.get("north_pole_grid_longitude", 0.0)))
            return _unrotated(y, x + shift, pole, turned)
    return None


def _unrotated(y: Array, x: Array, pole: float, turned: float) -> tuple[Array, Array]:
    r"""Geographic coordinates in degrees of rotated ones in radians.

    With the rotated pole at latitude :math:`\theta`,
    :math:`\sin\varphi = \sin\theta \sin y + \cos\theta \cos y \cos x`.
    """
    sine = np.sin(pole) * np.sin(y) + np.cos(pole) * np.cos(y) * np.cos(x)
    east = -np.cos(y) * np.sin(x)
    north = -np.sin(pole) * np.cos(y) * np.cos(x) + np.cos(pole) * np.sin(y)
    latitude = np.rad2deg(np.arcsin(np.clip(sine, -1.0, 1.0)))
    # The rotated pole's meridian points to 180 degrees from its own longitude.
    longitude = turned + np.rad2deg(np.arctan2(-east, -north)) + 180.0
    return latitude, np.mod(longitude + 180.0, 360.0) - 180.0


def _plane(path: str, data: xr.Dataset, dims: tuple[str, str], place: Any) -> Layout:
    """Rows and columns of a projected, rotated or curvilinear grid."""
    sizes = tuple(int(data.sizes[dim]) for dim in dims)
    rows, columns = (_axis_values(path, data, d, s) for d, s in zip(dims, sizes, strict=True))
    if place is None:
        place = _place(data, rows, columns)
    if place is None:
        raise InputError(
            f"{path}: a grid over {dims[0]}, {dims[1]} needs the coordinates latitude and"
            " longitude over both, or a grid mapping of a rotated pole"
        )
    latitude, longitude = place
    orders = [_rising(path, d, v) for d, v in zip(dims, (rows, columns), strict=True)]
    named = [dim in data.variables for dim in dims]
    # Without coordinates of their own, rows go north and columns east.
    if not named[0] and np.diff(latitude, axis=0).mean() < 0:
        orders[0] = orders[0][::-1].copy()
    turns = np.mod(np.diff(longitude, axis=1) + 180.0, 360.0) - 180.0
    if not named[1] and turns.mean() < 0:
        orders[1] = orders[1][::-1].copy()
    inside = np.ix_(*orders)
    labels = (rows[orders[0]], columns[orders[1]])
    kept = tuple(
        label if here else np.arange(len(label), dtype=np.float64)
        for label, here in zip(labels, named, strict=True)
    )
    return Layout(
        ("y", "x"),
        dims,
        (orders[0], orders[1]),
        kept[0],
        kept[1],
        kept,
        latitude[inside].ravel(),
        unwrapped_points(longitude[inside].ravel()),
        False,
    )


def _two_dimensional(
    path: str, data: xr.Dataset, lat: str, lon: str, dims: tuple[str, str]
) -> tuple[Array, Array]:
    """Latitude and longitude over rows and columns; a time before them must change nothing."""
    found = []
    for name in (lat, lon):
        variable = data[name]
        for extra in [d for d in variable.dims if d not in dims]:
            if variable.sizes[extra] > 1 and not np.allclose(
                variable.values, variable.isel({extra: [0]}).values
            ):
                raise InputError(f"{path}: {name} changes with {extra}: a moving grid isn't read")
            variable = variable.isel({extra: 0})
        values = _degrees(path, data.assign({name: variable}), name)
        found.append(xr.DataArray(values, dims=variable.dims).transpose(*dims).values)
    return found[0], found[1]


def make_layout(path: str, data: xr.Dataset, dims: list[str], time_dim: str) -> Layout:
    """The grid over the dimensions of the fields.

    Arguments:
        path: For messages.
        data: The file.
        dims: Dimensions of the fields but for time.
        time_dim: The dimension of time, along which a grid may not move.

    Raises:
        InputError: Coordinates are missing, out of order or twice there.
    """
    every = {*dims, time_dim}
    lat, lon = (coordinate(data, kind, every, (1,)) for kind in ("latitude", "longitude"))
    if lat and lon:
        if data[lat].dims == data[lon].dims:
            return _points(path, data, lat, lon)
        return _regular(path, data, lat, lon)
    kinds = {dimension_role(data, dim): dim for dim in dims}
    lat, lon = (coordinate(data, kind, every, (2, 3)) for kind in ("latitude", "longitude"))
    plane: tuple[str, str] | None = None
    if "y" in kinds and "x" in kinds:
        plane = kinds["y"], kinds["x"]
    elif lat:
        over = [str(dim) for dim in data[lat].dims if dim != time_dim]
        plane = (over[0], over[1]) if len(over) == 2 else None
    if plane is None:
        raise InputError(
            f"{path}: no latitude and longitude (or y and x) among its coordinates"
            f" {', '.join(map(str, data.coords)) or 'none'}; name them with rename"
        )
    place = _two_dimensional(path, data, lat, lon, plane) if lat and lon else None
    return _plane(path, data, plane, place)
