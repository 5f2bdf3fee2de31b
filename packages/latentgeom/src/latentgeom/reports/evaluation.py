r"""Scores of a latent geometry, always on codes that training has not seen.

**Distortion** compares the metric that a decoder induces with the chosen one: pointwise by
the spectrum of the relative metric :math:`S(z)`, and at a distance by the ratio of
induced to chosen geodesic distances over pairs,

.. math::

    \mathrm{distortion} = \max_{ij} \frac{d_J(i, j)}{d_h(i, j)}
        \Big/ \min_{ij} \frac{d_J(i, j)}{d_h(i, j)} \ge 1 ,

one exactly for an isometry up to scale on those pairs.

References:
    Sala, De Sa, Gu & Ré (2018), Representation Tradeoffs for Hyperbolic Embeddings,
    arXiv:1804.03329, for the worst-case distortion.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import Metric
from latentgeom.pullback.pullback import Pullback
from latentgeom.shell.showing import in_a_line
from latentgeom.solvers.solver import DEFAULT, Solver

__all__ = [
    "DistortionReport",
    "PrincipalReport",
    "as_metric",
    "distortion",
    "induced_geodesics",
    "principal_report",
    "random_pairs",
]

Decode = Callable[[Tensor], Tensor]
_WORST = 5


class DistortionReport(NamedTuple):
    r"""Induced against chosen metric.

    Arguments:
        condition_median: Median over codes of the longest to the shortest axis of the
            Tissot ellipse, :math:`\sqrt{\lambda_{\max} / \lambda_{\min}}`.
        condition_p95: Its 95th percentile.
        log_scale_sd: Standard deviation over codes of the log of the mean stretch,
            :math:`\log \det S / 2d`.
        correlation: Of chosen with induced geodesic distances.
        correlation_euclidean: Of Euclidean distances of coordinates with induced ones.
        distortion: Largest over smallest ratio of induced to chosen distance.
        distortion_euclidean: The same with Euclidean distances of coordinates.
        ratio_variation: Standard deviation of that ratio over its mean.
        converged: Fraction of induced geodesics that converged; only those are scored.
        num_codes: Codes behind the pointwise numbers.
        num_pairs: Pairs behind the distances.
        worst: Indices of the codes with the largest condition.
    """

    condition_median: float
    condition_p95: float
    log_scale_sd: float
    correlation: float
    correlation_euclidean: float
    distortion: float
    distortion_euclidean: float
    ratio_variation: float
    converged: float
    num_codes: int
    num_pairs: int
    worst: list[int]

    def __str__(self) -> str:
        return in_a_line(self)


def random_pairs(count: int, num_pairs: int, *, generator: torch.Generator) -> Tensor:
    """Pairs of different indices below ``count``, ``(num_pairs, 2)``."""
    if count < 2:
        raise ValueError(f"pairs need at least 2 codes, got {count}")
    first = torch.randint(count, (num_pairs,), generator=generator, device=generator.device)
    shift = torch.randint(1, count, (num_pairs,), generator=generator, device=generator.device)
    return torch.stack([first, (first + shift) % count], -1)


def as_metric(decode: Decode | Metric, dim: int, solver: Solver = DEFAULT) -> Metric:
    """The metric that a decoder induces; a metric is taken as it is."""
    return decode if isinstance(decode, Metric) else Pullback(decode, dim, solver)


def induced_geodesics(
    decode: Decode | Metric,
    metric: Metric,
    a: Tensor,
    b: Tensor,
    num_segments: int = 32,
    memory_gb: float = 1.0,
) -> GeodesicBatch:
    """Geodesics of the decoder's metric, started from those of the chosen one.

    Arguments:
        decode: Map of coordinates to observations, or any metric.
        metric: The chosen metric.
        a: Start points, ``(B, d)``.
        b: End points, ``(B, d)``.
        num_segments: Segments of the curves.
        memory_gb: Memory that the solver of a decoder may take, in gigabytes.
    """
    solver = Solver(num_segments, memory_gb=memory_gb)
    initial = metric.first_curves(a, b, num_segments)
    return as_metric(decode, metric.dim, solver).connect(a, b, num_segments, initial)


def _correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


def _spread(ratio: Tensor) -> float:
    return float(ratio.max() / ratio.min())


class PrincipalReport(NamedTuple):
    """Distances of principal components against the geodesic distances of a decoder.

    Arguments:
        distortion: Largest over smallest ratio of geodesic distance to that of components.
        correlation: Of the two.
        reconstruction: Squared error of the observations from the components.
    """

    distortion: float
    correlation: float
    reconstruction: float

    def __str__(self) -> str:
        return in_a_line(self)


def principal_report(x: Tensor, pairs: Tensor, batch: GeodesicBatch, dim: int) -> PrincipalReport:
    """The baseline that learns nothing: as many principal components as codes have coordinates.

    They are those of the scored observations themselves, which flatters them.

    Arguments:
        x: Observations, ``(N, D)``.
        pairs: Indices of those that the geodesics join, ``(P, 2)``.
        batch: Induced geodesics of the pairs.
        dim: Number of components.
    """
    centred = x - x.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:dim]
    components = centred @ axes.mT
    kept = batch.converged
    straight = (components[pairs[:, 0]] - components[pairs[:, 1]]).norm(dim=-1)[kept]
    induced = batch.length[kept]
    lost = (centred - components @ axes).square().sum(-1).mean()
    return PrincipalReport(
        _spread(induced / straight), _correlation(straight, induced), float(lost)
    )


@torch.no_grad()
def distortion(
    decode: Decode | Metric, metric: Metric, codes: Tensor, batch: GeodesicBatch
) -> DistortionReport:
    """Distortion of the decoder's metric, or of any other, against the chosen one.

    Arguments:
        decode: Map of coordinates to observations, or a metric.
        metric: The chosen metric.
        codes: Held-out codes, ``(N, d)``.
        batch: Induced geodesics between pairs of codes, of :func:`induced_geodesics`.

    Raises:
        ValueError: Fewer than two induced geodesics converged.
    """
    frame = metric.orthonormal_frame(codes)
    relative = frame.mT @ as_metric(decode, metric.dim).lower(codes, frame)
    eigenvalues = torch.linalg.eigvalsh(relative)
    condition = (eigenvalues[:, -1] / eigenvalues[:, 0]).sqrt()
    a, b = batch.points[:, 0], batch.points[:, -1]
    kept = batch.converged
    if int(kept.sum()) < 2:
        raise ValueError(f"only {int(kept.sum())} of {len(kept)} induced geodesics converged")
    induced, chosen = batch.length[kept], metric.dist(a, b)[kept]
    ratio, straight = induced / chosen, (a - b).norm(dim=-1)[kept]
    return DistortionReport(
        condition_median=float(condition.median()),
        condition_p95=float(condition.quantile(0.95)),
        log_scale_sd=float(eigenvalues.log().mean(-1).std() / 2),
        correlation=_correlation(chosen, induced),
        correlation_euclidean=_correlation(straight, induced),
        distortion=_spread(ratio),
        distortion_euclidean=_spread(induced / straight),
        ratio_variation=float(ratio.std() / ratio.mean()),
        converged=float(kept.double().mean()),
        num_codes=len(codes),
        num_pairs=len(a),
        worst=condition.argsort(descending=True)[:_WORST].tolist(),
    )
