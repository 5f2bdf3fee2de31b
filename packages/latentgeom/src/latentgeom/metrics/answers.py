r"""What metrics answer: geodesics between many pairs, and means of many points.

Means of metrics whose logarithms are at hand come from Karcher's flow,

.. math:: m \leftarrow \exp_m\Bigl(\tau \sum_k w_k \log_m x_k\Bigr),

the descent of the weighted mean of squared distances :math:`V(m)`, in frames; the step
:math:`\tau` starts at one and is halved where :math:`V` would not fall.

References:
    Karcher (1977), Riemannian Center of Mass and Mollifier Smoothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.shell.showing import in_a_line

__all__ = ["FrechetMean", "GeodesicBatch", "karcher_mean", "normalised"]

_STEPS, _HALVINGS = 500, 40
_PROGRESS = 0.9  # ratio of two squared gradients that counts as descent


class GeodesicBatch(NamedTuple):
    """Curves and what is known about them.

    Arguments:
        points: Nodes at equal steps of time, ``(B, T + 1, n)``.
        length: Lengths, ``(B,)``.
        error_estimate: Estimated absolute error of the lengths, ``(B,)``.
        converged: Whether the curve is a regular minimum of its energy, ``(B,)``; false
            too where the Hessian is singular, as between conjugate points (antipodes).
            The length may then be NaN, where not even a first curve could be drawn.
        iterations: Newton steps over all levels, ``(B,)``.
    """

    points: Tensor
    length: Tensor
    error_estimate: Tensor
    converged: Tensor
    iterations: Tensor

    def __str__(self) -> str:
        return in_a_line(self)


class FrechetMean(NamedTuple):
    """A mean and the geodesics that lead to it.

    Arguments:
        mean: Coordinates, ``(n,)``.
        points: Curves from the data to the mean, ``(K, T + 1, n)``; a solver gives them at
            the times of its elements' nodes.
        variance: Weighted mean of the squared distances.
        converged: Whether a regular minimum was reached.
        iterations: Steps.
    """

    mean: Tensor
    points: Tensor
    variance: Tensor
    converged: bool
    iterations: int

    def __str__(self) -> str:
        return in_a_line(self)


def normalised(points: Tensor, weights: Tensor | None) -> Tensor:
    """Weights that sum to one, equal ones if none.

    Raises:
        ValueError: There isn't one positive number a point.
    """
    weights = torch.ones_like(points[:, 0]) if weights is None else weights.to(points)
    good = weights.shape == points.shape[:1] and bool(((weights > 0) & (weights < torch.inf)).all())
    if len(points) == 0 or not good:
        raise ValueError(
            f"weights must be one positive number a point, got shape {tuple(weights.shape)} for"
            f" {len(points)} points"
        )
    return weights / weights.sum()


def karcher_mean(
    log: Callable[[Tensor, Tensor], Tensor],
    exp: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    weights: Tensor,
    start: Tensor,
    tolerance: float,
) -> tuple[Tensor, Tensor, bool, int]:
    """Mean, variance, whether the flow came to rest, and its steps.

    Arguments:
        log: Frame components of the logarithm.
        exp: Exponential of frame components.
        points: Data, ``(K, d)``.
        weights: Weights that sum to one, ``(K,)``.
        start: First mean, ``(d,)``.
        tolerance: Length of the gradient, relative to the root of the variance, at rest.

    References:
        Afsari, Tron & Vidal (2013), On the Convergence of Gradient Descent for Finding the
        Riemannian Center of Mass.
    """

    def pulled(mean: Tensor) -> tuple[Tensor, Tensor]:
        logs = log(mean.expand_as(points), points)
        return (weights[:, None] * logs).sum(0), (weights * logs.square().sum(-1)).sum()

    mean, step = start, 1.0
    slope, variance = pulled(mean)
    nothing = torch.finfo(points.dtype).tiny
    for count in range(_STEPS):
        if float(slope.square().sum()) <= tolerance**2 * float(variance) + nothing:
            return mean, variance, True, count
        for _ in range(_HALVINGS):
            moved = exp(mean, step * slope)
            slopes, trial = pulled(moved)
            size = float(slope.square().sum())
            shorter = float(slopes.square().sum()) < _PROGRESS * size
            # Where the variance has no digits left to fall by, the gradient itself tells.
            if shorter or float(trial) <= float(variance) - step * size / 4:
                break
            step /= 2
        else:
            rest = torch.finfo(points.dtype).eps ** 0.5
            still = float(slope.square().sum()) <= rest**2 * float(variance)
            return mean, variance, still, count
        mean, slope, variance, step = moved, slopes, trial, min(1.0, 2 * step)
    return mean, variance, False, _STEPS
