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
second order, so that Richardson's extrapolation over :math:`T/2` and :math:`T` applies.  The true
length of the interpolated nodes is compared with it; where both differ there are more
segments, and what still differs has not converged.

References:
    Rygaard & Hauberg (2025), GEORCE: A Fast New Control Algorithm for Computing Geodesics.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.curvature import Field, derivative
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import check_points
from latentgeom.relaxation import curves
from latentgeom.relaxation.block_tridiagonal import factorize, substitute
from latentgeom.relaxation.elements import chords, resampled
from latentgeom.solvers.boundary import check_segments
from latentgeom.solvers.memory import pairs_at_once

__all__ = ["georce"]

_HALVINGS = 12
_SLACK = 16  # units in the last place by which an energy may grow from rounding
_BETWEEN = 8  # samples a segment, at which the true speed is looked at
_GAP_SAFETY, _PATIENCE = 3.0, 1e-2  # of the gap; relative gap above which nothing is settled
_MAX_SEGMENTS = 256
_NEWTON, _STILL = 8, 1e-14  # steps of the polish; relative decrease that ends it
_SETTLED = 1e-6  # relative decrease of the energy still to be expected of a settled curve
_CONJUGATE = 0.12  # last pivot, relative to a flat one's, below which end points are conjugate


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
    slack = _SLACK * torch.finfo(fraction.dtype).eps
    best, energy = controls.steps, controls.energy
    open_ = torch.ones_like(energy, dtype=torch.bool)
    for _ in range(_HALVINGS):
        trial = torch.lerp(controls.steps, target, fraction[:, None, None])
        value = _energies(metric_tensor, a, trial).sum(1)
        accept = open_ & (value <= controls.energy * (1 + slack))
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
    # The full step, not the one that the search has left of it: a halved step is small always.
    size = (target - controls.steps).square().sum((1, 2)) / controls.steps.square().sum((1, 2))
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
        steps_before = controls.steps[active]
        part = _step(metric_tensor, a[active], b[active], _Controls(*(x[active] for x in controls)))
        pairs = zip(controls, part, strict=True)
        controls = _Controls(*(x.index_copy(0, active, y) for x, y in pairs))
        stuck = (part.steps == steps_before).flatten(1).all(1)
        active = active[(part.decrement > tolerance) & ~stuck]
    return controls


def _nodes(a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    inner = a.unsqueeze(1) + steps[:, :-1].cumsum(1)
    return torch.cat([a.unsqueeze(1), inner, b.unsqueeze(1)], 1)


class _Variation(NamedTuple):
    """Newton's step at the inner nodes, and what it says of the curve."""

    step: Tensor
    decrement: Tensor
    minimal: Tensor


def _variation(metric_tensor: Field, nodes: Tensor) -> _Variation:
    """First and second variation of the energy, block tridiagonal in the nodes."""
    d = nodes.shape[-1]

    def energy(ends: Tensor) -> Tensor:
        step, middle = ends[..., d:] - ends[..., :d], (ends[..., d:] + ends[..., :d]) / 2
        return torch.einsum("...i,...ij,...j->...", step, metric_tensor(middle), step)

    segments = torch.cat([nodes[:, :-1], nodes[:, 1:]], -1)
    slope = derivative(energy, segments)
    hessian = derivative(lambda ends: derivative(energy, ends), segments)
    gradient = slope[:, :-1, d:] + slope[:, 1:, :d]
    diagonal = hessian[:, :-1, d:, d:] + hessian[:, 1:, :d, :d]
    bad = ~torch.isfinite(diagonal).flatten(1).all(-1)
    identity = torch.eye(d, dtype=nodes.dtype, device=nodes.device)
    factors = factorize(
        torch.where(bad[:, None, None, None], identity, diagonal), hessian[:, 1:-1, :d, d:]
    )
    pivot = factors.cholesky[-1].diagonal(dim1=-2, dim2=-1).square()
    flat = 4 * metric_tensor(nodes[:, -2]).diagonal(dim1=-2, dim2=-1)
    regular = factors.positive & ~bad
    step = torch.where(regular[:, None, None], -substitute(factors, gradient), 0.0)
    gain = -(step * gradient).sum((1, 2)) / energy(segments).sum(1)
    minimal = regular & ((pivot / flat).amin(-1) > _CONJUGATE)
    return _Variation(step, torch.where(regular, gain, torch.inf), minimal)


def _polished(metric_tensor: Field, nodes: Tensor) -> tuple[Tensor, _Variation]:
    """Newton's method from where the frozen problems have come, and its last verdict."""

    def energy(x: Tensor) -> Tensor:
        return _quadratic(metric_tensor((x[:, 1:] + x[:, :-1]) / 2), x.diff(dim=1)).sum(1)

    variation = _variation(metric_tensor, nodes)
    for _ in range(_NEWTON):
        if bool(((variation.decrement <= _STILL) | ~torch.isfinite(variation.decrement)).all()):
            break
        moved = nodes.clone()
        moved[:, 1:-1] += variation.step
        better = (energy(moved) < energy(nodes)) & (variation.decrement > _STILL)
        if not bool(better.any()):
            break
        nodes = torch.where(better[:, None, None], moved, nodes)
        variation = _variation(metric_tensor, nodes)
    return nodes, variation


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
    memory_gb: float = 1.0,
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
        memory_gb: Memory that the solver may take, in gigabytes; many pairs are solved in parts.

    Returns:
        Curves; lengths are Richardson's.

    References:
        Rygaard & Hauberg (2025), GEORCE: A Fast New Control Algorithm for Computing Geodesics.
    """
    check_segments(a, b, num_segments)
    for name, points in (("a", a), ("b", b)):
        check_points(points, a.shape[-1], name)
    line = torch.stack([a, b], 1) if initial is None else initial
    options = {"tolerance": tolerance, "max_iterations": max_iterations}
    heaviest = partial(_weighed, metric_tensor)
    count = pairs_at_once(metric_tensor, heaviest, a, num_segments, memory_gb)
    batches = [
        _refined(metric_tensor, *part, num_segments, options)
        for part in zip(a.split(count), b.split(count), line.split(count), strict=True)  # type: ignore[no-untyped-call]
    ]
    segments = max(batch.points.shape[1] - 1 for batch in batches)
    batches = [_padded(batch, segments) for batch in batches]
    return GeodesicBatch(*(torch.cat(column) for column in zip(*batches, strict=True)))


def _weighed(metric_tensor: Field, z: Tensor) -> None:
    """What takes most memory a node: the second variation, on curves of two segments."""
    nodes = z.unsqueeze(1) + torch.zeros_like(z).unsqueeze(1).expand(-1, 3, -1)
    _variation(metric_tensor, nodes)


def _padded(batch: GeodesicBatch, num_segments: int) -> GeodesicBatch:
    if batch.points.shape[1] == num_segments + 1:
        return batch
    # Through the nodes as they were read: corners between them would make a longer curve.
    times = torch.linspace(0, 1, num_segments + 1, dtype=torch.float64, device="cpu")
    known = resampled(chords(batch.points.shape[1] - 1, 1), batch.points, times)
    ends = batch.points[:, :1], batch.points[:, -1:]
    return batch._replace(points=torch.cat([ends[0], known[:, 1:-1], ends[1]], 1))


def _refined(
    metric_tensor: Field,
    a: Tensor,
    b: Tensor,
    line: Tensor,
    num_segments: int,
    options: dict[str, float],
) -> GeodesicBatch:
    """Curves on as many segments as it takes to hide nothing between them."""
    batch, gap = _solved(metric_tensor, a, b, line, num_segments, **options)  # type: ignore[arg-type]
    segments = num_segments
    while segments < _MAX_SEGMENTS:
        # More segments where the speed between the nodes isn't what it was taken for.
        rows = (gap > _PATIENCE * batch.length).nonzero().squeeze(-1)
        if rows.numel() == 0:
            break
        segments *= 2
        finer, gaps = _solved(
            metric_tensor,
            a[rows],
            b[rows],
            _start(batch, rows),
            segments,
            **options,  # type: ignore[arg-type]
        )
        settled = bool((gaps <= _PATIENCE * finer.length).any())
        if settled:
            batch = _padded(batch, segments)
        else:
            finer = _padded(finer, batch.points.shape[1] - 1)
        finer = finer._replace(iterations=finer.iterations + batch.iterations[rows])
        pairs = zip(batch, finer, strict=True)
        batch = GeodesicBatch(*(x.index_copy(0, rows, y) for x, y in pairs))
        gap = gap.index_copy(0, rows, gaps)
    return batch


def _start(batch: GeodesicBatch, rows: Tensor) -> Tensor:
    points = batch.points[rows]
    finite = torch.isfinite(points).flatten(1).all(1)[:, None, None]
    line = torch.lerp(
        points[:, :1],
        points[:, -1:],
        torch.linspace(0, 1, points.shape[1], device=points.device).to(points)[:, None],
    )
    return torch.where(finite, points, line)


def _solved(
    metric_tensor: Field,
    a: Tensor,
    b: Tensor,
    line: Tensor,
    num_segments: int,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[GeodesicBatch, Tensor]:
    """Curves on one number of segments, and the gap to their true length."""
    half = curves.resample(line, num_segments // 2)
    coarse = _relax(metric_tensor, a, b, half, tolerance, max_iterations)
    start = curves.prolong(_nodes(a, b, coarse.steps))
    fine = _relax(metric_tensor, a, b, start, tolerance, max_iterations)
    ends = [_polished(metric_tensor, _nodes(a, b, c.steps)) for c in (coarse, fine)]
    short, long = (
        _energies(metric_tensor, a, nodes.diff(dim=1)).sqrt().sum(1) for nodes, _ in ends
    )
    length = long + (long - short) / 3
    nodes, variation = ends[1]
    settled = variation.minimal & (variation.decrement <= _SETTLED)
    settled = settled & (ends[0][1].decrement <= _SETTLED)
    moving = (a != b).any(-1)
    zero = torch.zeros_like(length)
    # Curves that skip a wall look short: the true length is that of the interpolated nodes.
    gap = (_true_length(metric_tensor, nodes) - length).abs().nan_to_num(nan=torch.inf)
    gap = torch.where(moving, gap, zero)
    estimate = (long - short).abs() / 3 + _GAP_SAFETY * gap + _rounding(length, nodes)
    estimate = estimate + length * variation.decrement.clamp(max=1)
    settled = settled & (gap <= _PATIENCE * length) & torch.isfinite(length)
    batch = GeodesicBatch(
        nodes,
        torch.where(moving, length, zero),
        torch.where(moving, estimate, zero),
        settled | ~moving,
        coarse.iterations + fine.iterations,
    )
    return batch, gap


def _rounding(length: Tensor, nodes: Tensor) -> Tensor:
    eps = torch.finfo(length.dtype).eps * nodes.shape[1]
    size: Tensor = torch.linalg.vector_norm(nodes, dim=-1).amax(-1)
    chord = torch.linalg.vector_norm(nodes.diff(dim=1), dim=-1).sum(-1)
    return eps * length * (1 + size / torch.where(chord > 0, chord, 1.0))


def _true_length(metric_tensor: Field, nodes: Tensor) -> Tensor:
    """Length of the curves through the nodes, by the midpoints of many steps."""
    count = nodes.shape[1] - 1
    times = torch.linspace(0, 1, count * _BETWEEN + 1, dtype=torch.float64, device="cpu")
    grid = chords(count, 1)
    points = resampled(grid, nodes, times)
    middles = (points[:, 1:] + points[:, :-1]) / 2
    return _quadratic(metric_tensor(middles), points.diff(dim=1)).clamp(min=0).sqrt().sum(1)
