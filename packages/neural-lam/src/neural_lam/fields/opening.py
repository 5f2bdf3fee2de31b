"""Opening files of fields: zarr 2 and 3, NetCDF 3 and 4, GRIB; one, several, or a pattern.

What a file is follows from its content, not from its suffix.
"""

from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import xarray as xr

from neural_lam.shell.errors import InputError

__all__ = ["expand", "open_dataset", "open_store"]

_ZARR = ("zarr.json", ".zgroup", ".zmetadata", ".zattrs")
_SUFFIXES = ("nc", "nc3", "nc4", "netcdf", "h5", "hdf5", "cdf", "grib", "grb", "grib1", "grib2")


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in _ZARR)


def _in_folder(path: Path) -> list[str]:
    """Data files of a folder that is no store itself."""
    files = [p for p in sorted(path.iterdir()) if p.suffix.lstrip(".").lower() in _SUFFIXES]
    stores = [p for p in sorted(path.iterdir()) if p.is_dir() and _is_zarr(p)]
    if not files and not stores:
        raise InputError(f"{path}: a folder without zarr, NetCDF or GRIB in it")
    return [str(p) for p in (*files, *stores)]


def expand(path: str | Sequence[str]) -> list[str]:
    """Names of single stores and files, of one name, a pattern, a folder, or several.

    Raises:
        FileNotFoundError: There is none.
        InputError: A folder holds no data.
    """
    if not isinstance(path, str):
        found = [name for part in path for name in expand(part)]
        if not found:
            raise InputError("path: expected at least one file")
        return found
    if "://" in path:
        return [path]
    place = Path(path)
    if place.is_dir():
        return [path] if _is_zarr(place) else _in_folder(place)
    if place.exists():
        return [path]
    matches = sorted(glob(path, recursive=True))
    if not matches:
        raise FileNotFoundError(f"{path}: no such data; `neural-lam example-data` makes some")
    return [name for match in matches for name in expand(match)]


def _engine(path: str) -> dict[str, Any]:
    """How to open a file, by its first octets."""
    if "://" in path or Path(path).is_dir():
        # Consolidated metadata saves requests to a remote store; beside zarr 3 it is no standard.
        return {"engine": "zarr", "consolidated": None if "://" in path else False, "chunks": None}
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:3] == b"CDF":
        if start[3] == 5:
            raise InputError(f"{path}: NetCDF-3 with 64-bit data (CDF-5); write it as NetCDF 4")
        return {"engine": "scipy"}
    if start[:4] == b"GRIB":
        return {"engine": "cfgrib", "backend_kwargs": {"indexpath": ""}}
    if start == b"\x89HDF\r\n\x1a\n":
        return {"engine": "h5netcdf"}
    raise InputError(f"{path}: neither zarr, NetCDF nor GRIB")


def open_dataset(path: str) -> xr.Dataset:
    """One store or file, its values read when they are asked for.

    Raises:
        InputError: It can't be read.
    """
    options = _engine(path)
    try:
        try:
            return xr.open_dataset(path, decode_timedelta=True, **options)
        except ValueError as error:
            if "decode" not in str(error):
                raise
            # Times without proper units are named by whoever reads them.
            return xr.open_dataset(path, decode_times=False, **options)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if options["engine"] == "cfgrib" and "cfgrib" in str(error):
            reason = "GRIB needs the extra neural-lam[grib]"
        raise InputError(f"{path}: can't be read ({reason})") from None


def open_store(path: str) -> xr.Dataset:
    """Open one zarr or NetCDF store.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It can't be read.
    """
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such data; `neural-lam example-data` makes some")
    return open_dataset(path)
