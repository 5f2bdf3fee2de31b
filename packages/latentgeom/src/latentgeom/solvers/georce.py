r"""Geodesics of a metric that is known by its tensor alone.

The discrete energy is minimised over the steps :math:`u_i` under :math:`\sum_i u_i = b - a`,

.. math:: E(u) = \sum_i u_i^\top G(m_i)\, u_i, \qquad m_i = a + \sum_{j<i} u_j + \tfrac12 u_i .

Freezing :math:`G_i` and :math:`\nu_i = \partial_m (u_i^\top G(m) u_i)` leaves a linear problem
whose solution needs one sum and one cumulative sum, no loop over nodes:

.. math::

    u_i = -\tfrac12 G_i^{-1} (\mu + g_i), \quad g_i = \tfrac12 \nu_i + \sum_{j>i} \nu_j, \quad
    \mu = -\Bigl(\sum_i G_i^{-1}\Bigr)^{-1} \Bigl(2 (b - a) + \sum_i G_i^{-1} g_i\Bigr) .

Converged curves are checked to be minima: the second variation of the energy, block
tridiagonal in the nodes, has to be positive definite, and no end point conjugate to the other.
A backtracking line search on the energy makes it global.  The midpoint makes the length
second order, so that Richardson's extrapolation over :math:`T/2` and :math:`T` applies.

References:
    Rygaard & Hauberg (2025), GEORCE: A Fast New Control Algorithm for Computing Geodesics.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.curvature import Field, derivative
from latentgeom.metrics.geodesic_batch import GeodesicBatch
from latentgeom.metrics.metric import check_points
from latentgeom.relaxation import curves
from latentgeom.relaxation.block_tridiagonal import factorize
from latentgeom.solvers.boundary import check_segments

__all__ = ["georce"]

_HALVINGS = 12
_CONJUGATE = 0.02  # last pivot, relative to a flat one's, below which end points are conjugate


class _Controls(NamedTuple):
    steps: Tensor
    energy: Tensor
    decrement: Tensor
    iterations: Tensor


def _middles(a: Tensor, steps: Tensor) -> Tensor:
    return a.unsqueeze(1) + steps.cumsum(1) - steps / 2


def _energies(metric_tensor: Field, a: Tensor, steps: Tensor) -> Tensor:
    """Energy of each segment, ``(B, T)``."""
    return _quadratic(metric_tensor(_middles(a, steps)), steps)


def _quadratic(tensor: Tensor, steps: Tensor) -> Tensor:
    energies: Tensor = torch.einsum("bti,btij,btj->bt", steps, tensor, steps)
    return energies


def _target(metric_tensor: Field, a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    """Steps of the frozen problem."""
    middles = _middles(a, steps)
    slope = derivative(lambda m: _quadratic(metric_tensor(m), steps), middles)
    tail = slope.sum(1, keepdim=True) - slope.cumsum(1)
    force = slope / 2 + tail
    inverse = torch.linalg.inv(metric_tensor(middles))
    pushed = (inverse @ force.unsqueeze(-1)).squeeze(-1)
    multiplier = torch.linalg.solve(inverse.sum(1), 2 * (b - a) + pushed.sum(1))
    steps = ((inverse @ multiplier[:, None, :, None]).squeeze(-1) - pushed) / 2
    return steps


def _searched(
    metric_tensor: Field, a: Tensor, controls: _Controls, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Halve the step of the curves whose energy would not fall."""
    fraction = torch.ones_like(controls.energy)
    best, energy = controls.steps, controls.energy
    open_ = torch.ones_like(energy, dtype=torch.bool)
    for _ in range(_HALVINGS):
        trial = torch.lerp(controls.steps, target, fraction[:, None, None])
        value = _energies(metric_tensor, a, trial).sum(1)
        accept = open_ & (value <= controls.energy)
        best = torch.where(accept[:, None, None], trial, best)
        energy = torch.where(accept, value, energy)
        open_ = open_ & ~accept
        if not bool(open_.any()):
            break
        fraction = torch.where(open_, fraction / 2, fraction)
    return best, energy


def _step(metric_tensor: Field, a: Tensor, b: Tensor, controls: _Controls) -> _Controls:
    target = _target(metric_tensor, a, b, controls.steps)
    steps, energy = _searched(metric_tensor, a, controls, target)
    size = (steps - controls.steps).square().sum((1, 2)) / steps.square().sum((1, 2))
    return _Controls(steps, energy, size, controls.iterations + 1)


def _relax(
    metric_tensor: Field, a: Tensor, b: Tensor, nodes: Tensor, tolerance: float, max_iterations: int
) -> _Controls:
    steps = nodes.diff(dim=1)
    energy = _energies(metric_tensor, a, steps).sum(1)
    unknown, count = torch.full_like(energy, torch.inf), torch.zeros_like(energy, dtype=torch.long)
    controls = _Controls(steps, energy, unknown, count)
    active = ((energy > 0) & torch.isfinite(energy)).nonzero().squeeze(-1)
    for _ in range(max_iterations):
        if active.numel() == 0:
            break
        part = _step(metric_tensor, a[active], b[active], _Controls(*(x[active] for x in controls)))
        pairs = zip(controls, part, strict=True)
        controls = _Controls(*(x.index_copy(0, active, y) for x, y in pairs))
        active = active[part.decrement > tolerance]
    return controls


def _nodes(a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    inner = a.unsqueeze(1) + steps[:, :-1].cumsum(1)
    return torch.cat([a.unsqueeze(1), inner, b.unsqueeze(1)], 1)


def _second_variation(metric_tensor: Field, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of the Hessian of the energy at the inner nodes, diagonal and upper."""
    d = nodes.shape[-1]

    def energy(ends: Tensor) -> Tensor:
        step, middle = ends[..., d:] - ends[..., :d], (ends[..., d:] + ends[..., :d]) / 2
        return torch.einsum("...i,...ij,...j->...", step, metric_tensor(middle), step)

    segments = torch.cat([nodes[:, :-1], nodes[:, 1:]], -1)
    hessian = derivative(lambda ends: derivative(energy, ends), segments)
    diagonal = hessian[:, :-1, d:, d:] + hessian[:, 1:, :d, :d]
    return diagonal, hessian[:, 1:-1, :d, d:]


def _is_minimal(metric_tensor: Field, nodes: Tensor) -> Tensor:
    """Whether the second variation is positive definite and far enough from singular."""
    diagonal, upper = _second_variation(metric_tensor, nodes)
    bad = ~torch.isfinite(diagonal).flatten(1).all(-1)
    identity = torch.eye(nodes.shape[-1], dtype=nodes.dtype, device=nodes.device)
    factors = factorize(torch.where(bad[:, None, None, None], identity, diagonal), upper)
    pivot = factors.cholesky[-1].diagonal(dim1=-2, dim2=-1).square()
    flat = 4 * metric_tensor(nodes[:, -2]).diagonal(dim1=-2, dim2=-1)
    return factors.positive & ~bad & ((pivot / flat).amin(-1) > _CONJUGATE)


@torch.no_grad()
def georce(
    metric_tensor: Field,
    a: Tensor,
    b: Tensor,
    *,
    num_segments: int = 32,
    tolerance: float = 1e-16,
    max_iterations: int = 200,
    initial: Tensor | None = None,
) -> GeodesicBatch:
    """Geodesics of a metric tensor field, all pairs at once.

    Arguments:
        metric_tensor: Field ``(..., d) -> (..., d, d)``, symmetric positive definite.
        a: Start points, ``(B, d)``.
        b: End points, ``(B, d)``.
        num_segments: Segments of the curves, a multiple of 4 and at least 8.
        tolerance: Largest squared relative change of the steps still to be expected.
        max_iterations: Iterations per level.
        initial: Curves to start from, ``(B, S + 1, d)``; straight lines if none.

    Returns:
        Curves; lengths are Richardson's.
    """
    check_segments(a, b, num_segments)
    for name, points in (("a", a), ("b", b)):
        check_points(points, a.shape[-1], name)
    line = torch.stack([a, b], 1) if initial is None else initial
    half = curves.resample(line, num_segments // 2)
    coarse = _relax(metric_tensor, a, b, half, tolerance, max_iterations)
    start = curves.prolong(_nodes(a, b, coarse.steps))
    fine = _relax(metric_tensor, a, b, start, tolerance, max_iterations)
    short, long = (_energies(metric_tensor, a, c.steps).sqrt().sum(1) for c in (coarse, fine))
    length = long + (long - short) / 3
    moving = fine.energy != 0
    settled = (fine.decrement <= tolerance) & (coarse.decrement <= tolerance)
    nodes, zero = _nodes(a, b, fine.steps), torch.zeros_like(length)
    settled = settled & torch.isfinite(length) & _is_minimal(metric_tensor, nodes)
    return GeodesicBatch(
        nodes,
        torch.where(moving, length, zero),
        torch.where(moving, (long - short).abs() / 3, zero),
        settled | ~moving,
        coarse.iterations + fine.iterations,
    )
