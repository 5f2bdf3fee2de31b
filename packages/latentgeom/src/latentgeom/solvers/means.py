r"""Fréchet means under the metric of a map, or of any other, solved together with their geodesics.

The weighted mean minimises :math:`\sum_k w_k d(m, x_k)^2`.  With the squared distances as
discrete energies all curves share their last node :math:`m`:

.. math:: \min_{m, \{z\}} \sum_k w_k \int_0^1 |\tfrac{d}{dt} f(z_k)|^2 \, dt, \quad z_k(1) = m .

One Newton step eliminates each chain of polynomial elements from its data end, adds the Schur
complements up at :math:`m`, and substitutes back: the cost of the geodesics alone, no inner loop.

References:
    Karcher (1977), Riemannian Center of Mass and Mollifier Smoothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion, hessian, jacobian
from latentgeom.metrics.answers import FrechetMean, normalised
from latentgeom.metrics.metric import Metric, check_points
from latentgeom.relaxation.block_tridiagonal import Factorization, eliminate, factorize
from latentgeom.relaxation.elements import Grid
from latentgeom.relaxation.newton import assemble, by_element, diagonal_mass
from latentgeom.solvers.boundary import check_segments, polynomial_grid
from latentgeom.solvers.memory import pairs_at_once
from latentgeom.solvers.reader import Reader
from latentgeom.solvers.refinement import PATIENCE

__all__ = ["frechet_mean"]

_MAX_SEGMENTS = 256


class _Star(NamedTuple):
    """Chains of elements whose last node is shared, weighted."""

    gradient: Tensor
    diagonal: Tensor
    gauss_newton: Tensor
    mass: Tensor
    upper: Tensor


class _Chains(NamedTuple):
    """Chains with their last node held: factors, coupling to it, and what is left for it."""

    factors: Factorization
    link: Tensor
    schur: Tensor
    right: Tensor


def _system(immersion: Immersion, grid: Grid, nodes: Tensor, weights: Tensor) -> _Star:
    image, columns = jacobian(immersion, nodes[:, 1:])
    image = torch.cat([immersion.embed(nodes[:, :1]), image], 1)
    force = grid.pull(image)[:, 1:]
    gauss_newton, upper = assemble(grid, columns)
    bend = by_element(grid, hessian(immersion, nodes[:, 1:], force))
    gradient = (columns.mT @ force.unsqueeze(-1)).reshape(*gauss_newton.shape[:3])
    w = weights[:, None, None, None]
    mass = diagonal_mass(grid, gauss_newton, immersion.dim)
    return _Star(
        w[..., 0] * gradient, w * (gauss_newton + bend), w * gauss_newton, w * mass, w * upper
    )


def _chains(diagonal: Tensor, star: _Star, d: int) -> _Chains:
    """Eliminate all nodes but the shared one; its Schur complement and right-hand side."""
    inner, upper = diagonal.clone(), star.upper.clone()
    link = torch.zeros_like(inner[..., :d])
    link[:, -1, :-d] = inner[:, -1, :-d, -d:]
    own = inner[:, -1, -d:, -d:].clone()
    inner[:, -1, -d:], inner[:, -1, :, -d:] = 0.0, 0.0
    inner[:, -1].diagonal(dim1=-2, dim2=-1)[:, -d:] = 1.0
    if upper.shape[1]:
        link[:, -2] = upper[:, -1, :, -d:]
        upper[:, -1, :, -d:] = 0.0
    right = -star.gradient.clone()
    right[:, -1, -d:] = 0.0
    factors = factorize(inner, upper)
    solved = _solved(factors, torch.cat([link, right.unsqueeze(-1)], -1))
    pulled = torch.einsum("kepi,kepj->kij", link, solved)
    schur = (own - pulled[..., :d]).sum(0)
    return _Chains(factors, link, schur, -(star.gradient[:, -1, -d:] + pulled[..., d]).sum(0))


def _solved(factors: Factorization, sides: Tensor) -> Tensor:
    """Chains solved for several right-hand sides, ``(K, E, p d, k)``."""
    solved = eliminate(factors, sides)
    for i in range(len(factors.coupling) - 1, -1, -1):
        solved[i] = solved[i] - factors.coupling[i] @ solved[i + 1]
    return torch.stack(solved, 1)


def _step(star: _Star, damping: float, d: int) -> tuple[Tensor, bool]:
    """Newton's step of all nodes, ``(K, N, d)``; Gauss-Newton's where that is indefinite."""
    for diagonal in (star.diagonal, star.gauss_newton):
        chains = _chains(diagonal + damping * star.mass, star, d)
        factor, info = torch.linalg.cholesky_ex(chains.schur)
        if bool(chains.factors.positive.all()) and int(info) == 0:
            break
    else:
        return torch.zeros_like(star.gradient).reshape(len(star.gradient), -1, d), False
    shared = torch.cholesky_solve(chains.right.unsqueeze(-1), factor).squeeze(-1)
    sides = -star.gradient - chains.link @ shared
    sides[:, -1, -d:] = shared
    step = _solved(chains.factors, sides.unsqueeze(-1)).reshape(len(sides), -1, d)
    return step, diagonal is star.diagonal


def _start(immersion: Immersion, points: Tensor, weights: Tensor, times: Tensor) -> Tensor:
    centre = immersion.projx((weights[:, None] * points).sum(0) / weights.sum())
    nodes = immersion.projx(torch.lerp(points.unsqueeze(1), centre, times[:, None]))
    return torch.cat([points.unsqueeze(1), nodes[:, 1:-1], centre.expand_as(nodes[:, -1:])], 1)


@torch.no_grad()
def frechet_mean(
    space: Immersion | Metric,
    points: Tensor,
    weights: Tensor | None = None,
    *,
    num_segments: int = 16,
    tolerance: float = 1e-14,
    max_iterations: int = 100,
    memory_gb: float = 1.0,
) -> FrechetMean:
    """Weighted Fréchet mean of points.

    Where the curves hide something between their nodes there are more segments, up to 256.  All
    geodesics share their last node, so that they can't be solved in parts: points whose
    geodesics together don't fit into memory are refused.

    Arguments:
        space: Any metric, or an immersion.
        points: Data, ``(K, n)``.
        weights: Positive weights, ``(K,)``; equal ones if none.
        num_segments: Segments of each geodesic, a multiple of 4 and at least 8.
        tolerance: Largest relative decrease of the energy still to be expected.
        max_iterations: Newton steps.
        memory_gb: Memory that the geodesics of an immersion may take together, in gigabytes.

    Raises:
        ValueError: They take more.

    References:
        Karcher (1977), Riemannian Center of Mass and Mollifier Smoothing.
    """
    if isinstance(space, Metric):
        return space.mean(points, weights)
    immersion = space
    check_points(points, immersion.num_coordinates)
    immersion.check(points, "points")
    weights = normalised(points, weights)
    check_segments(points, points, num_segments)
    _check_memory(immersion, points, num_segments, memory_gb)
    options = {"tolerance": tolerance, "max_iterations": max_iterations}
    found, certain = _mean(immersion, points, weights, num_segments, **options)  # type: ignore[arg-type]
    while not certain and 2 * num_segments <= _MAX_SEGMENTS:
        num_segments *= 2
        if _fitting(immersion, points, num_segments, memory_gb) < len(points):
            break  # what is found stays uncertain
        found, certain = _mean(immersion, points, weights, num_segments, **options)  # type: ignore[arg-type]
    return found._replace(converged=found.converged and certain)


def _fitting(immersion: Immersion, points: Tensor, num_segments: int, memory_gb: float) -> int:
    def heaviest(x: Tensor) -> object:
        return jacobian(immersion, x)

    return pairs_at_once(immersion, heaviest, points, num_segments, memory_gb)


def _check_memory(
    immersion: Immersion, points: Tensor, num_segments: int, memory_gb: float
) -> None:
    fitting = _fitting(immersion, points, num_segments, memory_gb)
    if fitting < len(points):
        raise ValueError(
            f"{len(points)} geodesics of {num_segments} segments don't fit into memory_gb="
            f"{memory_gb}, {fitting} do; allow more memory, or take fewer segments or points"
        )


def _mean(
    immersion: Immersion,
    points: Tensor,
    weights: Tensor,
    num_segments: int,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[FrechetMean, bool]:
    """The mean on one number of segments, and whether its curves hide nothing."""
    grid = polynomial_grid(immersion, num_segments).to(points)
    nodes = _start(immersion, points, weights, grid.times)
    total = _total(immersion, grid, nodes, weights)
    nothing = _rounding(immersion.embed(nodes)) ** 2
    damping, regular, decrement = 0.0, True, float("inf")
    iterations = 0
    while iterations < max_iterations and decrement > tolerance and float(total) > nothing:
        iterations += 1
        star = _system(immersion, grid, nodes, weights)
        step, regular = _step(star, damping, immersion.dim)
        moved = _moved(immersion, nodes, step)
        trial = _total(immersion, grid, moved, weights)
        if float(trial) <= float(total) * (1 + 1e-14) and bool(torch.isfinite(trial)):
            decrement = _decrement(star, step) / max(float(total), 1e-300)
            nodes, total, damping = moved, trial, damping / 10
        else:
            damping = max(10 * damping, 1e-3)
    converged = (decrement <= tolerance or float(total) <= nothing) and regular
    found = FrechetMean(nodes[0, -1], nodes, 2 * total, converged, iterations)
    image = immersion.embed(nodes)
    length = (2 * grid.energy(image)).sqrt()
    gap = Reader(immersion, grid, nodes, image, length).gap
    certain = (2 * gap <= PATIENCE * length + _rounding(image)) & torch.isfinite(length)
    return found, bool(certain.all())


def _rounding(image: Tensor) -> float:
    """What the images' rounding makes of a length."""
    size = float(torch.linalg.vector_norm(image, dim=-1).max())
    return 4 * torch.finfo(image.dtype).eps * image.shape[1] * size


def _total(immersion: Immersion, grid: Grid, nodes: Tensor, weights: Tensor) -> Tensor:
    return (weights * grid.energy(immersion.embed(nodes))).sum()


def _moved(immersion: Immersion, nodes: Tensor, step: Tensor) -> Tensor:
    return torch.cat([nodes[:, :1], immersion.retract(nodes[:, 1:], step)], 1)


def _decrement(star: _Star, step: Tensor) -> float:
    """Predicted decrease of the energy; the shared end counts once a chain, as its shares do."""
    return -float((star.gradient.reshape(step.shape) * step).sum())
