"""Where pairs of points are joined: any metric, or an immersion that need not have a chart."""

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import Metric
from latentgeom.solvers.boundary import geodesics, initial_curves

__all__ = ["Space", "bent", "connected", "edge_lengths", "first_curves"]

Space = Metric | Immersion


def connected(
    space: Space, a: Tensor, b: Tensor, num_segments: int | None, initial: Tensor | None = None
) -> GeodesicBatch:
    """Geodesics between ``(B, n)`` points, from given first curves."""
    if isinstance(space, Metric):
        return space.connect(a, b, num_segments, initial)
    return geodesics(space, a, b, num_segments=num_segments or 32, initial=initial)


def first_curves(space: Space, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    """Curves to start from, ``(B, T + 1, n)``."""
    if isinstance(space, Metric):
        return space.first_curves(a, b, num_segments)
    return initial_curves(space, a, b, num_segments)


def bent(space: Space, points: Tensor, step: Tensor) -> Tensor:
    """Points moved by steps ``(..., d)``."""
    return space.bend(points, step) if isinstance(space, Metric) else space.retract(points, step)


@torch.no_grad()
def edge_lengths(space: Space, a: Tensor, b: Tensor) -> Tensor:
    """Lengths of short edges between points ``(N, n)``, ``(N,)``."""
    if isinstance(space, Metric):
        return space.chord(a, b)
    length: Tensor = torch.linalg.vector_norm(space.embed(a) - space.embed(b), dim=-1)
    return length
