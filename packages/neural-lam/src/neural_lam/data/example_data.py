"""Example data sets: simulated ones made on the spot, real ones fetched or taken from a file."""

import hashlib
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neural_lam.data.grib import read_grib
from neural_lam.known_answers.two_layer import (
    TwoLayerFlow,
    perturbed_rest,
    refined,
    simulate,
    streamfunction,
)
from neural_lam.shell.errors import InputError
from neural_lam.shell.writing import whole

__all__ = ["ERA5_UK", "Download", "fetch", "from_file", "two_layer_window", "write_store"]

_GRAVITY = 9.80665
_CORIOLIS = 1.0e-4
_METRES_PER_DEGREE = 111_195.0
_CENTRE = 45.0
# Heights of the layers' mid-levels in a standard atmosphere, m.
_LEVELS = {250: 10_363.0, 750: 2_466.0}


def write_store(data: xr.Dataset, path: str) -> None:
    """Write a zarr store, whole or not at all.

    Arguments:
        data: What to write.
        path: Where; an older store there is replaced.
    """
    with whole(path) as partial:
        data.to_zarr(partial, mode="w", consolidated=False, zarr_format=3)


def _window_coordinates(flow: TwoLayerFlow, size: int) -> tuple[np.ndarray, np.ndarray]:
    offsets = (np.arange(size) - (size - 1) / 2) * flow.side / flow.num_points / _METRES_PER_DEGREE
    return _CENTRE + offsets, offsets / np.cos(np.deg2rad(_CENTRE))


def _spun_up(flow: TwoLayerFlow, days: float, *, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """A flow in balance: turbulence forgets its start on a coarse grid as well as on a fine one."""
    coarse = flow._replace(num_points=flow.num_points // 2, time_step=1.5 * flow.time_step)
    generator = torch.Generator().manual_seed(seed)
    start = perturbed_rest(coarse, wind=10.0, generator=generator, dtype=dtype)
    num_states = 1 + round(days)
    *_, end = simulate(start, coarse, interval=32 * coarse.time_step, num_states=num_states)
    return refined(end, flow.num_points)


def two_layer_window(
    flow: TwoLayerFlow,
    *,
    days: float,
    interval: float = 10_800.0,
    spin_up_days: float = 120.0,
    size: int = 64,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    progress: bool = True,
) -> xr.Dataset:
    r"""Geopotential height in a window of two-layer quasi-geostrophic flow.

    Heights are :math:`z = z_0 + f_0 (\\psi - U y) / g` at 250 and 750 hPa. The beta plane has
    no latitudes of its own: those given are nominal, centred on 45 degrees north.

    Arguments:
        flow: Constants of the flow.
        days: Length of the data set.
        interval: Between states in s.
        spin_up_days: Integrated before the first state, on a grid of half the resolution
            but for the last tenth.
        size: Grid points a side of the window.
        seed: Of the initial perturbation.
        dtype: Real type of the integration.
        progress: Whether to show a bar.

    Raises:
        ValueError: The window is larger than the domain.

    References:
        Phillips (1954), Energy transformations and meridional circulations associated with simple
        baroclinic waves, doi.org/10.1111/j.2153-3490.1954.tb01123.x.
    """
    if not 1 < size <= flow.num_points:
        raise InputError(f"size must be between 2 and {flow.num_points}, got {size}")
    start = _spun_up(flow, 0.9 * spin_up_days, seed=seed, dtype=dtype)
    skipped, kept = round(0.1 * spin_up_days * 86400 / interval), round(days * 86400 / interval)
    states = simulate(start, flow, interval=interval, num_states=skipped + kept)
    bar = tqdm(
        states, total=skipped + kept, desc="two-layer flow", disable=not progress, unit="state"
    )
    latitude, longitude = _window_coordinates(flow, size)
    y = torch.from_numpy((latitude - _CENTRE) * _METRES_PER_DEGREE)[:, None]
    wind = torch.tensor([flow.upper_wind, flow.lower_wind], dtype=torch.float64)[:, None, None]
    base = torch.tensor(list(_LEVELS.values()), dtype=torch.float64)[:, None, None]
    heights = np.empty((kept, 2, size, size), np.float32)
    for number, q in enumerate(bar):
        if number >= skipped:
            psi = streamfunction(q, flow).double()[:, :size, :size] - wind * y
            heights[number - skipped] = (base + psi * _CORIOLIS / _GRAVITY).numpy()
    times = np.datetime64("2001-01-01", "ns") + np.arange(kept) * np.timedelta64(
        round(interval), "s"
    )
    return _height_dataset(heights, times, latitude, longitude, flow, seed)


def _height_dataset(
    heights: np.ndarray,
    times: np.ndarray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    flow: TwoLayerFlow,
    seed: int,
) -> xr.Dataset:
    dims = ("time", "level", "latitude", "longitude")
    attributes = {
        "units": "m",
        "standard_name": "geopotential_height",
        "long_name": "geopotential height",
    }
    data = xr.Dataset(
        {"geopotential_height": (dims, heights, attributes)},
        {
            "time": ("time", times, {"standard_name": "time"}),
            "level": (
                "level",
                list(_LEVELS),
                {"units": "hPa", "standard_name": "air_pressure", "positive": "down"},
            ),
            "latitude": (
                "latitude",
                latitude,
                {"units": "degrees_north", "standard_name": "latitude"},
            ),
            "longitude": (
                "longitude",
                longitude,
                {"units": "degrees_east", "standard_name": "longitude"},
            ),
        },
        {
            "Conventions": "CF-1.11",
            "title": "Two-layer quasi-geostrophic flow, window of a doubly periodic beta plane",
            "comment": "Simulated; latitudes and longitudes are nominal",
            "seed": seed,
            **{f"flow_{name}": value for name, value in flow._asdict().items()},
        },
    )
    data["geopotential_height"].encoding["chunks"] = (32, *heights.shape[1:])
    return data


class Download(NamedTuple):
    """A public file.

    Arguments:
        url: Where it is.
        md5: Of its content.
    """

    url: str
    md5: str


# ERA5 2 m temperature over the British Isles. Contains modified Copernicus Climate Change
# Service information (2019).
ERA5_UK = Download(
    "https://github.com/pydata/xarray-data/raw/master/era5-2mt-2019-03-uk.grib",
    "eae4f0d198f4f6c16ba950975a217155",
)


def fetch(download: Download, path: str, *, timeout: float = 60.0) -> None:
    """Fetch a file to a temporary name, check it, move it into place.

    Raises:
        InputError: It can't be had, or its content isn't what it was.

    References:
        Hersbach et al. (2020), The ERA5 global reanalysis, doi.org/10.1002/qj.3803.
    """
    try:
        with urllib.request.urlopen(download.url, timeout=timeout) as answer:
            content = answer.read()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{download.url}: can't be fetched ({error}); download it and give it as --source"
        ) from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != download.md5:
        raise InputError(f"{download.url}: expected the md5 {download.md5}, got {found}")
    with whole(path) as partial:
        partial.write_bytes(content)


def _from_grib(source: str) -> xr.Dataset:
    """2 m temperature of a GRIB file with one field a time."""
    fields = sorted(read_grib(source), key=lambda field: field.time)
    if {field.parameter for field in fields} != {167}:
        raise InputError(f"{source}: expected 2 m temperature (parameter 167) alone")
    first = fields[0]
    attributes = {
        "units": "K",
        "long_name": "2 metre temperature",
        "standard_name": "air_temperature",
    }
    return xr.Dataset(
        {
            "2m_temperature": (
                ("time", "latitude", "longitude"),
                np.stack([field.values for field in fields]),
                attributes,
            )
        },
        {
            "time": [field.time for field in fields],
            "latitude": ("latitude", first.latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", first.longitude, {"units": "degrees_east"}),
        },
        {
            "title": "ERA5 hourly 2 m temperature, British Isles, March 2019, 0.25 degree",
            "source": "ERA5; era5-2mt-2019-03-uk.grib of pydata/xarray-data",
            "licence": "Contains modified Copernicus Climate Change Service information (2019)",
        },
    )


def from_file(source: str) -> xr.Dataset:
    """An example data set from a NetCDF or GRIB file on disk.

    Raises:
        ValueError: The file is missing or is neither.
    """
    if not Path(source).is_file():
        raise InputError(f"{source}: no such file")
    with open(source, "rb") as file:
        beginning = file.read(4)
    if beginning == b"GRIB":
        return _from_grib(source)
    try:
        data = xr.load_dataset(source)
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: can't be read ({str(error).splitlines()[0]})") from None
    for variable in data.variables.values():
        # Encodings of the source (chunks, packing) don't fit zarr.
        variable.encoding = {}
    return data
