r"""Solved curves between their nodes, and the gap between what is there and what was supposed.

The gap is measured on a few samples a segment (more where the map states a fine scale, or where
the gap itself raises doubt).  Where the interpolated coordinates swing, near a singular point
of the chart, the images are landed on the map instead: then the nodes were right, and so is
the length.
"""

import math
from typing import Any

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion
from latentgeom.relaxation.elements import Grid
from latentgeom.relaxation.samples import (
    Samples,
    drawn,
    landed,
    linear,
    polygon,
    reading,
    sampled,
    shorter,
    supposed_length,
)

__all__ = ["Reader"]

_SAMPLES = 4  # a segment, between the nodes
_LEAST_SAMPLES = 96  # a curve
_MOST_SAMPLES = 64  # a segment, where the map states a fine scale
_DOUBTFUL = 1e-5  # gap, relative to the length, from which it is measured on more samples
_MORE_SAMPLES = 32  # a segment, then
_HURRY = 2.5  # largest over mean speed of the coordinates from which there are more
_SWINGING = 5e-3  # gap, relative to the length, from which landings are tried
_LANDED = 1e-5  # distance to the supposed image, relative to the length, that is on it


class Reader:
    """Curves read between their nodes.

    Arguments:
        immersion: Map into Euclidean space.
        grid: Times of the nodes, and how to read between them.
        nodes: All nodes, ``(B, N + 1, n)``.
        image: Their images, ``(B, N + 1, D)``.
        length: Lengths found, ``(B,)``.
        suspect: Curves that are looked at on more samples whatever their gap, ``(B,)``.

    Attributes:
        gap: True against supposed length, ``(B,)``.
    """

    def __init__(
        self,
        immersion: Immersion,
        grid: Grid,
        nodes: Tensor,
        image: Tensor,
        length: Tensor,
        suspect: Tensor | None = None,
    ) -> None:
        self.immersion, self.grid, self.length = immersion, grid, length
        self.nodes, self.image, self.segments = nodes, image, image.shape[1] - 1
        self.gap = self._gaps(slice(None), self._count())
        hurry = self._hurry()
        rows = (hurry > _HURRY).nonzero().squeeze(-1)
        if rows.numel():
            finer = min(math.ceil(_SAMPLES * float(hurry[rows].amax())), _MOST_SAMPLES)
            gap = torch.fmax(self._gaps(rows, finer * self.segments), self.gap[rows])
            self.gap = self.gap.index_copy(0, rows, gap)
        doubtful = ~(self.gap <= _DOUBTFUL * self.length)
        doubtful = doubtful if suspect is None else doubtful | suspect
        self.landed = torch.zeros_like(doubtful)
        rows = doubtful.nonzero().squeeze(-1)
        if rows.numel():
            self._look_closer(rows)

    def _count(self) -> int:
        """Samples by the length of the curves in coordinates and the map's stated scale."""
        steps = torch.linalg.vector_norm(self.nodes.diff(dim=1), dim=-1)
        path = float(steps.sum(-1).nan_to_num(0.0).amax())
        wanted = min(path / self.immersion.finest_scale(), _MOST_SAMPLES * self.segments)
        return max(_LEAST_SAMPLES, _SAMPLES * self.segments, math.ceil(wanted))

    def _hurry(self) -> Tensor:
        """Largest over mean speed of the coordinates: where they hurry, samples are far apart."""
        steps = torch.linalg.vector_norm(self.nodes.diff(dim=1), dim=-1)
        speed = steps / self.grid.times.to(steps).diff()
        share: Tensor = speed.amax(-1) / steps.sum(-1)
        return share.nan_to_num(nan=1.0, posinf=1.0)

    def _gaps(self, rows: Any, count: int) -> Tensor:
        nodes, image = self.nodes[rows], self.image[rows]
        true = sampled(self.immersion, self.grid, nodes, image, count).length
        return (true - supposed_length(self.grid, image, count)).abs()

    def _look_closer(self, rows: Tensor) -> None:
        count = _MORE_SAMPLES * self.segments
        gap = torch.fmax(self._gaps(rows, count), self.gap[rows])
        swinging = (~(gap <= _SWINGING * self.length[rows])).nonzero().squeeze(-1)
        if swinging.numel():
            chosen = rows[swinging]
            points, missed = self._landed(chosen, count)
            supposed = reading(self.grid, self.image[chosen], count)
            on = missed.amax(-1) <= _LANDED * self.length[chosen]
            true = drawn(self.immersion, points, supposed).length
            difference = (true - polygon(supposed)).abs() + missed.amax(-1)
            gap = gap.index_copy(0, swinging, torch.where(on, difference, gap[swinging]))
            self.landed = self.landed.index_copy(0, chosen, on)
        self.gap = self.gap.index_copy(0, rows, gap)

    def _landed(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        times = torch.linspace(0, 1, count + 1, dtype=torch.float64, device="cpu").to(self.nodes)
        points = linear(self.grid.times.to(self.nodes), self.nodes[rows], times)
        points, target = self.immersion.projx(points), reading(self.grid, self.image[rows], count)
        points, missed = landed(self.immersion, points, target)
        for shift in (1, -1):  # from a neighbour that has landed, where a start was bad
            if not bool((missed > _LANDED * self.length[rows].unsqueeze(-1)).any()):
                break
            again, miss = landed(self.immersion, points.roll(shift, 1), target)
            closer = miss < missed
            points = torch.where(closer.unsqueeze(-1), again, points)
            missed = torch.where(closer, miss, missed)
        return points, missed

    def at(self, count: int) -> Tensor:
        """Points at ``count + 1`` equal steps of time, ``(B, count + 1, n)``."""
        points = reading(self.grid, self.nodes, count)
        rows = self.landed.nonzero().squeeze(-1)
        if rows.numel():
            points[rows] = self._landed(rows, count)[0]
        inner = self.immersion.projx(points[:, 1:-1])
        return torch.cat([self.nodes[:, :1], inner, self.nodes[:, -1:]], 1)

    def start(self, rows: Tensor, line: Tensor) -> Samples:
        """Where a refinement starts: the found or a first curve, whichever is truly shorter.

        Arguments:
            rows: Curves to refine.
            line: Their first curves, ``(R, M + 1, n)`` at any number of points.
        """
        image, count = self.image[rows], line.shape[1] - 1
        found = sampled(self.immersion, self.grid, self.nodes[rows], image, count)
        return shorter(drawn(self.immersion, line, image), found)
