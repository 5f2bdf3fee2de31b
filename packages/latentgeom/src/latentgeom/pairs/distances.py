"""Distances between all pairs of many points: in chunks, under a memory cap, resumable.

The pairs :math:`i < j` are numbered row by row.  Each chunk of them is one chunk of a zarr
array in ``<name>.part``, so that a stopped run loses at most the chunk it was at; the next
run checks that points and settings are the same and goes on.  The finished matrix is moved
to its name.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray
import zarr
from torch import Tensor
from tqdm import tqdm

from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.shell.checks import counts
from latentgeom.shell.writing import resumable, whole

__all__ = ["chunked", "distance_matrix"]

Solve = Callable[[Tensor, Tensor], GeodesicBatch]


def chunked(solve: Solve, a: Tensor, b: Tensor, chunk: int) -> GeodesicBatch:
    """Solve for many pairs, ``chunk`` at a time, with a progress bar when there are several."""
    parts = list(zip(torch.split(a, chunk), torch.split(b, chunk), strict=True))
    bar = tqdm(parts, desc="geodesics", disable=len(parts) < 2)
    batches = [solve(*part) for part in bar]
    return GeodesicBatch(*(torch.cat(column) for column in zip(*batches, strict=True)))


def _pair_indices(count: int, start: int, stop: int) -> np.ndarray:
    """Rows ``i, j`` of the pairs numbered ``start`` to ``stop - 1``, ``(stop - start, 2)``."""
    number = np.arange(start, stop)
    before: np.ndarray = np.cumsum(np.arange(count - 1, 0, -1))
    i: np.ndarray = np.searchsorted(before, number, side="right")
    j = number - (before[i] - (count - 1 - i)) + i + 1
    return np.stack([i, j], -1)


def _fingerprint(points: Tensor, settings: str) -> str:
    digest = hashlib.sha256(points.cpu().numpy().tobytes())
    digest.update(repr((tuple(points.shape), settings)).encode())
    return digest.hexdigest()


def _open(partial: Path, fingerprint: str, total: int, chunk: int) -> zarr.Group:
    """The unfinished run with this fingerprint, or a new one in its place."""
    if partial.exists():
        group = zarr.open_group(partial, mode="a")
        if group.attrs.get("fingerprint") == fingerprint and "done" in group:
            return group
        shutil.rmtree(partial)
    group = zarr.open_group(partial, mode="w")
    group.create_array("length", shape=(total,), chunks=(chunk,), dtype="f8", fill_value=np.nan)
    group.create_array("converged", shape=(total,), chunks=(chunk,), dtype="bool")
    group.create_array("done", shape=(-(-total // chunk),), chunks=(1,), dtype="bool")
    group.attrs["fingerprint"] = fingerprint
    return group


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{name} in {group.store_path} is not an array")
    return array


def distance_matrix(
    solve: Solve, points: Tensor, path: Path, *, chunk: int, settings: str
) -> xarray.Dataset:
    """All distances between points, written to zarr; a stopped run goes on where it was.

    Arguments:
        solve: Geodesics between ``(B, d)`` points.
        points: Points, ``(N, d)``.
        path: Where the matrix goes.
        chunk: Pairs at a time.
        settings: What else the distances depend on, in words.

    Returns:
        ``distance(point, other)`` (NaN where not converged) and ``converged``.
    """
    count = len(points)
    counts(chunk=chunk)
    if count < 2:
        raise ValueError(f"distances need at least 2 points, got {count}")
    total = count * (count - 1) // 2
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    chunk = min(chunk, total)
    group = _open(partial, _fingerprint(points, f"{settings}, {chunk} a chunk"), total, chunk)
    resumable(partial)
    done = np.asarray(group["done"])
    bar = tqdm(total=total, initial=int(done.sum()) * chunk, desc="distances", unit="pair")
    for number in np.flatnonzero(~done).tolist():
        start, stop = number * chunk, min((number + 1) * chunk, total)
        i, j = torch.from_numpy(_pair_indices(count, start, stop)).to(points.device).unbind(-1)
        batch = solve(points[i], points[j])
        _array(group, "length")[start:stop] = batch.length.cpu().numpy()
        _array(group, "converged")[start:stop] = batch.converged.cpu().numpy()
        _array(group, "done")[number : number + 1] = True
        bar.update(stop - start)
    bar.close()
    dataset = _assembled(group, count, total)
    _finish(dataset, partial, path)
    return dataset


def _assembled(group: zarr.Group, count: int, total: int) -> xarray.Dataset:
    i, j = _pair_indices(count, 0, total).T
    converged = np.eye(count, dtype=bool)
    converged[i, j] = converged[j, i] = np.asarray(group["converged"])
    distance = np.zeros((count, count))
    distance[i, j] = distance[j, i] = np.asarray(group["length"])
    distance[~converged] = np.nan
    axes = ("point", "other")
    return xarray.Dataset({"distance": (axes, distance), "converged": (axes, converged)})


def _finish(dataset: xarray.Dataset, partial: Path, path: Path) -> None:
    with whole(path) as matrix:
        dataset.to_zarr(matrix, mode="w", consolidated=False)
    shutil.rmtree(partial)
