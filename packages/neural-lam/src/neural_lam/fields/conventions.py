"""One file's fields under canonical names: ``time``, ``level``, ``latitude``, ``longitude``, ...

Whatever names and orders a file has, what comes out has ascending rows, columns from west to east
without a jump at Greenwich or at the date line, and its fields by variable and level. Dimensions
of one element that say nothing about the field (``number``, ``height`` 2 m) are dropped; any
other dimension must be settled by ``select``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neural_lam.fields.calendar import Calendar, Times, read_times
from neural_lam.fields.layouts import Layout, make_layout
from neural_lam.fields.roles import VERTICAL, coordinate, dimension_role, is_pressure
from neural_lam.shell.errors import InputError

__all__ = ["File", "read_file"]


class File(NamedTuple):
    """An opened file.

    Arguments:
        path: For messages.
        data: Its variables, with singletons dropped and selections made.
        time_dim: The file's name of the time.
        times: On the axis of its calendar.
        calendar: Of the times.
        layout: Of its grid.
        vertical: For each variable its vertical dimension, if it has one.
    """

    path: str
    data: xr.Dataset
    time_dim: str
    times: Times
    calendar: Calendar
    layout: Layout
    vertical: dict[str, str | None]


def _selected(path: str, data: xr.Dataset, select: Mapping[str, Any]) -> xr.Dataset:
    """The file at the chosen values of dimensions, nearest within rounding."""
    for name, value in select.items():
        if name not in data.dims:
            continue
        if name not in data.coords:
            size = data.sizes[name]
            if not isinstance(value, int) or not 0 <= value < size:
                raise InputError(f"{path}: select: {name} counts 0 to {size - 1}, got {value}")
            data = data.isel({name: value})
            continue
        values = data[name].values
        matches = (
            np.isclose(values.astype(np.float64), float(value), rtol=1e-5)
            if values.dtype.kind in "iuf"
            else np.array([str(v) == str(value) for v in values])
        )
        if matches.sum() != 1:
            shown = ", ".join(str(v) for v in values[:8])
            raise InputError(f"{path}: select: no single {name} of {value}; it has {shown}")
        data = data.isel({name: int(np.argmax(matches))})
    return data


def _merged_versions(data: xr.Dataset) -> xr.Dataset:
    """Preliminary and final ERA5 (``expver``) as one: the final where there is one."""
    if "expver" not in data.dims:
        return data
    parts = [data.isel(expver=number, drop=True) for number in range(data.sizes["expver"])]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.combine_first(part)
    return merged


def _time(path: str, data: xr.Dataset, dims: list[str]) -> tuple[str, str]:
    """The dimension of time and the variable that holds it."""
    kinds = {dim: dimension_role(data, dim) for dim in dims}
    # Forecasts are counted by the time that they start from.
    found = [d for k in ("time", "analysis") for d, kind in kinds.items() if kind == k]
    if not found:
        found = [d for d in dims if coordinate(data, "time", {d}, (1,))]
    if not found:
        # A GRIB file of analyses has its time beside a lead time of one element.
        raise InputError(
            f"{path}: no time among the dimensions {', '.join(dims)}; name it with rename"
        )
    dim = found[0]
    valid = coordinate(data.drop_vars(dim, errors="ignore"), "time", {dim}, (1,))
    if dim in data.variables and valid != "valid_time":
        return dim, dim
    text = [n for n, v in data.variables.items() if str(n).lower() == "times" and dim in v.dims]
    name = str(text[0]) if text else valid
    if name is None:
        raise InputError(f"{path}: the dimension {dim} has no times; name them with rename")
    return dim, name


def _squeezed(path: str, data: xr.Dataset, names: Sequence[str], keep: set[str]) -> xr.Dataset:
    """Without dimensions of one element, but for those to keep and for levels of pressure."""
    dims = {str(dim) for name in names for dim in data[name].dims} - keep
    for dim in dims:
        vertical = dimension_role(data, dim) == VERTICAL
        if data.sizes[dim] == 1 and not (
            vertical and dim in data.coords and is_pressure(data[dim])
        ):
            data = data.isel({dim: 0}, drop=True)
    return data


def _vertical(path: str, data: xr.Dataset, name: str, keep: set[str]) -> str | None:
    left = [str(dim) for dim in data[name].dims if dim not in keep]
    other = [dim for dim in left if dimension_role(data, dim) != VERTICAL]
    if other:
        dim = other[0]
        values = data[dim].values[:6] if dim in data.coords else range(data.sizes[dim])
        raise InputError(
            f"{path}: {name} has the dimension {dim} of {data.sizes[dim]}"
            f" ({', '.join(map(str, values))}, ...); choose one with select: {{{dim}: ...}}"
        )
    if len(left) > 1:
        raise InputError(f"{path}: {name} has two vertical dimensions, {' and '.join(left)}")
    return left[0] if left else None


def read_file(
    path: str,
    data: xr.Dataset,
    variables: Sequence[str],
    *,
    rename: Mapping[str, str] | None = None,
    select: Mapping[str, Any] | None = None,
) -> File:
    """A file's fields and their coordinates.

    Arguments:
        path: For messages.
        data: The opened file.
        variables: Which fields.
        rename: New names of variables, coordinates and dimensions, by the file's.
        select: Values at which other dimensions are cut.

    Raises:
        InputError: A variable or coordinate is missing, twice there, or not in order.

    References:
        Eaton et al., NetCDF Climate and Forecast (CF) metadata conventions, cfconventions.org.
    """
    known_names = {*map(str, data.variables), *map(str, data.dims)}
    data = data.rename({k: v for k, v in (rename or {}).items() if k in known_names})
    names = [name for name in variables if name in data]
    data = _merged_versions(_selected(path, data, select or {}))
    dims = list(dict.fromkeys(str(dim) for name in names for dim in data[name].dims))
    time_dim, time_name = _time(path, data, dims)
    times, calendar = read_times(path, data[time_name])
    if len(np.unique(times)) < len(times):
        values, counts = np.unique(times, return_counts=True)
        twice = calendar.label(values[int(np.argmax(counts))])
        raise InputError(f"{path}: the time {twice} comes twice")
    layout = make_layout(path, data, [dim for dim in dims if dim != time_dim], time_dim)
    keep = {time_dim, *layout.sources}
    for name in names:
        missing = keep - set(map(str, data[name].dims))
        if missing:
            raise InputError(f"{path}: {name} has no dimension {', '.join(sorted(missing))}")
    data = _squeezed(path, data, names, keep)
    vertical = {name: _vertical(path, data, name, keep) for name in names}
    return File(path, data, time_dim, times, calendar, layout, vertical)
