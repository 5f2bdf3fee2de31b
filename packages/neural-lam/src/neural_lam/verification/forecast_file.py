"""Reading a store of forecasts by names: own ones, and those of others in WeatherBench2's layout.

The analysis time is called ``time`` or ``init_time``, the lead time ``prediction_timedelta``,
``lead_time`` or ``step``. Variables, levels, rows and columns are paired with the truth's by their
names and values, longitudes modulo 360 degrees; no order is trusted.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neural_lam.fields.calendar import Calendar, Times
from neural_lam.fields.conventions import File, read_file
from neural_lam.fields.datastore import Datastore, hours, in_order
from neural_lam.fields.features import Feature, features_of, level_order
from neural_lam.fields.opening import open_store
from neural_lam.fields.roles import LEAD, dimension_role
from neural_lam.fields.units import convert, known, same_units
from neural_lam.shell.errors import InputError

__all__ = ["ForecastFile", "arranged_as", "open_forecasts"]


class ForecastFile(NamedTuple):
    """An opened store of forecasts.

    Arguments:
        path: For messages.
        data: Its variables.
        file: Its grid and levels.
        features: That it forecasts.
        lead_dim: The dimension of lead times.
        leads: Places of the lead times above zero, in rising order, ``(T,)``.
        lead_times: ``(T,)``.
    """

    path: str
    data: xr.Dataset
    file: File
    features: list[Feature]
    lead_dim: str
    leads: NDArray[np.int64]
    lead_times: NDArray[np.timedelta64]

    @property
    def times(self) -> Times:
        """Analysis times."""
        return self.file.times

    @property
    def calendar(self) -> Calendar:
        """Of the analysis times."""
        return self.file.calendar

    @property
    def attributes(self) -> dict[str, Any]:
        """What it says about how it was made."""
        return dict(self.data.attrs)

    def read(self, number: int, features: list[Feature]) -> NDArray[np.float64]:
        """The forecast from an analysis time, ``(T, V, y, x)``, in the truth's order of nodes."""
        fields, held = [], dict[str, NDArray[np.float64]]()
        for feature in features:
            name = feature.variable
            if name not in held:
                held[name] = self._variable(number, name)
            levels = [f.level for f in self.features if f.variable == name]
            fields.append(held[name][:, levels.index(feature.level)])
        return np.stack(fields, axis=1)

    def _variable(self, number: int, name: str) -> NDArray[np.float64]:
        """A variable's forecast, ``(T, levels, y, x)``."""
        layout, vertical = self.file.layout, self.file.vertical[name]
        array = self.data[name].isel({self.file.time_dim: number, self.lead_dim: self.leads})
        dims = [self.lead_dim, *([vertical] if vertical else []), *layout.sources]
        values = array.transpose(*dims).values.astype(np.float64)
        values = values[:, level_order(self.file, name)] if vertical else values[:, None]
        values = in_order(values, layout.order)
        found: NDArray[np.float64] = values.reshape(*values.shape[:2], *_shape(layout.order))
        return found


def _shape(order: tuple[NDArray[np.int64], ...]) -> tuple[int, int]:
    return (len(order[0]), len(order[1]) if len(order) > 1 else 1)


def _lead_times(path: str, variable: xr.DataArray) -> NDArray[np.timedelta64]:
    values = variable.values
    if np.issubdtype(values.dtype, np.timedelta64):
        return values.astype("timedelta64[ns]")
    units = str(variable.attrs.get("units", ""))
    if values.dtype.kind in "iuf" and units and known(units):
        seconds = np.round(values.astype(np.float64) * convert(1.0, units, "s"))
        return (seconds.astype(np.int64) * 10**9).astype("timedelta64[ns]")
    raise InputError(f"{path}: {variable.name}: lead times need units such as 'hours'")


def open_forecasts(path: str, rename: Mapping[str, str] | None = None) -> ForecastFile:
    """Open a store of forecasts.

    Arguments:
        path: Of the store.
        rename: New names of variables, coordinates and dimensions, by the store's.

    Raises:
        InputError: It has no lead times, or its coordinates can't be told.

    References:
        Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
        global weather models, arXiv:2308.15560.
    """
    data = open_store(path)
    names_known = {*map(str, data.variables), *map(str, data.dims)}
    data = data.rename({k: v for k, v in (rename or {}).items() if k in names_known})
    leads = [str(dim) for dim in data.dims if dimension_role(data, str(dim)) == LEAD]
    if not leads or leads[0] not in data.variables:
        raise InputError(
            f"{path}: no lead times (prediction_timedelta or lead_time) among its dimensions"
            f" {', '.join(map(str, data.dims))}"
        )
    lead_dim = leads[0]
    names = [str(name) for name, array in data.data_vars.items() if lead_dim in array.dims]
    if not names:
        raise InputError(f"{path}: no variable has the dimension {lead_dim}")
    lead_times = _lead_times(path, data[lead_dim])
    order = np.argsort(lead_times, kind="stable")
    order = order[lead_times[order] > np.timedelta64(0, "ns")]
    if not len(order):
        raise InputError(f"{path}: no lead time above 0 h")
    file = read_file(path, data.isel({lead_dim: 0}, drop=True), names)
    return ForecastFile(
        path, data, file, features_of(file, names), lead_dim, order, lead_times[order]
    )


def arranged_as(store: Datastore, forecasts: ForecastFile) -> ForecastFile:
    """Forecasts whose nodes are in the truth's order, where it counts columns first."""
    layout = forecasts.file.layout
    if len(layout.dims) < 2 or store.dims != layout.dims[::-1]:
        return forecasts
    return forecasts._replace(file=forecasts.file._replace(layout=layout.turned()))


def same_grid(store: Datastore, forecasts: ForecastFile) -> None:
    """Refuse forecasts on another grid than the truth's.

    Raises:
        InputError: Dimensions, sizes or coordinates differ.
    """
    layout, path = forecasts.file.layout, forecasts.path
    if len(layout.latitude) != len(store.latitude) or len(layout.dims) != len(store.dims):
        raise InputError(
            f"{store.path}: its grid {store.shape} is not that of {path}, {_shape(layout.order)}"
        )
    if store.calendar != forecasts.calendar:
        raise InputError(
            f"{store.path}: its calendar {store.calendar.name} is not that of {path},"
            f" {forecasts.calendar.name}"
        )
    if not np.isfinite(store.latitude).all():
        pairs = {"rows": (store.rows, layout.rows), "columns": (store.columns, layout.columns)}
    else:
        pairs = {
            "latitude": (store.latitude, layout.latitude),
            "longitude": (store.longitude, layout.longitude),
        }
    for name, (ours, theirs) in pairs.items():
        difference = ours - theirs
        if name == "longitude":
            difference = np.mod(difference + 180.0, 360.0) - 180.0
        apart = float(np.abs(difference).max())
        if apart > 1e-4 * max(1.0, float(np.abs(ours).max()) / 1e3):
            raise InputError(f"{store.path}: its {name} is up to {apart:g} from that of {path}")


def shared_features(store: Datastore, forecasts: ForecastFile) -> list[Feature]:
    """The truth's features that are forecast, by name and level.

    Raises:
        InputError: There are none, or the units differ.
    """
    offered = {(f.variable, f.level): f for f in forecasts.features}
    shared = [f for f in store.features if (f.variable, f.level) in offered]
    if not shared:
        raise InputError(
            f"{forecasts.path}: it has {', '.join(f.name for f in forecasts.features)}, none of"
            f" which is in {store.path}: {', '.join(f.name for f in store.features)}"
        )
    for feature in shared:
        units = offered[feature.variable, feature.level].units
        if units not in {feature.units, "1"} and not same_units(units, feature.units):
            raise InputError(
                f"{forecasts.path}: {feature.name} has the units {units!r}, the truth"
                f" {feature.units!r}"
            )
    return shared


def lead_steps(store: Datastore, forecasts: ForecastFile) -> NDArray[np.int64]:
    """Lead times in steps of the truth, ``(T,)``.

    Raises:
        InputError: One is no whole number of steps.
    """
    steps, rest = np.divmod(forecasts.lead_times, store.step)
    if (rest != np.timedelta64(0, "ns")).any():
        wrong = forecasts.lead_times[int(np.argmax(rest != np.timedelta64(0, "ns")))]
        raise InputError(
            f"{forecasts.path}: the lead time {hours(wrong)} is no multiple of the truth's step"
            f" {hours(store.step)}"
        )
    return steps.astype(np.int64)


def truth_options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """How the data of an own forecast were opened, from its attributes."""
    found = json.loads(str(attributes.get("data_options", "{}")))
    return {name: found[name] for name in ("rename", "select") if found.get(name)}
