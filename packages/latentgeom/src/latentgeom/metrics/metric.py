r"""The one interface behind which every metric stands.

A metric :math:`G(z)` on coordinates :math:`z \in \mathbb{R}^d` gives

.. math::

    \langle u, v \rangle_z = u^\top G(z) v, \qquad |u|_z = \sqrt{\langle u, u \rangle_z},
    \qquad \mathrm{vol}(z) = \sqrt{\det G(z)} ,

and with them distances, geodesics, exponential and logarithm, parallel transport: in
closed form where there is one, by the solvers of :mod:`latentgeom.pullback.numerical` otherwise.

References:
    Lee (2018), Introduction to Riemannian Manifolds, chapters 2, 5 and 6.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from latentgeom.metrics.answers import FrechetMean, GeodesicBatch, karcher_mean, normalised
from latentgeom.shell.showing import in_a_line

__all__ = ["Metric", "check_points"]


_ROUNDING = 32.0  # units in the last place of a distance in closed form
_SEGMENTS = 32
_STARTS = 64  # points among which the first mean is chosen


def check_points(points: Tensor, dim: int, name: str = "points") -> Tensor:
    """Refuse points of a wrong width or with non-finite coordinates.

    Raises:
        ValueError: With what was expected and what was got.
    """
    if points.ndim == 0 or points.shape[-1] != dim:
        raise ValueError(f"{name} must have {dim} coordinates, got shape {tuple(points.shape)}")
    if not torch.isfinite(points).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return points


class Metric(nn.Module, ABC):
    """A Riemannian metric on one coordinate chart of dimension ``dim``.

    All methods broadcast over leading dimensions; vectors are coordinate vectors.
    """

    __str__ = in_a_line

    dim: int

    @abstractmethod
    def metric_tensor(self, z: Tensor) -> Tensor:
        """Metric tensor, ``(..., d, d)``."""

    @abstractmethod
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        """Geodesic distance, ``(...,)``."""

    @abstractmethod
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        """End after unit time of the geodesic leaving ``z`` with velocity ``v``, ``(..., d)``."""

    @abstractmethod
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        """Velocity at ``a`` of the geodesic that reaches ``b`` in unit time, ``(..., d)``."""

    @abstractmethod
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        """Parallel transport of ``v`` from ``a`` to ``b`` along their geodesic, ``(..., d)``."""

    @abstractmethod
    def projx(self, z: Tensor) -> Tensor:
        """Smooth map of any ``z`` in R^d into the chart's domain; what encoders end with."""

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """What a decoder network reads: a smooth injective function of the point, ``(..., n)``."""

    def check(self, z: Tensor, name: str = "points") -> Tensor:
        """Refuse points of a wrong width, non-finite, or outside of the chart.

        Raises:
            ValueError: With what was expected and what was got.
        """
        return check_points(z, self.dim, name)

    def inner(self, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Inner product of ``u`` and ``v`` at ``z``, ``(...,)``."""
        return torch.einsum("...i,...ij,...j->...", u, self.metric_tensor(z), v)

    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        """Length of ``v`` at ``z``, ``(...,)``; its gradient is zero, not NaN, at zero."""
        square = self.inner(z, v, v)
        positive = square > 0
        return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0 * square)

    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distance, ``(...,)``; in closed form its Hessian at coincidence is ``2 G``."""
        return self.dist(a, b).square()

    @property
    def origin(self) -> Tensor:
        """A point in the middle of the chart, ``(d,)``."""
        return self.projx(torch.zeros(self.dim, device=_device(self)))

    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        """Components of a coordinate vector in an orthonormal frame at ``z``, ``(..., d)``."""
        frame = self.orthonormal_frame(z)
        shape = torch.broadcast_shapes(z.shape, v.shape)  # type: ignore[no-untyped-call]
        wide = frame.expand(*shape, self.dim)
        solved: Tensor = torch.linalg.solve(wide, v.expand(shape).unsqueeze(-1))
        return solved.squeeze(-1)

    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        """The coordinate vector with given frame components, ``(..., d)``."""
        return (self.orthonormal_frame(z) @ a.unsqueeze(-1)).squeeze(-1)

    def exp_frame(self, z: Tensor, a: Tensor) -> Tensor:
        """Exponential of frame components, ``(..., d)``."""
        return self.expmap(z, self.from_frame(z, a))

    def log_frame(self, a: Tensor, b: Tensor) -> Tensor:
        """Frame components at ``a`` of the logarithm of ``b``, ``(..., d)``."""
        return self.to_frame(a, self.logmap(a, b))

    def transp_frame(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Components in the frame at ``b`` of what ``c`` in the frame at ``a`` is carried to."""
        return self.to_frame(b, self.transp(a, b, self.from_frame(a, c)))

    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        """Covectors ``G v`` of vectors that are columns, ``(..., d, k)``."""
        return self.metric_tensor(z) @ vectors

    def first_curves(self, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
        """Curves that a solver may start from, ``(B, T + 1, d)``; here geodesics themselves."""
        t = torch.linspace(0, 1, num_segments + 1, dtype=a.dtype, device=a.device)
        return self.geodesic(a, b, t)

    def bend(self, z: Tensor, step: Tensor) -> Tensor:
        """Points moved by small steps ``(..., d)`` without leaving the chart."""
        return self.exp_frame(z, step)

    def chord(self, a: Tensor, b: Tensor) -> Tensor:
        """Lengths of short edges, without solving for geodesics, ``(...,)``."""
        return self.dist(a, b)

    def connect(
        self,
        a: Tensor,
        b: Tensor,
        num_segments: int | None = None,
        initial: Tensor | None = None,
    ) -> GeodesicBatch:
        """Geodesics between ``(B, d)`` points, in closed form or by a solver.

        Arguments:
            a: Start points, ``(B, d)``.
            b: End points, ``(B, d)``.
            num_segments: Segments of the curves; 32, or a solver's own, if none.
            initial: Curves that a solver starts from, ``(B, S + 1, d)``; a closed form has no
                use for them.
        """
        length = self.dist(a, b)
        t = torch.linspace(0, 1, (num_segments or _SEGMENTS) + 1, dtype=a.dtype, device=a.device)
        estimate = _ROUNDING * torch.finfo(length.dtype).eps * length.detach()
        steps = torch.zeros_like(length, dtype=torch.long)
        return GeodesicBatch(
            self.geodesic(a, b, t), length, estimate, torch.isfinite(length), steps
        )

    @torch.no_grad()
    def mean(
        self, points: Tensor, weights: Tensor | None = None, tolerance: float = 1e-12
    ) -> FrechetMean:
        """Weighted Fréchet mean of points ``(K, d)``.

        Arguments:
            points: Data, ``(K, d)``.
            weights: Positive weights, ``(K,)``; equal ones if none.
            tolerance: Length of the gradient at rest, relative to the standard deviation.
        """
        self.check(points)
        weights = normalised(points, weights)
        tolerance = max(tolerance, 16 * torch.finfo(points.dtype).eps)
        total = self.dist(points.unsqueeze(1), points[:_STARTS].unsqueeze(0)).square()
        start = points[int((weights[:, None] * total).sum(0).argmin())]
        mean, variance, rested, steps = karcher_mean(
            self.log_frame, self.exp_frame, points, weights, start, tolerance
        )
        curves = self.connect(points, mean.expand_as(points)).points
        return FrechetMean(mean, curves, variance, rested, steps)

    def log_volume(self, z: Tensor) -> Tensor:
        """Log of the Riemannian volume density, ``(...,)``; ``-inf`` where it degenerates."""
        factor, info = torch.linalg.cholesky_ex(self.metric_tensor(z))
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.where(info == 0, log_det, -torch.inf)

    def orthonormal_frame(self, z: Tensor) -> Tensor:
        """Matrix ``W`` with orthonormal columns, ``W^T G W = I``, ``(..., d, d)``."""
        factor = torch.linalg.cholesky(self.metric_tensor(z))
        identity = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        frame: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False).mT
        return frame

    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Points at times ``t`` (``(T,)``) of the geodesic from ``a`` to ``b``, ``(..., T, d)``."""
        steps = t.unsqueeze(-1) * self.log_frame(a, b).unsqueeze(-2)
        return self.exp_frame(a.unsqueeze(-2) + torch.zeros_like(steps), steps)


def _device(module: nn.Module) -> torch.device:
    """Where the module's numbers live; the default device if it has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.get_default_device()
