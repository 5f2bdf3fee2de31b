"""A corpus of small stores as meteorologists have them, all made from the same fields.

Each case writes files into a folder and says how they are opened: dialects of coordinates,
calendars, levels, masks, gaps, conventions of longitude, ensembles, formats and grids. What can't
be used (`REFUSED`) must be refused in one line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

__all__ = ["CASES", "REFUSED", "Case", "base"]

STEP = np.timedelta64(6, "h")
START = np.datetime64("2021-12-25", "ns")


class Case(NamedTuple):
    """How a case's files are opened.

    Arguments:
        options: Of `GriddedData`, with ``path`` relative to the folder.
        message: For what is refused, a part of the line.
    """

    options: dict[str, Any]
    message: str = ""


def base(num_times: int = 90, rows: int = 11, columns: int = 13, west: float = 5.0) -> xr.Dataset:
    """Travelling waves: 2 m temperature, and geopotential at three levels."""
    t = np.arange(num_times)[:, None, None]
    y, x = np.arange(rows)[None, :, None], np.arange(columns)[None, None, :]
    rng = np.random.default_rng(0)

    def wave(speed: float, size: float) -> np.ndarray:
        field = np.sin(2 * np.pi * (x - speed * t) / 9 + 0.3 * y) + 0.2 * np.cos(t / 4 * 2 * np.pi)
        return (size * (field + 0.05 * rng.standard_normal(field.shape))).astype(np.float32)

    level = np.stack([wave(0.3 * (k + 1), 100.0 * (k + 1)) for k in range(3)], axis=1)
    level += (1e4 * np.arange(5, 0, -2))[None, :, None, None].astype(np.float32)
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {
            "2m_temperature": (dims, 280 + wave(0.4, 5.0), {"units": "K"}),
            "geopotential": (("time", "level", *dims[1:]), level, {"units": "m2 s-2"}),
        },
        {
            "time": START + np.arange(num_times) * STEP,
            "level": ("level", [500, 700, 850], {"units": "hPa"}),
            "latitude": ("latitude", 48.0 + 0.5 * np.arange(rows), {"units": "degrees_north"}),
            "longitude": ("longitude", west + 0.5 * np.arange(columns), {"units": "degrees_east"}),
        },
    )


BOTH = ["2m_temperature", "geopotential"]
Writer = Callable[[Path], Case]
CASES: dict[str, Writer] = {}
REFUSED: dict[str, Writer] = {}


def _zarr(data: xr.Dataset, folder: Path, version: int = 3, name: str = "data.zarr") -> str:
    data.to_zarr(folder / name, consolidated=False, zarr_format=version)
    return name


def _netcdf(data: xr.Dataset, folder: Path, engine: Any = "h5netcdf", name: str = "d.nc") -> str:
    data.to_netcdf(folder / name, engine=engine)
    return name


def _case(name: str, *, refused: bool = False) -> Callable[[Writer], Writer]:
    def add(writer: Writer) -> Writer:
        (REFUSED if refused else CASES)[name] = writer
        return writer

    return add


def _simple(name: str, change: Callable[[xr.Dataset], xr.Dataset], **options: Any) -> None:
    def write(folder: Path) -> Case:
        path = _netcdf(change(base()), folder)
        return Case({"path": path, "variables": BOTH, **options})

    CASES[name] = write


def _refused(name: str, change: Callable[[xr.Dataset], xr.Dataset], message: str) -> None:
    def write(folder: Path) -> Case:
        path = _netcdf(change(base()), folder)
        return Case({"path": path, "variables": BOTH}, message)

    REFUSED[name] = write


def _renamed(**names: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda data: data.rename(names)


# Formats.
for _version in (2, 3):
    CASES[f"zarr {_version}"] = lambda folder, v=_version: Case(
        {"path": _zarr(base(), folder, v), "variables": BOTH}
    )
CASES["NetCDF 4"] = lambda folder: Case({"path": _netcdf(base(), folder), "variables": BOTH})
CASES["NetCDF 3"] = lambda folder: Case(
    {"path": _netcdf(base(), folder, "scipy"), "variables": BOTH}
)
CASES["zarr without suffix"] = lambda folder: Case(
    {"path": _zarr(base(), folder, 3, "store"), "variables": BOTH}
)
CASES["NetCDF with another suffix"] = lambda folder: Case(
    {"path": _netcdf(base(), folder, name="data.dat"), "variables": BOTH}
)


@_case("packed integers")
def _packed(folder: Path) -> Case:
    data = base()
    for name in BOTH:
        data[name].encoding = {"dtype": "int16", "scale_factor": 1.0, "add_offset": 3e4}
    data["2m_temperature"].encoding |= {"scale_factor": 0.01, "add_offset": 280.0}
    return Case({"path": _netcdf(data, folder), "variables": BOTH})


@_case("GRIB")
def _grib(folder: Path) -> Case:
    import eccodes

    data = base()
    with open(folder / "data.grib", "wb") as file:
        for time in data["time"].values:
            stamp = np.datetime_as_string(time, unit="h")
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            settings = {
                "Ni": 13, "Nj": 11, "jScansPositively": 0,
                "latitudeOfFirstGridPointInDegrees": 53.0, "latitudeOfLastGridPointInDegrees": 48.0,
                "longitudeOfFirstGridPointInDegrees": 5.0,
                "longitudeOfLastGridPointInDegrees": 11.0,
                "iDirectionIncrementInDegrees": 0.5, "jDirectionIncrementInDegrees": 0.5,
                "dataDate": int(stamp[:10].replace("-", "")), "dataTime": int(stamp[11:13]) * 100,
                "shortName": "2t",
            }  # fmt: skip
            for key, value in settings.items():
                eccodes.codes_set(message, key, value)
            field = data["2m_temperature"].sel(time=time).isel(latitude=slice(None, None, -1))
            eccodes.codes_set_values(message, field.values.ravel().astype(float))
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    return Case({"path": "data.grib", "variables": ["t2m"]})


# Several files.
@_case("a file a month")
def _monthly(folder: Path) -> Case:
    for label, part in base().groupby("time.month"):
        _netcdf(part, folder, name=f"m{label:02d}.nc")
    return Case({"path": "m*.nc", "variables": BOTH})


@_case("a file a variable")
def _by_variable(folder: Path) -> Case:
    data = base()
    names = [_netcdf(data[[name]], folder, name=f"{n}.nc") for n, name in enumerate(BOTH)]
    return Case({"path": names, "variables": BOTH})


@_case("a folder of files")
def _folder(folder: Path) -> Case:
    (folder / "all").mkdir()
    for number in range(3):
        _netcdf(
            base().isel(time=slice(30 * number, 30 * number + 30)),
            folder / "all",
            name=f"{number}.nc",
        )
    return Case({"path": "all", "variables": BOTH})


# Dialects.
def _cds(data: xr.Dataset) -> xr.Dataset:
    data = data.rename(time="valid_time", level="pressure_level")
    data = data.rename({"2m_temperature": "t2m", "geopotential": "z"})
    data = data.expand_dims(number=[0]).squeeze("number")
    data = data.assign_coords(expver=("valid_time", ["0001"] * data.sizes["valid_time"]))
    data["pressure_level"].attrs = {"units": "hPa", "stored_direction": "decreasing"}
    data["pressure_level"] = data["pressure_level"].astype(float)
    return data.isel(pressure_level=[2, 1, 0], latitude=slice(None, None, -1))


_simple("CDS, new", _cds)
CASES["CDS, new"] = lambda folder: Case(
    {"path": _netcdf(_cds(base()), folder), "variables": ["t2m", "z"]}
)


@_case("CDS, old, two versions")
def _expver(folder: Path) -> Case:
    data = base().drop_vars("geopotential")
    early = data.where(data["time"] < data["time"][60])
    late = data.where(data["time"] >= data["time"][60])
    both = xr.concat([early, late], xr.Variable("expver", [1, 5])).transpose("time", "expver", ...)
    return Case({"path": _netcdf(both, folder), "variables": ["2m_temperature"]})


_simple("lat and lon", _renamed(latitude="lat", longitude="lon", level="plev"))
_simple("capitals", _renamed(latitude="LAT", longitude="LON", level="LEVEL", time="TIME"))
_simple(
    "unusual names with units",
    _renamed(latitude="breite", longitude="laenge", time="zeit", level="druck"),
)
_simple(
    "unusual names renamed",
    lambda d: _renamed(latitude="foo", longitude="bar", time="baz")(d.drop_attrs()),
    rename={"foo": "latitude", "bar": "longitude", "baz": "time"},
)
_simple(
    "standard names alone",
    lambda d: _renamed(latitude="a", longitude="b")(
        d.assign_coords(
            latitude=d["latitude"].assign_attrs(units="1", standard_name="latitude"),
            longitude=d["longitude"].assign_attrs(units="1", standard_name="longitude"),
        )
    ),
)
_simple("time in another place", lambda d: d.transpose("latitude", "level", "longitude", "time"))
_simple(
    "units of UDUNITS",
    lambda d: d.assign(
        {
            "2m_temperature": (d["2m_temperature"] - 273.15).assign_attrs(units="degrees_Celsius"),
            "geopotential": d["geopotential"].assign_attrs(units="m**2 s**-2"),
        }
    ),
)

# Levels.
_simple("descending levels", lambda d: d.isel(level=[2, 1, 0]))
_simple(
    "pressures in Pa",
    lambda d: d.assign_coords(level=("level", [50000.0, 70000.0, 85000.0], {"units": "Pa"})),
)
_simple(
    "soil depths",
    lambda d: d.rename(level="depth").assign_coords(
        depth=("depth", [0.07, 0.28, 1.0], {"units": "m"})
    ),
)


@_case("levels by name")
def _named_levels(folder: Path) -> Case:
    data = base().assign_coords(level=["low", "middle", "top"])
    return Case({"path": _netcdf(data, folder), "variables": BOTH})


_simple("levels without values", lambda d: d.drop_vars("level"))
_simple(
    "one height kept",
    lambda d: d.expand_dims(height=[2.0]),
)
_simple("a level chosen", lambda d: d, select={"level": 700})


# Ensembles.
@_case("a member of an ensemble")
def _member(folder: Path) -> Case:
    data = xr.concat(
        [base(), base() + 1.0], xr.Variable("number", [0, 1]), combine_attrs="override"
    )
    for name in BOTH:
        data[name].attrs = base()[name].attrs
    return Case({"path": _zarr(data, folder), "variables": BOTH, "select": {"number": 1}})


# Times.
_simple("a missing day", lambda d: d.isel(time=[*range(30), *range(34, 90)]))
_simple("a field that is missing", lambda d: d.where(d["time"] != d["time"][20]))
_simple("a broken pixel", lambda d: d.where((d["time"] != d["time"][70]) | (d["latitude"] > 48.6)))


def _calendar(name: str) -> Writer:
    def write(folder: Path) -> Case:
        data = base()
        times = xr.date_range("2000-02-20", periods=90, freq="6h", calendar=name, use_cftime=True)
        return Case({"path": _netcdf(data.assign_coords(time=times), folder), "variables": BOTH})

    return write


for _name in ("noleap", "360_day", "proleptic_gregorian"):
    CASES[f"calendar {_name}"] = _calendar(_name)


@_case("daily means")
def _daily(folder: Path) -> Case:
    data = base().assign_coords(time=START + np.arange(90) * np.timedelta64(24, "h"))
    return Case({"path": _netcdf(data, folder), "variables": BOTH})


# Masks.
def _sea(data: xr.Dataset) -> xr.Dataset:
    coast = (data["longitude"] > 7.2) & (data["latitude"] < 52.0)
    return data.assign({"2m_temperature": data["2m_temperature"].where(coast)})


_simple("sea surface", _sea)
_simple("sea surface with a gap", lambda d: _sea(d).isel(time=[*range(40), *range(43, 90)]))

# Longitudes.
_simple(
    "across Greenwich, 0 to 360",
    lambda d: base(west=357.0).assign_coords(
        longitude=(
            "longitude",
            np.mod(357.0 + 0.5 * np.arange(13), 360.0),
            {"units": "degrees_east"},
        )
    ),
)
_simple(
    "across Greenwich, cut",
    lambda d: (
        base(west=357.0)
        .assign_coords(
            longitude=(
                "longitude",
                np.mod(357.0 + 0.5 * np.arange(13), 360.0),
                {"units": "degrees_east"},
            )
        )
        .sortby("longitude")
    ),
)
_simple(
    "across the date line",
    lambda d: base(west=177.0).assign_coords(
        longitude=(
            "longitude",
            np.mod(177.0 + 0.5 * np.arange(13) + 180.0, 360.0) - 180.0,
            {"units": "degrees_east"},
        )
    ),
)
_simple("north to south", lambda d: d.isel(latitude=slice(None, None, -1)))


@_case("a globe")
def _globe(folder: Path) -> Case:
    data = base(rows=13, columns=24)
    data = data.assign_coords(latitude=np.linspace(-90, 90, 13), longitude=15.0 * np.arange(24))
    return Case({"path": _zarr(data, folder), "variables": BOTH})


# Grids.
def _curved(data: xr.Dataset, y: str, x: str) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    flat = data.rename(latitude=y, longitude=x)
    north, east = np.meshgrid(data["latitude"], data["longitude"], indexing="ij")
    return flat, north + 0.01 * (east - 8.0), east + 0.02 * (north - 50.0)


@_case("rotated pole (CORDEX)")
def _cordex(folder: Path) -> Case:
    flat, north, east = _curved(base(), "rlat", "rlon")
    flat = flat.assign_coords(
        rlat=("rlat", 0.44 * np.arange(11) - 2, {"standard_name": "grid_latitude"}),
        rlon=("rlon", 0.44 * np.arange(13) - 3, {"standard_name": "grid_longitude"}),
        lat=(("rlat", "rlon"), north, {"standard_name": "latitude"}),
        lon=(("rlat", "rlon"), east, {"standard_name": "longitude"}),
        height=2.0,
    )
    times = xr.date_range("2000-02-20", periods=90, freq="6h", calendar="noleap", use_cftime=True)
    return Case({"path": _netcdf(flat.assign_coords(time=times), folder), "variables": BOTH})


@_case("rotated pole without places")
def _rotated(folder: Path) -> Case:
    flat, _, _ = _curved(base(), "rlat", "rlon")
    flat = flat.assign_coords(rlat=0.44 * np.arange(11) - 2, rlon=0.44 * np.arange(13) - 3)
    flat["rotated_pole"] = xr.Variable((), 0, {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0,
    })  # fmt: skip
    return Case({"path": _netcdf(flat, folder), "variables": BOTH})


@_case("WRF")
def _wrf(folder: Path) -> Case:
    flat, north, east = _curved(base(), "south_north", "west_east")
    flat = flat.drop_vars(["south_north", "west_east", "level"]).rename(
        {"level": "bottom_top", "time": "Time", "2m_temperature": "T2", "geopotential": "PH"}
    )
    words = [np.datetime_as_string(t, unit="s").replace("T", "_") for t in flat["Time"].values]
    flat = flat.drop_vars("Time")
    flat["Times"] = (("Time", "DateStrLen"), np.array([list(w) for w in words], dtype="S1"))
    moving = ("Time", "south_north", "west_east")
    flat["XLAT"] = (moving, np.broadcast_to(north, (90, 11, 13)), {"units": "degree_north"})
    flat["XLONG"] = (moving, np.broadcast_to(east, (90, 11, 13)), {"units": "degree_east"})
    return Case({"path": _netcdf(flat, folder), "variables": ["T2", "PH"]})


@_case("projected, kilometres")
def _projected(folder: Path) -> Case:
    flat, north, east = _curved(base(), "y", "x")
    flat = flat.assign_coords(
        y=("y", 25.0 * np.arange(11), {"units": "km", "standard_name": "projection_y_coordinate"}),
        x=("x", 25.0 * np.arange(13), {"units": "km", "standard_name": "projection_x_coordinate"}),
        latitude=(("y", "x"), north),
        longitude=(("y", "x"), east),
    )
    return Case({"path": _netcdf(flat, folder), "variables": BOTH})


@_case("points (ICON)")
def _points(folder: Path) -> Case:
    data = (
        base()
        .stack(ncells=("latitude", "longitude"))
        .drop_vars(["latitude", "longitude", "ncells"])
    )
    north, east = np.meshgrid(base()["latitude"], base()["longitude"], indexing="ij")
    rng = np.random.default_rng(1)
    for name, values in (("clat", north), ("clon", east)):
        places = np.deg2rad(values.ravel() + 0.1 * rng.standard_normal(values.size))
        data = data.assign_coords({name: ("ncells", places, {"units": "radian"})})
    return Case({"path": _netcdf(data, folder), "variables": BOTH, "boundary_width": 0})


# What can't be used.
_refused("time as numbers", lambda d: d.assign_coords(time=np.arange(90)), "no dates")
_refused("a time twice", lambda d: d.isel(time=[*range(90), 89]), "comes twice")
_refused(
    "times out of order",
    lambda d: d.assign_coords(
        time=d["time"]
        + np.where(np.arange(90) == 40, np.timedelta64(1, "h"), np.timedelta64(0, "h"))
    ),
    "multiples of 6 h",
)
_refused(
    "a meridian twice",
    lambda d: d.assign_coords(
        longitude=("longitude", np.linspace(0, 360, 13), {"units": "degrees_east"})
    ),
    "comes twice",
)
_refused("rows out of order", lambda d: d.isel(latitude=[1, 0, *range(2, 11)]), "rise or fall")
_refused(
    "wrong units",
    lambda d: d.assign({"2m_temperature": d["2m_temperature"].assign_attrs(units="m")}),
    "has the units 'm'",
)
