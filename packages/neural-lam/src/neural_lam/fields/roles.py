"""What the dimensions and coordinates of a file are, by the CF conventions and by usual names.

A coordinate tells its role by ``standard_name``, ``axis``, ``units`` or ``positive``; where it
tells nothing, its name does. Roles are ``time``, ``vertical``, ``latitude``, ``longitude``, ``y``,
``x``, ``member``, ``lead`` and ``analysis``.

References:
    Eaton et al., NetCDF Climate and Forecast metadata conventions 1.11, chapters 4 and 5.
"""

import re
from collections.abc import Hashable

import numpy as np
import xarray as xr

from neural_lam.fields.units import alike

__all__ = ["LEAD", "PRESSURE", "VERTICAL", "coordinate", "dimension_role", "is_pressure", "role"]

_BY_STANDARD_NAME = {
    "time": "time",
    "latitude": "latitude",
    "longitude": "longitude",
    "projection_y_coordinate": "y",
    "projection_x_coordinate": "x",
    "grid_latitude": "y",
    "grid_longitude": "x",
    "projection_y_angular_coordinate": "y",
    "projection_x_angular_coordinate": "x",
    "realization": "member",
    "forecast_period": "lead",
    "forecast_reference_time": "analysis",
    **dict.fromkeys(
        (
            "air_pressure",
            "height",
            "depth",
            "altitude",
            "model_level_number",
            "atmosphere_sigma_coordinate",
            "atmosphere_hybrid_sigma_pressure_coordinate",
            "atmosphere_hybrid_height_coordinate",
            "air_potential_temperature",
            "height_above_mean_sea_level",
        ),
        "vertical",
    ),
}
_NAMES = {
    "time": "time valid_time times t datetime date xtime forecast_time validtime",
    "analysis": "forecast_reference_time reftime init_time initial_time analysis_time basetime",
    "lead": "prediction_timedelta lead_time step leadtime forecast_period lead fhour",
    "latitude": "latitude lat lats xlat nav_lat clat geolat lat_0 latitudes g0_lat_1",
    "longitude": "longitude lon lons long xlong nav_lon clon geolon lon_0 longitudes g0_lon_2",
    "y": "y yc rlat south_north grid_latitude j nj ny yt_ocean projection_y_coordinate northing",
    "x": "x xc rlon west_east grid_longitude i ni nx xt_ocean projection_x_coordinate easting",
    "member": "number member realization ens ensemble ensemble_member members",
    "vertical": (
        "level lev levels plev pressure_level pressure isobaricinhpa isobaricinpa height depth"
        " altitude z bottom_top hybrid model_level modellevel soil_layer soil_layers_stag"
        " heightaboveground depthbelowland depthbelowlandlayer lev_p pressure_levels plevel"
        " height_2 isobaric pfull zlev sigma soillayers layer"
    ),
}
_BY_NAME = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_NORTH = re.compile(r"^degrees?_?(north|n)$", re.IGNORECASE)
_EAST = re.compile(r"^degrees?_?(east|e)$", re.IGNORECASE)
_AXES = {"T": "time", "Z": "vertical", "Y": "y", "X": "x"}
PRESSURE = "hPa"
# Roles of dimensions that readers ask for.
VERTICAL, LEAD = "vertical", "lead"


def _by_units(variable: xr.DataArray) -> str | None:
    units = str(variable.attrs.get("units", ""))
    if _NORTH.match(units):
        return "latitude"
    if _EAST.match(units):
        return "longitude"
    if re.match(r"^\w+ since ", units):
        return "time"
    return None


def role(name: Hashable, variable: xr.DataArray) -> str | None:
    """What a coordinate is, if that can be told."""
    attributes = variable.attrs
    standard = _BY_STANDARD_NAME.get(str(attributes.get("standard_name", "")))
    if standard is not None:
        return standard
    by_units, by_name = _by_units(variable), _BY_NAME.get(str(name).lower())
    if by_name is not None and (by_units is None or by_units == by_name):
        return by_name
    if by_units in {"latitude", "longitude"} and by_name not in {"y", "x"}:
        return by_units
    if by_name is not None:
        return by_name
    axis = _AXES.get(str(attributes.get("axis", "")).upper())
    if axis is not None:
        return axis
    if by_units is not None:
        return by_units
    if np.issubdtype(variable.dtype, np.datetime64):
        return "time"
    return "vertical" if "positive" in attributes or is_pressure(variable) else None


def dimension_role(data: xr.Dataset, dim: str) -> str | None:
    """What a dimension is: by its coordinate, else by its name."""
    if dim in data.variables:
        return role(dim, data[dim])
    return _BY_NAME.get(dim.lower())


def is_pressure(variable: xr.DataArray) -> bool:
    """Whether a vertical coordinate counts pressures."""
    units = str(variable.attrs.get("units", ""))
    if units:
        return alike(units, "Pa")
    name = str(variable.name).lower()
    return name in {"level", "pressure_level", "isobaricinhpa", "plev", "pressure"} and bool(
        variable.dtype.kind in "iuf" and np.all(variable.values > 1.5)
    )


def coordinate(data: xr.Dataset, kind: str, dims: set[str], sizes: tuple[int, ...]) -> str | None:
    """The variable of a role over some of these dimensions; coordinates come first.

    Arguments:
        data: The file.
        kind: The role.
        dims: Dimensions that it may have.
        sizes: Numbers of dimensions that it may have.
    """
    names = [*data.coords, *(name for name in data.data_vars)]
    for name in names:
        variable = data[name]
        fits = set(map(str, variable.dims)) <= dims and variable.ndim in sizes
        if fits and role(name, variable) == kind:
            return str(name)
    return None
