"""Verbs that need no trained model: any metric, and points from a file."""

import hashlib
from pathlib import Path

from torch import Tensor

from latentgeom.data.files import read_points
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import Metric
from latentgeom.pairs.distances import chunked, distance_matrix
from latentgeom.reports.evaluation import random_pairs
from latentgeom.reports.storage import geodesics_dataset, write_zarr
from latentgeom.shell.checks import counts
from latentgeom.shell.errors import InputError
from latentgeom.shell.randomness import keyed_generator
from latentgeom.shell.writing import claim

__all__ = ["array_distances", "array_geodesics", "array_plot"]

_AT_ONCE = 10_000  # pairs between two moves of the progress bar
_TOLD = 64  # points at which a metric is told from another


def _read(metric: Metric, points: str) -> Tensor:
    z = read_points(points, metric.dim)
    try:
        return metric.check(z)
    except ValueError as error:
        raise InputError(f"{points}: {error}") from None


def _chosen(metric: Metric, points: str, num_pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    z = _read(metric, points)
    return z, random_pairs(len(z), num_pairs, generator=keyed_generator(seed, 1))


def array_geodesics(
    metric: Metric,
    points: str,
    num_pairs: int = 100,
    num_segments: int = 32,
    seed: int = 0,
    output: str = "out/latentgeom",
) -> None:
    """Geodesics of a metric between random pairs of points; ``geodesics.zarr``.

    Arguments:
        metric: The metric.
        points: File of points: npy, npz, csv, zarr or parquet.
        num_pairs: Random pairs of points to connect.
        num_segments: Segments of the geodesics.
        seed: Seed of the pairs.
        output: Folder of the results.
    """
    counts(num_pairs=num_pairs, num_segments=num_segments)
    claim(Path(output) / "geodesics.zarr")
    z, pairs = _chosen(metric, points, num_pairs, seed)
    a, b = z[pairs[:, 0]], z[pairs[:, 1]]

    def solve(first: Tensor, second: Tensor) -> GeodesicBatch:
        return metric.connect(first, second, num_segments)

    batch = chunked(solve, a, b, _AT_ONCE)
    write_zarr(geodesics_dataset(batch, pairs), Path(output) / "geodesics.zarr")


def array_distances(
    metric: Metric, points: str, chunk: int = 10_000, output: str = "out/latentgeom"
) -> None:
    """Distances between all points; ``distances.zarr``; a stopped run goes on.

    Arguments:
        metric: The metric.
        points: File of points: npy, npz, csv, zarr or parquet.
        chunk: Pairs at a time.
        output: Folder of the results.
    """
    counts(chunk=chunk)
    claim(Path(output) / "distances.zarr")
    z = _read(metric, points)
    # What the metric is at the points themselves: its description need not tell all.
    tensors = metric.metric_tensor(z[:_TOLD]).detach()
    told = hashlib.sha256(tensors.numpy().tobytes()).hexdigest()
    solver = getattr(metric, "solver", None)
    distance_matrix(
        metric.connect,
        z, Path(output) / "distances.zarr", chunk=chunk, settings=f"{metric!r} {told} {solver}",
    )  # fmt: skip


def array_plot(
    metric: Metric,
    points: str,
    num_pairs: int = 12,
    seed: int = 0,
    output: str = "out/latentgeom",
    name: str = "points.png",
) -> None:
    """Draw points on the plane of a metric: volume, geodesics, Tissot indicatrices.

    Arguments:
        metric: The metric, of dimension 2.
        points: File of points: npy, npz, csv, zarr or parquet.
        num_pairs: Geodesics to draw.
        seed: Seed of the pairs.
        output: Folder of the results.
        name: File name of the picture.
    """
    from latentgeom.reports.plots import draw_metric_plane, save

    counts(num_pairs=num_pairs)
    claim(Path(output) / name)
    z, pairs = _chosen(metric, points, num_pairs, seed)
    batch = metric.connect(z[pairs[:, 0]], z[pairs[:, 1]], 64)
    save(draw_metric_plane(metric, z, batch, Path(points).name), Path(output) / name)
