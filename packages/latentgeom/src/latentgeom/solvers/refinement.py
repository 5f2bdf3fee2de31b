r"""Curves that hide something between their nodes, refined until nothing hides.

Strings (:mod:`latentgeom.solvers.strings`) on more and more segments, each from the truly
shorter one of the curve that the string before it got and the string itself: a curve that
has skipped a ridge looks short, and isn't.  What still differs on the largest number of
segments keeps its length, which is that of an actual curve, and has not converged.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.relaxation.samples import Samples, drawn, retimed, shorter
from latentgeom.solvers.strings import Strung, string

__all__ = ["CONJUGATE", "PATIENCE", "Refined", "refined"]

CONJUGATE = 0.02  # pivot below which end points are conjugate
PATIENCE = 1e-2  # doubt about a length, relative to it, from which curves are refined
_ENOUGH = 2e-2  # estimate of a string, relative to its length, at which it is good enough
_SAFETY = 3.0  # of a string's estimate
_FIRST, _MAX_SEGMENTS = 64, 256  # segments of strings
_HOPELESS = 1.5  # error relative to the length, of the third string, that a fourth won't mend
_ROUNDING = 4.0  # units in the last place of the images, a sample


class _Group(NamedTuple):
    """Curves that ended with the same number of segments."""

    rows: Tensor
    samples: Samples
    length: Tensor
    estimate: Tensor
    settled: Tensor
    iterations: Tensor
    num_segments: int


class Refined(NamedTuple):
    """Refined curves by groups, each at its own number of segments."""

    immersion: Immersion
    groups: list[_Group]

    @property
    def num_segments(self) -> int:
        """Segments that the settled curves need, zero if none settled."""
        return max(g.num_segments if bool(g.settled.any()) else 0 for g in self.groups)

    def batch(self, num_segments: int) -> GeodesicBatch:
        """The curves in the order in which they were given, at one number of segments."""
        order = torch.cat([group.rows for group in self.groups]).argsort()
        columns = zip(*(self._columns(group, num_segments) for group in self.groups), strict=True)
        return GeodesicBatch(*(torch.cat(column)[order] for column in columns))

    def _columns(self, group: _Group, num_segments: int) -> GeodesicBatch:
        points = retimed(self.immersion, group.samples, num_segments, rounds=1)
        return GeodesicBatch(points, group.length, group.estimate, group.settled, group.iterations)


def _counts(num_segments: int) -> list[int]:
    count = 2 * num_segments
    while count < _FIRST:
        count *= 2
    counts = [count]
    while counts[-1] * 2 <= _MAX_SEGMENTS:
        counts.append(counts[-1] * 2)
    # Twice on most segments: what changes then is not what the segments before had missed.
    return [*counts, counts[-1]]


def _group(rows: Tensor, found: Strung, estimate: Tensor, count: int) -> _Group:
    settled = (found.pivot > CONJUGATE) & (estimate <= _ENOUGH * found.length)
    settled = settled & torch.isfinite(found.length)
    return _Group(rows, found.samples, found.length, estimate, settled, found.iterations, count)


def _part(group: _Group, chosen: Tensor) -> _Group:
    columns = group._replace(samples=group.samples.take(chosen))._asdict()
    for name in ("rows", "length", "estimate", "settled", "iterations"):
        columns[name] = columns[name][chosen]
    return _Group(**columns)


def _resampled(immersion: Immersion, samples: Samples, count: int) -> Samples:
    points = retimed(immersion, samples, count, rounds=2)
    return drawn(immersion, points, samples.image)


def refined(immersion: Immersion, start: Samples, num_segments: int) -> Refined:
    """Pull curves tight on more and more segments until their length is certain.

    Arguments:
        immersion: Map into Euclidean space.
        start: Curves to start from, by many of their points.
        num_segments: Segments that were too few.
    """
    rows = torch.arange(len(start.points), device=start.points.device)
    previous = torch.full_like(start.length, torch.nan)
    groups = []
    counts = _counts(num_segments)
    for position, count in enumerate(counts):
        found = string(immersion, start, count)
        moved = (found.length - previous).abs().nan_to_num(nan=0.0)
        estimate = _SAFETY * found.error_estimate + moved + _rounding(found)
        group = _group(rows, found, estimate, count)
        # Conjugate ends and saddles stay what they are on more segments; doubt doesn't.
        hopeless = ~(estimate <= _HOPELESS * found.length) & (position > 1)
        done = (estimate <= _ENOUGH * found.length) | hopeless | (position == len(counts) - 1)
        groups.append(_part(group, done))
        if bool(done.all()):
            break
        rows, previous = rows[~done], found.length[~done]
        left = found.samples.take(~done)
        before = _resampled(immersion, start.take(~done), left.points.shape[1] - 1)
        start = shorter(left, before)
    return Refined(immersion, groups)


def _rounding(found: Strung) -> Tensor:
    image = found.samples.image
    size: Tensor = torch.linalg.vector_norm(image, dim=-1).amax(-1)
    unit = torch.finfo(image.dtype).eps * _ROUNDING * image.shape[1] ** 0.5
    rounding: Tensor = unit * (size + found.length)
    return rounding
