r"""Geodesics by a string: nodes move across the curve, and are re-timed along it.

Chord energies let nodes slide along a curve until no chord meets a narrow ridge of the map.
A string's nodes have :math:`d - 1` degrees of freedom, along normals :math:`N_i` of the curve,

.. math:: R_{x_i}(\delta) = R_{x_i}(N_i\, \delta), \qquad N_i^\top G N_i = I,
    \quad \dot x_i^\top G N_i = 0 ,

and after each Newton solve across they are put back at equal steps of the image's *true*
length.  Both alternate until the true length stands still; the shortest curve is kept.  Its
length is that of its image at two spacings, extrapolated, so that nothing hides between the
nodes; the estimate adds up what that quadrature leaves out, how much longer the curve is
than the chords that were minimised, and what the last step and the last round changed.

References:
    E, Ren & Vanden-Eijnden (2007), Simplified and Improved String Method.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.immersions.immersion import Immersion, jacobian
from latentgeom.relaxation.elements import Grid, chords
from latentgeom.relaxation.newton import relax, verified
from latentgeom.relaxation.samples import (
    Samples,
    completed,
    drawn,
    polygon,
    refined_samples,
    retimed,
)

__all__ = ["Strung", "string"]

_BLOCK = 24  # unknowns of a block of chords, at most
_BETWEEN, _BETWEEN_ON_LINES = 8, 32  # samples a segment
_ROUNDS = 10  # of moving across and re-timing, at most
_TOLERANCE = 1e-8  # relative decrease of the energy at which a round ends
_STEPS = 40  # Newton steps of a round, at most
_SINGULAR = 1e-3  # stretch across the curve, relative to its median, of a singular chart
_SLOWEST = 0.98  # ratio of the changes of two rounds above which rounds are no series
_DETOUR = 1.0  # length of a segment over its chord from which it is looked at
_SLACK = 0.15  # stretch of the map in it, relative to the curve's median, at a singular point
_STILL = 1e-6  # relative change of the true length at which rounds end


class Strung(NamedTuple):
    """Curves as a string leaves them.

    Arguments:
        samples: The curves, ``8 T`` segments.
        length: True lengths, ``(B,)``.
        error_estimate: Of the length, ``(B,)``.
        pivot: How far the curve is from conjugate ends, ``(B,)``; below zero at saddles.
        iterations: Newton steps, ``(B,)``.
    """

    samples: Samples
    length: Tensor
    error_estimate: Tensor
    pivot: Tensor
    iterations: Tensor


class _Across(Immersion):
    """Coordinates ``(x, N)``: a point of an immersion and the directions in which it may move.

    Arguments:
        immersion: Where the points live, of dimension at least 2.
    """

    def __init__(self, immersion: Immersion) -> None:
        super().__init__()
        self.immersion = immersion
        self.dim, self.num_points = immersion.dim - 1, immersion.num_coordinates
        self.num_coordinates = self.num_points + immersion.dim * self.dim
        self.differentiates_backward_forward = immersion.differentiates_backward_forward

    @override
    def embed(self, x: Tensor) -> Tensor:
        return self.immersion.embed(x[..., : self.num_points])

    @override
    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        point, normals = x[..., : self.num_points], x[..., self.num_points :]
        shape = (*normals.shape[:-1], self.dim + 1, self.dim)
        step = normals.reshape(shape) @ delta.unsqueeze(-1)
        return torch.cat([self.immersion.retract(point, step.squeeze(-1)), normals], -1)

    @override
    def to_local(self, x: Tensor, step: Tensor) -> Tensor:
        raise NotImplementedError("strings are not strung twice")

    @override
    def projx(self, x: Tensor) -> Tensor:
        return x

    @override
    def check(self, x: Tensor, name: str) -> None:
        """Only made here."""

    def lift(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes ``(B, T + 1, n)`` with their normals, orthonormal in the induced metric.

        Returns:
            Nodes and normals, and whether the chart is regular along each curve, ``(B,)``.
        """
        columns = jacobian(self.immersion, nodes)[1]
        ahead = torch.cat([nodes[:, 1:], nodes[:, -1:]], 1)
        behind = torch.cat([nodes[:, :1], nodes[:, :-1]], 1)
        tangent = self.immersion.to_local(nodes, ahead - behind)
        basis = completed(tangent)
        factor = torch.linalg.qr(columns @ basis)[1]
        size = factor.diagonal(dim1=-2, dim2=-1).abs()
        identity = torch.eye(self.dim + 1, dtype=nodes.dtype, device=nodes.device)
        regular = size.amin(-1) > torch.finfo(nodes.dtype).eps * size.amax(-1)
        factor = torch.where(regular[..., None, None], factor, identity)
        normals = torch.linalg.solve_triangular(factor, basis, upper=True, left=False)[..., 1:]
        across = size[..., 1:].amin(-1)
        sound = (across.amin(1) > _SINGULAR * across.median(1).values) & regular.all(1)
        return torch.cat([nodes, normals.flatten(-2)], -1), sound


def _chords(dim: int, num_segments: int) -> Grid:
    largest = max(_BLOCK // dim, 1)
    return chords(num_segments, max(k for k in range(1, largest + 1) if num_segments % k == 0))


class _Round(NamedTuple):
    samples: Samples
    length: Tensor
    quadrature: Tensor
    excess: Tensor
    pivot: Tensor
    decrement: Tensor
    iterations: Tensor


def _measured(immersion: Immersion, nodes: Tensor, ends: Tensor, moved: list[Tensor]) -> _Round:
    """True length on samples; every second of them, from either, tells what it leaves out."""
    between = _BETWEEN if immersion.dim > 1 else _BETWEEN_ON_LINES
    samples = drawn(immersion, refined_samples(nodes, between), ends)
    image, fine = samples.image, samples.length
    even = polygon(image[:, ::2])
    odd = polygon(torch.cat([image[:, :1], image[:, 1::2], image[:, -1:]], 1))
    chord = polygon(image[:, ::between])
    length = fine + (fine - even) / 3
    quadrature = torch.maximum(fine - even, fine - odd)
    return _Round(samples, length, quadrature, (length - chord).abs(), *moved)


def _round(immersion: Immersion, samples: Samples, num_segments: int) -> _Round:
    nodes = retimed(immersion, samples, num_segments)
    if immersion.dim == 1:  # on a line re-timing alone is exact
        step = nodes.diff(dim=1)
        unfolded = ((step >= 0).all(1) | (step <= 0).all(1)).all(-1)
        zero = torch.zeros_like(nodes[:, 0, 0])
        pivot = torch.where(unfolded, zero + 0.5, zero - 1)
        return _measured(immersion, nodes, samples.image, [pivot, zero, zero.long()])
    across = _Across(immersion)
    grid = _chords(across.dim, num_segments).to(nodes)
    lifted, sound = across.lift(nodes)
    outcome = relax(across, grid, lifted, tolerance=_TOLERANCE, max_iterations=_STEPS)
    outcome = verified(across, grid, outcome)
    inner = outcome.inner[..., : across.num_points]
    nodes = torch.cat([nodes[:, :1], inner, nodes[:, -1:]], 1)
    # A curve that is held by a singular point of the chart can't tell.
    moved = [torch.where(sound, outcome.pivot, -1.0), outcome.decrement, outcome.iterations]
    return _measured(immersion, nodes, samples.image, moved)


def _kept(best: _Round, new: _Round) -> _Round:
    """The shorter one of each curve, iterations added up.

    A round that lengthens the curve says how far off its chords and samples can be.
    """
    better = new.length < best.length
    columns = {}
    for name in ("length", "pivot", "decrement"):
        columns[name] = torch.where(better, getattr(new, name), getattr(best, name))
    for name in ("quadrature", "excess"):
        old, now = getattr(best, name), getattr(new, name)
        columns[name] = torch.where(better, now, torch.fmax(old, now))
    rows = better[:, None, None]
    pairs = zip(best.samples, new.samples, strict=True)
    samples = Samples(*(torch.where(rows, y, x) for x, y in pairs))
    return _Round(samples, iterations=best.iterations + new.iterations, **columns)


def _ahead(gain: Tensor, before: Tensor) -> Tensor:
    """What further rounds would gain: a geometric series by the ratio of the last two gains.

    A round that lengthens the curve gives the noise of rounds instead.
    """
    ratio = torch.where(before > 0, gain / torch.where(before > 0, before, 1.0), 0.5)
    return torch.where(gain > 0, gain / (1 - ratio.clamp(max=_SLOWEST)), gain.abs())


def string(immersion: Immersion, samples: Samples, num_segments: int) -> Strung:
    """Curves pulled tight, across and along in turns.

    Arguments:
        immersion: Map into Euclidean space.
        samples: Curves to start from, at any number of points.
        num_segments: Segments ``T`` of the string.
    """
    best = _round(immersion, samples, num_segments)
    gain = before = torch.zeros_like(best.length)
    for _ in range(0 if immersion.dim == 1 else _ROUNDS - 1):
        new = _round(immersion, best.samples, num_segments)
        before, gain = gain, best.length - new.length
        best = _kept(best, new)
        if not bool((gain > _STILL * best.length).any()):
            break
    estimate = best.quadrature + _ahead(gain, before)
    estimate = estimate + best.length * best.decrement.clamp(max=1) / 2
    pivot = best.pivot
    if immersion.dim > 1:
        estimate = estimate + best.excess / 3
        pivot = torch.where(_is_held(immersion, best.samples), -1.0, pivot)
    return Strung(best.samples, best.length, estimate, pivot, best.iterations)


def _is_held(immersion: Immersion, samples: Samples) -> Tensor:
    """Whether a curve's worst segment is a detour around a singular point of the chart.

    There the smallest stretch of the map, which no ridge lowers, is far below its median.
    """
    steps = samples.image.diff(dim=1)
    pieces = steps.reshape(len(steps), -1, _BETWEEN, steps.shape[-1])
    length = torch.linalg.vector_norm(pieces, dim=-1).sum(-1)
    chord = torch.linalg.vector_norm(pieces.sum(2), dim=-1)
    ratio, worst = (length / torch.where(chord > 0, chord, 1.0)).max(1)
    held = torch.zeros_like(ratio, dtype=torch.bool)
    rows = (ratio > _DETOUR).nonzero().squeeze(-1)
    if rows.numel() == 0:
        return held
    columns = jacobian(immersion, samples.points[rows][:, _BETWEEN // 2 :: _BETWEEN])[1]
    stretch = torch.linalg.eigvalsh(columns.mT @ columns)[..., 0].clamp(min=0).sqrt()
    here = stretch.gather(1, worst[rows, None]).squeeze(1)
    return held.index_copy(0, rows, here < _SLACK * stretch.median(1).values)
