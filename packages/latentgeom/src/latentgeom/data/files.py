"""Tables of users' own files: npy, npz, csv, zarr and parquet.

A file holds one array of numbers, an observation a row, and perhaps labels: another array of an
npz or zarr file, or a column of a csv or parquet file. Nothing is dropped without a word: the
first line of a csv file that isn't numbers is taken as names, and told.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentgeom.shell.configuration import near_miss
from latentgeom.shell.errors import InputError

__all__ = ["Table", "check_table", "read_points", "read_table"]

_NAMES = ("code", "points", "x", "X", "data")


class Table(NamedTuple):
    """What a file holds.

    Arguments:
        values: Observations as rows, ``(N, D)``, in double precision.
        labels: Whole numbers, ``(N,)``; zeros where the file has none.
    """

    values: np.ndarray
    labels: np.ndarray


class _Read(NamedTuple):
    values: np.ndarray
    labels: np.ndarray | None = None
    note: str = ""


def _choose(path: Path, names: list[str], labels: str | None) -> str:
    names = [name for name in names if name != labels]
    known = [name for name in _NAMES if name in names] or (names if len(names) == 1 else [])
    if known:
        return known[0]
    if not names:
        raise InputError(f"{path}: no array in it")
    choices = ", ".join(repr(name) for name in names)
    raise InputError(
        f"{path}: several arrays, and none is named 'points': {choices}; save the one that is"
        " meant alone, or under that name"
    )


def _found(path: Path, label: str, names: list[str]) -> str:
    if label not in names:
        raise InputError(f"{path}: no labels {label!r}{near_miss(label, names)}")
    return label


def _npy(path: Path, labels: str | None) -> _Read:
    if labels is not None:
        raise InputError(f"{path}: an npy file has no labels, got {labels!r}")
    return _Read(np.load(path, allow_pickle=False))


def _npz(path: Path, labels: str | None) -> _Read:
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays.files)
        values = np.asarray(arrays[_choose(path, names, labels)])
        return _Read(values, arrays[_found(path, labels, names)] if labels else None)


def _zarr(path: Path, labels: str | None) -> _Read:
    import zarr

    group = zarr.open_group(path, mode="r")
    names = [name for name, _ in group.arrays()]
    values = np.asarray(group[_choose(path, names, labels)])
    return _Read(values, np.asarray(group[_found(path, labels, names)]) if labels else None)


def _parquet(path: Path, labels: str | None) -> _Read:
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path}: parquet files need pyarrow: pip install pyarrow") from None

    table = parquet.read_table(path)
    columns = {name: np.asarray(table[name]) for name in table.column_names}
    return _split(path, columns, labels)


def _split(path: Path, columns: dict[str, np.ndarray], labels: str | None) -> _Read:
    """One column as labels, all others as numbers."""
    label = columns.pop(_found(path, labels, list(columns))) if labels else None
    numbers = []
    for name, column in columns.items():
        try:
            numbers.append(column if np.iscomplexobj(column) else column.astype(np.float64))
        except (TypeError, ValueError):
            raise InputError(f"{path}: column {name!r} isn't numbers: {column[0]!r}") from None
    return _Read(np.stack(numbers, 1), label)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _csv(path: Path, labels: str | None) -> _Read:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise InputError(f"{path}: empty")
    _check_separator(path, rows)
    names = _header(path, rows[0], rows[1:])
    if labels and names:
        _found(path, labels, names)
    body = rows[1:] if names else rows
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    note = f"{path}: line 1 is taken as names of columns: {shown}\n" if names else ""
    names = names or [str(column) for column in range(len(rows[0]))]
    first = len(rows) - len(body) + 1
    for number, row in enumerate(body, first):
        if len(row) != len(names):
            raise InputError(f"{path}: line {number}: {len(row)} entries, expected {len(names)}")
        for name, word in zip(names, row, strict=True):
            if name != labels and not _is_number(word):
                raise InputError(f"{path}: line {number}: {word.strip()!r} is not a number")
    columns = {name: np.array([row[i] for row in body]) for i, name in enumerate(names)}
    return _split(path, columns, labels)._replace(note=note)


def _check_separator(path: Path, rows: list[list[str]]) -> None:
    """Refuse entries that something else than a comma stands between."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        parts = ",".join(rows[-1]).split(separator)
        if len(parts) > 1:
            raise InputError(
                f"{path}: entries are separated by {name}, expected commas (with points, not"
                " commas, in numbers); pandas: read_csv(path, sep="
                f"{separator!r}).to_csv(path, index=False)"
            )


def _header(path: Path, first: list[str], rest: list[list[str]]) -> list[str]:
    """Names of the columns, if the first line is that."""
    words = [word.strip() for word in first]
    numbers = [_is_number(word) for word in words]
    if all(numbers) or not rest:
        return []
    below = [_is_number(word) for word in rest[0]]
    if any(number and under for number, under in zip(numbers, below, strict=False)):
        bad = words[numbers.index(False)]
        if sum(numbers) == sum(below) and len(below) == len(numbers):
            return []  # a column of words, labels perhaps
        raise InputError(f"{path}: line 1: {bad!r} is not a number, and the line is no header")
    if len(set(words)) < len(words):
        raise InputError(f"{path}: line 1: names of columns come twice: {', '.join(words)}")
    return words


_READERS: dict[str, Callable[[Path, str | None], _Read]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".zarr": _zarr,
    ".parquet": _parquet,
}


def _integers(path: Path, labels: np.ndarray | None, count: int) -> np.ndarray:
    """Labels as whole numbers; words are numbered in alphabetical order."""
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    if labels.shape != (count,):
        raise InputError(f"{path}: {count} observations, labels of shape {labels.shape}")
    if np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int64)
    return np.asarray(np.unique(labels.astype(str), return_inverse=True)[1], dtype=np.int64)


def check_table(array: np.ndarray, name: str, width: int | None = None) -> np.ndarray:
    """Rows of real, finite numbers in double precision; further axes are flattened.

    Raises:
        ValueError: The array is something else.
    """
    if np.iscomplexobj(array):
        raise ValueError(f"{name}: complex numbers are refused; give real and imaginary parts")
    real = np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    if not real or array.ndim < 2:
        raise ValueError(
            f"{name}: expected numbers, an observation a row, got {array.dtype} of shape"
            f" {array.shape}"
        )
    if not array.size:
        raise ValueError(f"{name}: nothing in an array of shape {array.shape}")
    values = np.ascontiguousarray(array.reshape(len(array), -1), dtype=np.float64)
    if width is not None and values.shape[1] != width:
        raise ValueError(
            f"{name}: expected points of {width} coordinates, got shape {values.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise ValueError(
            f"{name}: numbers must be finite, got NaN or infinity in {len(bad)} of {len(values)}"
            f" rows, the first is row {bad[0]}"
        )
    return values


def read_table(name: str, labels: str | None = None, width: int | None = None) -> Table:
    """Observations of a file as rows; further axes of an array are flattened.

    Arguments:
        name: An npy, npz, csv, zarr or parquet file.
        labels: Name of the array or column with labels; in a csv file without names its number.
        width: Coordinates expected, if known.

    Raises:
        InputError: The file is missing, unreadable, or holds something else.
    """
    path = Path(name)
    if path.suffix not in _READERS:
        kinds = ".npy, .npz, .csv, .zarr or .parquet"
        raise InputError(f"{name}: expected {kinds}{near_miss(path.suffix, _READERS)}")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{name}: {'not a file' if path.exists() else 'no such file'}")
    try:
        read = _READERS[path.suffix](path, labels)
        real = np.asarray(read.values)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes its reader say
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name}: not readable as {path.suffix[1:]} ({reason})") from None
    try:
        values = check_table(real, name, width)
    except ValueError as error:
        raise InputError(str(error)) from None
    numbers = _integers(path, read.labels, len(values))
    sys.stderr.write(read.note)  # a refused file gets one line, and that is not this one
    return Table(values, numbers)


def read_points(name: str, dim: int) -> Tensor:
    """Points as rows, in double precision, ``(N, dim)``.

    Arguments:
        name: An npy, csv (a header line is allowed) or parquet file, or an npz or zarr file
            with an array ``code`` or ``points``, or with only one.
        dim: Number of coordinates expected.

    Raises:
        InputError: The file is missing, unreadable, or holds something else.
    """
    return torch.from_numpy(read_table(name, width=dim).values)
