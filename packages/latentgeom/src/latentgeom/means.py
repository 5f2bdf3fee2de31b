r"""Fréchet means under the metric of a map, solved together with their geodesics.

The weighted mean minimises :math:`\sum_k w_k d(m, x_k)^2`.  With the squared distances as
discrete energies all curves share their last node :math:`m`:

.. math:: \min_{m, \{z\}} \sum_k w_k \sum_i |f(z_{k,i+1}) - f(z_{k,i})|^2, \quad z_{k,T} = m .

One Newton step eliminates each chain from its data end, adds the Schur complements up at
:math:`m`, and substitutes back: the cost of the geodesics alone, no inner loop.

References:
    Karcher (1977), Riemannian Center of Mass and Mollifier Smoothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom import curves
from latentgeom.block_tridiagonal import Factorization, eliminate, factorize
from latentgeom.immersion import Immersion, hessian, jacobian
from latentgeom.metric import check_points

__all__ = ["FrechetMean", "frechet_mean"]


class FrechetMean(NamedTuple):
    """A mean and the geodesics that lead to it.

    Arguments:
        mean: Coordinates, ``(n,)``.
        points: Curves from the data to the mean, ``(K, T + 1, n)``.
        variance: Weighted mean of the squared distances.
        converged: Whether a regular minimum was reached.
        iterations: Newton steps.
    """

    mean: Tensor
    points: Tensor
    variance: Tensor
    converged: bool
    iterations: int


class _Star(NamedTuple):
    gradient: Tensor
    diagonal: Tensor
    gauss_newton: Tensor
    upper: Tensor


def _system(immersion: Immersion, nodes: Tensor, weights: Tensor) -> _Star:
    """Chains of inner nodes and the shared end, weighted; the end's blocks are its shares."""
    image, columns = jacobian(immersion, nodes[:, 1:])
    image = torch.cat([immersion.embed(nodes[:, :1]), image], 1)
    inner = -curves.second_difference(image)
    last = (image[:, -1] - image[:, -2]).unsqueeze(1)
    force = torch.cat([inner, last], 1)
    mass = columns.mT @ columns
    twice = torch.cat([2 * mass[:, :-1], mass[:, -1:]], 1)
    bend = hessian(immersion, nodes[:, 1:], force)
    gradient = (columns.mT @ force.unsqueeze(-1)).squeeze(-1)
    w = weights[:, None, None, None]
    upper = -columns[:, :-1].mT @ columns[:, 1:]
    return _Star(w[..., 0] * gradient, w * (twice + bend), w * twice, w * upper)


def _chains(diagonal: Tensor, star: _Star) -> tuple[Factorization, Tensor, Tensor]:
    """Factor the inner chains; the Schur complement and right-hand side left at the mean."""
    factors = factorize(diagonal[:, :-1], star.upper[:, :-1])
    link = star.upper[:, -1]
    size = link.shape[-1]
    sides = torch.zeros(*diagonal.shape[:1], diagonal.shape[1] - 1, size, size + 1).to(diagonal)
    sides[:, -1, :, :size] = link
    sides[..., size] = -star.gradient[:, :-1]
    solved = eliminate(factors, sides)[-1]
    shares = diagonal[:, -1] - link.mT @ solved[..., :size]
    right = -star.gradient[:, -1] - (link.mT @ solved[..., size:]).squeeze(-1)
    return factors, shares.sum(0), right.sum(0)


def _step(star: _Star, damping: float) -> tuple[Tensor, bool]:
    """Newton's step of all nodes, ``(K, T, d)``; Gauss-Newton's where that is indefinite."""
    for diagonal in (star.diagonal, star.gauss_newton):
        damped = diagonal + damping * star.gauss_newton
        factors, schur, right = _chains(damped, star)
        factor, info = torch.linalg.cholesky_ex(schur)
        if bool(factors.positive.all()) and int(info) == 0:
            break
    else:
        return torch.zeros_like(star.gradient), False
    shared = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
    sides = -star.gradient[:, :-1].unsqueeze(-1)
    sides = sides.clone()
    sides[:, -1] -= star.upper[:, -1] @ shared.unsqueeze(-1)
    inner = eliminate(factors, sides)
    for i in range(len(factors.coupling) - 1, -1, -1):
        inner[i] = inner[i] - factors.coupling[i] @ inner[i + 1]
    step = torch.cat([torch.stack(inner, 1).squeeze(-1), shared.expand(len(damped), 1, -1)], 1)
    return step, diagonal is star.diagonal


def _start(immersion: Immersion, points: Tensor, weights: Tensor, num_segments: int) -> Tensor:
    centre = immersion.projx((weights[:, None] * points).sum(0) / weights.sum())
    t = torch.linspace(0, 1, num_segments + 1, dtype=points.dtype, device=points.device)
    nodes = immersion.projx(torch.lerp(points.unsqueeze(1), centre, t[:, None]))
    return torch.cat([points.unsqueeze(1), nodes[:, 1:-1], centre.expand_as(nodes[:, -1:])], 1)


@torch.no_grad()
def frechet_mean(
    immersion: Immersion,
    points: Tensor,
    weights: Tensor | None = None,
    *,
    num_segments: int = 16,
    tolerance: float = 1e-14,
    max_iterations: int = 100,
) -> FrechetMean:
    """Weighted Fréchet mean of points under the metric that ``immersion`` induces.

    Arguments:
        immersion: Map into Euclidean space.
        points: Data, ``(K, n)``.
        weights: Positive weights, ``(K,)``; equal ones if none.
        num_segments: Segments of each geodesic; the mean is of second order in them.
        tolerance: Largest relative decrease of the energy still to be expected.
        max_iterations: Newton steps.
    """
    check_points(points, immersion.num_coordinates)
    immersion.check(points, "points")
    weights = torch.ones_like(points[:, 0]) if weights is None else weights
    if weights.shape != points.shape[:1] or not bool((weights > 0).all()):
        raise ValueError("weights must be one positive number a point")
    weights = weights / weights.sum()
    nodes = _start(immersion, points, weights, num_segments)
    total = _total(immersion, nodes, weights)
    damping, regular, decrement = 0.0, True, float("inf")
    iterations = 0
    while iterations < max_iterations and decrement > tolerance and float(total) > 0:
        iterations += 1
        star = _system(immersion, nodes, weights)
        step, regular = _step(star, damping)
        moved = _moved(immersion, nodes, step)
        trial = _total(immersion, moved, weights)
        if float(trial) <= float(total) * (1 + 1e-14) and bool(torch.isfinite(trial)):
            decrement = _decrement(star, step) / max(float(total), 1e-300)
            nodes, total, damping = moved, trial, damping / 10
        else:
            damping = max(10 * damping, 1e-3)
    converged = (decrement <= tolerance or float(total) == 0) and regular
    variance = 2 * num_segments * total
    return FrechetMean(nodes[0, -1], nodes, variance, converged, iterations)


def _total(immersion: Immersion, nodes: Tensor, weights: Tensor) -> Tensor:
    return (weights * curves.energy(immersion.embed(nodes))).sum()


def _moved(immersion: Immersion, nodes: Tensor, step: Tensor) -> Tensor:
    return torch.cat([nodes[:, :1], immersion.retract(nodes[:, 1:], step)], 1)


def _decrement(star: _Star, step: Tensor) -> float:
    """Predicted decrease of the energy; the shared end counts once a chain, as its shares do."""
    return -float((star.gradient * step).sum())
