r"""Geodesics between given end points, all pairs at once.

Straight lines in the coordinates, curves along the data or earlier solutions are relaxed
(:mod:`latentgeom.relaxation.newton`) on three levels, each starting from the one before: chords
on a quarter of the segments, by Gauss-Newton; chords on half of them; and the last level, which is

- the **polish**: polynomial elements of degree :math:`p`, whose energy is of order
  :math:`2p`, or
- chords again, with **Richardson**'s extrapolation :math:`(4 L_T - L_{T/2}) / 3`.

Lengths are :math:`\sqrt{2 E}`: the energy is stationary at a geodesic, so that errors of the
nodes enter squared.  The **error estimate** adds up what the discretisation left out, by the
energy in the two highest modes of all elements (for chords by the change of the length
between the levels), what another step might bring, rounding, and twice the **gap**: the
difference between the true length of the curve and the length that was supposed, on samples
between the nodes (:mod:`latentgeom.relaxation.samples`).  Where the gap is no small part of the
length, or no level settled, the curve is pulled tight as a string
(:mod:`latentgeom.solvers.strings`) on more and more segments; what then still differs has not
converged.

References:
    Arvanitidis, Hansen & Hauberg (2018), Latent Space Oddity, for the energy;
    Deville, Fischer & Mund (2002), High-Order Methods for Incompressible Fluid Flow.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion, jacobian
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import check_points
from latentgeom.relaxation import curves
from latentgeom.relaxation.elements import Grid, chords, lobatto, resampled
from latentgeom.relaxation.newton import MAX_FORMED, Outcome, relax, verified
from latentgeom.relaxation.samples import drawn, retimed, shorter
from latentgeom.solvers.grid_paths import grid_paths, has_grid
from latentgeom.solvers.memory import pairs_at_once
from latentgeom.solvers.reader import Reader
from latentgeom.solvers.refinement import CONJUGATE, PATIENCE, refined

__all__ = ["check_segments", "geodesics", "initial_curves", "polynomial_grid"]

_LOOSE = 1e-3  # decrement at which a coarse curve is prolonged
_BLOCK, _POLISH_BLOCK, _DEGREE = 24, 80, 16  # unknowns and segments of an element, at most
_LEAST_DEGREE = 8  # of polynomial elements, whatever their block
_MANY = 20  # coordinates from which Jacobians cost so much that the highest degree is cheap
_SAFETY = 4.0  # of the truncated energy
_ROUNDING = 4.0  # units in the last place of the images, a node
_GAP_SAFETY = 2.0
_JUMP = 1e-4  # change of the length between levels, relative to it, that more segments explain
_MILD = 0.2  # gap, relative to the length, at which twice the segments may do
_BETTER = 0.9  # share of a curve's length below which a path on a grid replaces it
_LINE = 32  # samples a segment of the curves that a refinement starts from


class _Settings(NamedTuple):
    num_segments: int
    polish: bool
    tolerance: float
    max_iterations: int
    may_double: bool = True


class _Level(NamedTuple):
    grid: Grid
    outcome: Outcome

    @property
    def length(self) -> Tensor:
        return (2 * self.outcome.energy).sqrt()


def initial_curves(immersion: Immersion, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    """Straight lines in the coordinates, projected, ``(B, T + 1, n)``."""
    return _pinned(immersion, curves.straight(a, b, num_segments), a, b)


def _pinned(immersion: Immersion, nodes: Tensor, a: Tensor, b: Tensor) -> Tensor:
    inner = immersion.projx(nodes[..., 1:-1, :])
    return torch.cat([a.unsqueeze(-2), inner, b.unsqueeze(-2)], -2)


def _divisor(number: int, largest: int) -> int:
    return max(k for k in range(1, max(largest, 1) + 1) if number % k == 0)


def _chords(immersion: Immersion, num_segments: int) -> Grid:
    return chords(num_segments, _divisor(num_segments, _BLOCK // immersion.dim))


def polynomial_grid(immersion: Immersion, num_segments: int) -> Grid:
    """Polynomial elements of the highest degree that blocks of moderate size allow."""
    formed = max(_POLISH_BLOCK // immersion.dim, _LEAST_DEGREE)
    largest = min(formed if immersion.dim < _MANY else _DEGREE, _DEGREE)
    return lobatto(num_segments, _divisor(num_segments, largest))


def check_segments(a: Tensor, b: Tensor, num_segments: int) -> None:
    """Refuse end points of different shapes and unusable numbers of segments."""
    if num_segments < curves.MIN_SEGMENTS or num_segments % 4:
        raise ValueError(f"num_segments must be a multiple of 4 from 8 on, got {num_segments}")
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"end points must be (B, n) twice, got {(*a.shape,)} and {(*b.shape,)}")


def _check(immersion: Immersion, a: Tensor, b: Tensor, num_segments: int) -> None:
    check_segments(a, b, num_segments)
    for name, points in (("a", a), ("b", b)):
        check_points(points, immersion.num_coordinates, name)
        immersion.check(points, name)
    immersion.look(a, b)


@torch.no_grad()
def geodesics(
    immersion: Immersion,
    a: Tensor,
    b: Tensor,
    *,
    num_segments: int = 32,
    polish: bool = True,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
    initial: Tensor | None = None,
    memory_gb: float = 1.0,
) -> GeodesicBatch:
    """Geodesics of the metric that ``immersion`` induces.

    Coinciding end points give length zero.  Beyond the cut locus the minimum found is the
    one that the initial curve leads to; see :func:`latentgeom.spread`.

    Arguments:
        immersion: Map into Euclidean space.
        a: Start points, ``(B, n)``.
        b: End points, ``(B, n)``.
        num_segments: Segments ``T`` of the curves, a multiple of 4 and at least 8.
        polish: Finish on polynomial elements; without it the length is Richardson's.
        tolerance: Largest relative decrease of the energy still to be expected.
        max_iterations: Newton steps per level.
        initial: Curves to start from, ``(B, S + 1, n)`` with any ``S``; straight lines if none.
        memory_gb: Memory that the solver may take, in gigabytes; many pairs are solved in parts.

    Returns:
        Curves with lengths, error estimates and flags.
    """
    _check(immersion, a, b, num_segments)
    settings = _Settings(num_segments, polish, tolerance, max_iterations)
    count = pairs_at_once(immersion, _heaviest(immersion), a, num_segments, memory_gb)
    parts = []
    moving = (a != b).any(-1).nonzero().squeeze(-1)
    for rows in moving.split(count) if len(moving) else ():  # type: ignore[no-untyped-call]
        first = None if initial is None else initial[rows]
        parts.append((rows, _solve(immersion, a[rows], b[rows], first, settings)))
    segments = max([num_segments, *(part.points.shape[1] - 1 for _, part in parts)])
    batch = _resting(a, segments)
    for rows, part in parts:
        part = part._replace(points=_at(immersion, part.points, segments))
        batch = GeodesicBatch(*(x.index_copy(0, rows, y) for x, y in zip(batch, part, strict=True)))
    return batch


def _at(immersion: Immersion, points: Tensor, num_segments: int) -> Tensor:
    """Curves at another number of equal steps."""
    if points.shape[1] == num_segments + 1:
        return points
    times = torch.linspace(0, 1, num_segments + 1, dtype=torch.float64, device="cpu")
    known = resampled(chords(points.shape[1] - 1, 1), points, times)
    return _pinned(immersion, known, points[:, 0], points[:, -1])


def _resting(a: Tensor, num_segments: int) -> GeodesicBatch:
    """Curves that stay where they are."""
    zero = torch.zeros_like(a[:, 0])
    points = a.unsqueeze(1).expand(-1, num_segments + 1, -1).clone()
    return GeodesicBatch(points, zero, zero.clone(), zero == 0, zero.long())


def _heaviest(immersion: Immersion) -> Callable[[Tensor], object]:
    """What takes most memory a node: images with Jacobians, in many dimensions images alone."""
    if immersion.dim > MAX_FORMED:
        return immersion.embed
    return lambda x: jacobian(immersion, x)


def _solve(
    immersion: Immersion, a: Tensor, b: Tensor, initial: Tensor | None, settings: _Settings
) -> GeodesicBatch:
    segments = settings.num_segments
    grid = _chords(immersion, segments // 4)
    if initial is None:
        nodes = initial_curves(immersion, a, b, segments // 4)
    else:
        nodes = _pinned(immersion, curves.resample(initial, segments // 4), a, b)
    coarse = _level(immersion, grid, nodes, settings._replace(tolerance=_LOOSE), newton=False)
    grid = _chords(immersion, segments // 2)
    nodes = _read(immersion, coarse, grid.times, a, b)
    enough = settings._replace(tolerance=_LOOSE) if settings.polish else settings
    middle = _level(immersion, grid, nodes, enough)
    grid = polynomial_grid(immersion, segments) if settings.polish else _chords(immersion, segments)
    nodes = _read(immersion, middle, grid.times, a, b)
    fine = _level(immersion, grid, nodes, settings)
    return _summary(immersion, [coarse, middle, fine], a, b, settings)


def _level(
    immersion: Immersion, grid: Grid, nodes: Tensor, settings: _Settings, newton: bool = True
) -> _Level:
    grid = grid.to(nodes)
    limits = {"tolerance": settings.tolerance, "max_iterations": settings.max_iterations}
    return _Level(grid, relax(immersion, grid, nodes, newton=newton, **limits))  # type: ignore[arg-type]


def _read(immersion: Immersion, level: _Level, times: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The curves of a level at other times."""
    return _pinned(immersion, resampled(level.grid, _nodes(level, a, b), times), a, b)


def _truncation(level: _Level) -> Tensor:
    """Error of the length by the energy that the polynomials left out."""
    outcome = level.outcome
    share = _SAFETY * level.grid.truncation(outcome.image) / outcome.energy
    return level.length * share / 2


def _unfinished(level: _Level) -> Tensor:
    """Error of the length by the steps not taken, and by rounding of the images."""
    outcome, length = level.outcome, level.length
    size: Tensor = torch.linalg.vector_norm(outcome.image, dim=-1).amax(-1)
    unit = torch.finfo(length.dtype).eps * _ROUNDING * outcome.image.shape[1]
    return length * outcome.decrement / 4 + unit * (size + length)


def _suspect(levels: list[_Level]) -> Tensor:
    """Curves that had to be damped at last, or changed more from level to level, not less.

    Nodes that were pushed to both sides of a ridge hide it from samples near them: neither
    happens on smooth maps, where chords are of second order.
    """
    coarse, middle, fine = (level.length for level in levels)
    change = (fine - middle).abs()
    jumped = (change > (middle - coarse).abs()) & (change > _JUMP * fine)
    return jumped | (levels[-1].outcome.damping > 0)


def _summary(
    immersion: Immersion, levels: list[_Level], a: Tensor, b: Tensor, settings: _Settings
) -> GeodesicBatch:
    outcome = verified(immersion, levels[-1].grid, levels[-1].outcome)
    fine = levels[-1]._replace(outcome=outcome)
    length, estimate = fine.length, _unfinished(fine)
    if settings.polish:
        estimate = estimate + _truncation(fine)
    else:
        correction = (length - levels[-2].length) / 3
        length, estimate = length + correction, estimate + correction.abs()
    nodes, suspect = _nodes(fine, a, b), _suspect(levels)
    reader = Reader(immersion, fine.grid, nodes, outcome.image, fine.length, suspect)
    gap = _GAP_SAFETY * reader.gap
    settled = (outcome.decrement <= settings.tolerance) & (outcome.pivot > CONJUGATE)
    # Saddles and conjugate ends hide nothing: more segments would not mend them.
    certain = (gap <= PATIENCE * length) & torch.isfinite(length)
    steps = torch.stack([level.outcome.iterations for level in levels]).sum(0)
    # Near conjugate ends the length answers to errors in inverse proportion to the pivot.
    estimate = estimate * (0.5 / outcome.pivot.clamp(min=CONJUGATE / 10)).clamp(min=1)
    known = GeodesicBatch(outcome.inner, length, estimate + gap, certain & settled, steps)
    if bool(certain.all()):
        return known._replace(points=reader.at(settings.num_segments))
    mild = ~certain & (gap <= _MILD * length) & torch.isfinite(length) & settings.may_double
    parts = []
    if bool(mild.any()):
        rows = mild.nonzero().squeeze(-1)
        double = settings._replace(num_segments=2 * settings.num_segments, may_double=False)
        first = reader.at(double.num_segments)[rows]
        parts.append((rows, _solve(immersion, a[rows], b[rows], first, double)))
    rows = (~certain & ~mild).nonzero().squeeze(-1)
    if rows.numel():
        parts.append((rows, _tight(immersion, reader, a, b, rows, settings.num_segments)))
    segments = max([settings.num_segments, *(part.points.shape[1] - 1 for _, part in parts)])
    known = known._replace(points=reader.at(segments))
    for rows, part in parts:
        found = part._replace(
            points=_at(immersion, part.points, segments), iterations=part.iterations + steps[rows]
        )
        pairs = zip(known, found, strict=True)
        known = GeodesicBatch(*(x.index_copy(0, rows, y) for x, y in pairs))
    return known


def _tight(
    immersion: Immersion, reader: Reader, a: Tensor, b: Tensor, rows: Tensor, num_segments: int
) -> GeodesicBatch:
    """Curves as strings, from the truly shortest one that is known."""
    count = _LINE * num_segments
    start = reader.start(rows, initial_curves(immersion, a[rows], b[rows], count))
    if has_grid(immersion):
        path = drawn(immersion, grid_paths(immersion, a[rows], b[rows], count), start.image)
        # Samples at equal steps of the image, so that no part of it is passed over in one.
        path = drawn(immersion, retimed(immersion, path, count), start.image)
        start = shorter(start, path, _BETTER)
    found = refined(immersion, start, num_segments)
    return found.batch(max(num_segments, found.num_segments))


def _nodes(level: _Level, a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a.unsqueeze(1), level.outcome.inner, b.unsqueeze(1)], 1)
