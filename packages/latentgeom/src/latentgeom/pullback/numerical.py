r"""Metrics whose distances and maps come from solvers.

The distance is differentiable in its end points by the first variation of the length,

.. math:: \partial_b\, d(a, b) = G(b)\, \dot\gamma(1) / |\dot\gamma(1)| ,

zero where the points coincide, and in the metric's parameters by the envelope theorem; second
derivatives follow from the implicit function theorem (:mod:`latentgeom.pullback.implicit`).
Where a solver doesn't converge the answer is NaN.

References:
    Milnor (1963), Morse Theory, section 12, for the first variation.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.immersions.curvature import levi_civita
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import Metric
from latentgeom.pullback.implicit import implicit_squares
from latentgeom.relaxation import curves
from latentgeom.relaxation.curves import straight
from latentgeom.relaxation.elements import chords, resampled
from latentgeom.solvers.exponential import refine_velocity, shoot
from latentgeom.solvers.georce import georce
from latentgeom.solvers.solver import DEFAULT, Solver

__all__ = ["NumericalMetric", "TensorField"]

_BETWEEN = 4  # steps a segment of the length that is differentiated by weights
_ORDER = 8  # of the differences that read velocities; eight segments allow no more


class _Squares(torch.autograd.Function):
    """Squared distances of solved geodesics.

    A gradient alone costs the first variation; where it is to be differentiated again
    (``create_graph``) it is that of :func:`latentgeom.pullback.implicit.implicit_squares`.
    """

    @staticmethod
    def forward(
        ctx: Any, metric: "NumericalMetric", batch: GeodesicBatch, *places: Tensor
    ) -> Tensor:
        """Squares of the lengths, NaN where not converged."""
        ctx.metric, ctx.batch = metric, batch
        ctx.save_for_backward(*places)
        return torch.where(batch.converged, batch.length.square(), torch.nan)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """By ends and weights."""
        a, b, *weights = ctx.saved_tensors
        metric, batch, again = ctx.metric, ctx.batch, torch.is_grad_enabled()
        with torch.enable_grad():
            if again:
                square = implicit_squares(
                    metric.element_energy, a, b, batch, metric.solver.num_segments
                )
            else:
                a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
                square = metric._first_order(batch, a, b)
            places = [a, b, *weights]
            wanted = [x for x in places if x.requires_grad]
            found = torch.autograd.grad(square, wanted, grad, create_graph=again, allow_unused=True)
        slopes = iter(found)
        return None, None, *(next(slopes) if x.requires_grad else None for x in places)


def _fine_times(nodes: Tensor) -> Tensor:
    return torch.linspace(
        0, 1, _BETWEEN * (nodes.shape[1] - 1) + 1, dtype=torch.float64, device="cpu"
    )


class NumericalMetric(Metric):
    """A metric known by its tensor; everything else is solved for.

    Arguments:
        dim: Dimension.
        solver: How geodesics are solved.
    """

    def __init__(self, dim: int, solver: Solver = DEFAULT) -> None:
        super().__init__()
        self.dim, self.solver = dim, solver

    @override
    def connect(
        self,
        a: Tensor,
        b: Tensor,
        num_segments: int | None = None,
        initial: Tensor | None = None,
    ) -> GeodesicBatch:
        return georce(
            self.metric_tensor, a, b, num_segments=num_segments or self.solver.num_segments,
            initial=initial, memory_gb=self.solver.memory_gb,
        )  # fmt: skip

    @override
    def first_curves(self, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
        return straight(a, b, num_segments)

    @override
    def bend(self, z: Tensor, step: Tensor) -> Tensor:
        return z + step

    @override
    def chord(self, a: Tensor, b: Tensor) -> Tensor:
        return self.norm((a + b) / 2, b - a)

    def connection(self, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """Christoffel symbols as a bilinear map; see :func:`latentgeom.levi_civita`."""
        return levi_civita(self.metric_tensor)(z, u, w)

    def _pairs(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, torch.Size]:
        shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
        a, b = a.expand(shape), b.expand(shape)
        return a.reshape(-1, self.dim), b.reshape(-1, self.dim), shape[:-1]

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        square = self.squared_dist(a, b)
        apart = square != 0
        return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        a, b, shape = self._pairs(a, b)
        with torch.no_grad():
            batch = self.connect(a.detach(), b.detach())
        weights = [x for x in self.parameters() if x.requires_grad]
        square: Tensor = _Squares.apply(self, batch, a, b, *weights)  # type: ignore[no-untyped-call]
        return square.reshape(shape)

    def element_energy(self, root: Tensor, nodes: Tensor) -> Tensor:
        """Energy of polynomial elements.

        Arguments:
            root: Rows that give velocities at the nodes, times roots of their weights.
            nodes: Nodes of elements, ``(..., p + 1, d)``.
        """
        speed = root @ nodes
        tensor = self.metric_tensor(nodes)
        return torch.einsum("...qi,...qij,...qj->...", speed, tensor, speed) / 2

    def _first_order(self, batch: GeodesicBatch, a: Tensor, b: Tensor) -> Tensor:
        """Squared lengths with their first derivatives by ends and weights."""
        velocity = curves.first_derivative(batch.points, _ORDER)
        velocity = torch.where(batch.length[:, None, None] > 0, velocity, 0.0)
        start, end = (self._covector(x.detach(), velocity[:, i]) for x, i in ((a, 0), (b, -1)))
        change = (end * (b - b.detach())).sum(-1) - (start * (a - a.detach())).sum(-1)
        length = batch.length + change + self._by_weights(batch.points)
        return torch.where(batch.converged, 1.0, torch.nan) * length.square()

    def _by_weights(self, nodes: Tensor) -> Tensor | float:
        """Zero, with the derivative of the length by what the metric has learnt, nodes fixed.

        By the envelope theorem nothing else moves a geodesic's length at first order.
        """
        learning = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if not learning:
            return 0.0
        nodes = nodes.detach()
        fine = resampled(chords(nodes.shape[1] - 1, 1), nodes, _fine_times(nodes))
        middle, step = (fine[:, 1:] + fine[:, :-1]) / 2, fine.diff(dim=1)
        square = torch.einsum("bti,btij,btj->bt", step, self.metric_tensor(middle), step)
        moving = square > 0
        length = torch.where(moving, torch.where(moving, square, 1.0).sqrt(), 0.0).sum(1)
        return length - length.detach()

    @torch.no_grad()
    def _covector(self, z: Tensor, velocity: Tensor) -> Tensor:
        lowered = (self.metric_tensor(z) @ velocity.unsqueeze(-1)).squeeze(-1)
        size = (lowered * velocity).sum(-1, keepdim=True).sqrt()
        return torch.where(size > 0, lowered / torch.where(size > 0, size, 1.0), 0.0)

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        z, v = torch.broadcast_tensors(z, v)  # type: ignore[no-untyped-call]
        return shoot(self.connection, z, v, tolerance=self.solver.tolerance).position

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        first, last, shape = self._pairs(a, b)
        batch = self.connect(first, last)
        velocity = curves.first_derivative(batch.points, _ORDER)[:, 0]
        velocity = refine_velocity(
            self.connection, first, last, velocity, tolerance=self.solver.tolerance
        )
        velocity = torch.where(batch.converged.unsqueeze(-1), velocity, torch.nan)
        return velocity.reshape(*shape, self.dim)

    @override
    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        steps = t.unsqueeze(-1) * self.logmap(a, b).unsqueeze(-2)
        return self.expmap(a.unsqueeze(-2) + torch.zeros_like(steps), steps)

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        velocity = self.logmap(a, b)
        carried = v.expand_as(velocity).unsqueeze(-2)
        start = a.expand_as(velocity)
        flow = shoot(self.connection, start, velocity, carried, tolerance=self.solver.tolerance)
        return flow.carried.squeeze(-2)

    @override
    def projx(self, z: Tensor) -> Tensor:
        return z

    @override
    def features(self, z: Tensor) -> Tensor:
        return z


class TensorField(NumericalMetric):
    """The metric of any function ``(..., d) -> (..., d, d)``.

    Arguments:
        field: Symmetric positive definite matrices, twice differentiable.
        dim: Dimension.
        solver: How geodesics are solved.
    """

    def __init__(
        self,
        field: Callable[[Tensor], Tensor],
        dim: int,
        solver: Solver = DEFAULT,
    ) -> None:
        super().__init__(dim, solver)
        self.field = field

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return self.field(z)
