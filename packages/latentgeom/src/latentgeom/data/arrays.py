"""Points of users' own files: npz, zarr and csv."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentgeom.shell.configuration import near_miss
from latentgeom.shell.errors import InputError

__all__ = ["read_points"]

_NAMES = ("code", "points")


def _choose(path: Path, names: list[str]) -> str:
    known = [name for name in _NAMES if name in names] or (names if len(names) == 1 else [])
    if known:
        return known[0]
    raise InputError(f"{path}: expected an array named 'code' or 'points', got {names}")


def _npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays[_choose(path, list(arrays.files))])


def _zarr(path: Path) -> np.ndarray:
    import zarr

    group = zarr.open_group(path, mode="r")
    return np.asarray(group[_choose(path, [name for name, _ in group.arrays()])])


def _csv(path: Path) -> np.ndarray:
    with path.open(encoding="utf-8") as file:
        first = file.readline().split(",")
    try:
        header = not [float(word) for word in first]
    except ValueError:
        header = True
    return np.loadtxt(path, delimiter=",", skiprows=int(header), ndmin=2)


_READERS: dict[str, Callable[[Path], np.ndarray]] = {".npz": _npz, ".zarr": _zarr, ".csv": _csv}


def read_points(name: str, dim: int) -> Tensor:
    """Points as rows, in double precision, ``(N, dim)``.

    Arguments:
        name: A csv file (a header line is allowed), or an npz or zarr file with an array
            ``code`` or ``points``, or with only one.
        dim: Number of coordinates expected.

    Raises:
        InputError: The file is missing, unreadable, or holds something else.
    """
    path = Path(name)
    if path.suffix not in _READERS:
        raise InputError(f"{name}: expected .npz, .zarr or .csv{near_miss(path.suffix, _READERS)}")
    if not path.exists():
        raise InputError(f"{name}: no such file")
    try:
        points = np.asarray(_READERS[path.suffix](path), dtype=np.float64)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes its reader say
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name}: not readable as {path.suffix[1:]} ({reason})") from None
    if points.ndim != 2 or points.shape[1] != dim:
        raise InputError(f"{name}: expected points of {dim} coordinates, got shape {points.shape}")
    if not np.isfinite(points).all():
        raise InputError(f"{name}: points must be finite, got NaN or infinity")
    return torch.from_numpy(points)
