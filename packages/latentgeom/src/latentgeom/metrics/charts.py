r"""The same space in other units and coordinates, and the charts of hyperbolic space.

.. math::

    G(y) = D\phi(y)^\top H(\phi(y))\, D\phi(y), \qquad d(y, y') = d_H(\phi(y), \phi(y')) .

References:
    Fadel, Paulsen & Brefeld (2023), Exploring the Poincaré Ellipsis, for the idea of
    choosing the metric; :func:`poincare_ellipsoid` is our reading of that title.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.metrics.metric import Metric

__all__ = ["Diffeomorphism", "Scaled", "half_plane", "poincare_ball", "poincare_ellipsoid"]

_OUTSIDE = 1e-4  # relative miss of the way there and back that only points outside have


class Scaled(Metric):
    """The metric ``scale**2`` times another: all distances times ``scale``.

    Arguments:
        metric: Metric to scale.
        scale: Positive factor of the distances.
    """

    def __init__(self, metric: Metric, scale: float) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}")
        self.metric, self.scale, self.dim = metric, scale, metric.dim

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return self.scale**2 * self.metric.metric_tensor(z)

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        return self.scale**2 * self.metric.lower(z, vectors)

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale * self.metric.dist(a, b)

    @override
    def log_volume(self, z: Tensor) -> Tensor:
        return self.metric.log_volume(z) + self.dim * math.log(self.scale)

    @override
    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        return self.scale * self.metric.norm(z, v)

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale**2 * self.metric.squared_dist(a, b)

    @override
    def check(self, z: Tensor, name: str = "points") -> Tensor:
        return self.metric.check(z, name)

    @override
    def orthonormal_frame(self, z: Tensor) -> Tensor:
        return self.metric.orthonormal_frame(z) / self.scale

    @override
    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        return self.scale * self.metric.to_frame(z, v)

    @override
    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return self.metric.from_frame(z, a / self.scale)

    @override
    def exp_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return self.metric.exp_frame(z, a / self.scale)

    @override
    def log_frame(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale * self.metric.log_frame(a, b)

    @override
    def transp_frame(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.metric.transp_frame(a, b, c)

    @override
    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return self.metric.geodesic(a, b, t)

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return self.metric.expmap(z, v)

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        return self.metric.logmap(a, b)

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return self.metric.transp(a, b, v)

    @override
    def projx(self, z: Tensor) -> Tensor:
        return self.metric.projx(z)

    @override
    def features(self, z: Tensor) -> Tensor:
        return self.metric.features(z)


class Diffeomorphism(Metric):
    """Another chart of a space: everything through ``forward`` and its ``inverse``.

    Arguments:
        metric: Metric in its own coordinates.
        to_inner: Map of our coordinates to those of ``metric``, ``(..., d) -> (..., d)``.
        from_inner: Its inverse.

    References:
        Diepeveen (2024), Pulling Back Symmetric Riemannian Geometry for Data Analysis,
        arXiv:2403.06612.
    """

    def __init__(
        self,
        metric: Metric,
        to_inner: Callable[[Tensor], Tensor],
        from_inner: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.metric, self.dim = metric, metric.dim
        self.to_inner, self.from_inner = to_inner, from_inner

    @property
    @override
    def origin(self) -> Tensor:
        return self.from_inner(self.metric.origin)

    @override
    def check(self, z: Tensor, name: str = "points") -> Tensor:
        inside = torch.isfinite(self.to_inner(super().check(z, name))).all(-1)
        # The inverse tells apart what a formula maps although it lies outside.
        back = self.from_inner(torch.where(inside.unsqueeze(-1), self.to_inner(z), 0.0))
        size = 1 + torch.linalg.vector_norm(z, dim=-1)
        inside = inside & (torch.linalg.vector_norm(back - z, dim=-1) <= _OUTSIDE * size)
        if not bool(inside.all()):
            raise ValueError(
                f"{name} must lie inside the chart, got {int((~inside).sum())} outside, the first"
                f" at {z[~inside][0].tolist()}"
            )
        return z

    def _push(self, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        z, v = torch.broadcast_tensors(z, v)  # type: ignore[no-untyped-call]
        # Forward derivatives refuse tensors whose elements share their memory.
        pushed = torch.func.jvp(self.to_inner, (z.contiguous(),), (v.contiguous(),))
        return pushed[0], pushed[1]

    def _pull(self, x: Tensor, v: Tensor) -> Tensor:
        x, v = torch.broadcast_tensors(x, v)  # type: ignore[no-untyped-call]
        inputs = ((x.contiguous(),), (v.contiguous(),))
        tangent: Tensor = torch.func.jvp(self.from_inner, *inputs)[1]
        return tangent

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        columns = [self._push(z, vector)[1] for vector in basis]
        jacobian = torch.stack(columns, -1)
        return jacobian.mT @ self.metric.metric_tensor(self.to_inner(z)) @ jacobian

    @override
    def log_volume(self, z: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        jacobian = torch.stack([self._push(z, vector)[1] for vector in basis], -1)
        stretch: Tensor = torch.linalg.slogdet(jacobian)[1]
        return self.metric.log_volume(self.to_inner(z)) + stretch

    @override
    def orthonormal_frame(self, z: Tensor) -> Tensor:
        x = self.to_inner(z)
        columns = self.metric.orthonormal_frame(x).unbind(-1)
        return torch.stack([self._pull(x, column) for column in columns], -1)

    @override
    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        return self.metric.norm(*self._push(z, v))

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        return self.metric.squared_dist(self.to_inner(a), self.to_inner(b))

    @override
    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        return self.metric.to_frame(*self._push(z, v))

    @override
    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        x = self.to_inner(z)
        return self._pull(x, self.metric.from_frame(x, a))

    @override
    def exp_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return self.from_inner(self.metric.exp_frame(self.to_inner(z), a))

    @override
    def log_frame(self, a: Tensor, b: Tensor) -> Tensor:
        return self.metric.log_frame(self.to_inner(a), self.to_inner(b))

    @override
    def transp_frame(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.metric.transp_frame(self.to_inner(a), self.to_inner(b), c)

    @override
    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return self.from_inner(self.metric.geodesic(self.to_inner(a), self.to_inner(b), t))

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return self.metric.dist(self.to_inner(a), self.to_inner(b))

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return self.from_inner(self.metric.expmap(*self._push(z, v)))

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        x = self.to_inner(a)
        return self._pull(x, self.metric.logmap(x, self.to_inner(b)))

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        x, tangent = self._push(a, v)
        y = self.to_inner(b)
        return self._pull(y, self.metric.transp(x, y, tangent))

    @override
    def projx(self, z: Tensor) -> Tensor:
        return self.from_inner(self.metric.projx(z))

    @override
    def features(self, z: Tensor) -> Tensor:
        return self.metric.features(self.to_inner(z))


def poincare_ball(dim: int, curvature: float = -1.0) -> Diffeomorphism:
    """Hyperbolic space in the coordinates of the Poincaré ball of radius ``1/sqrt(-curvature)``.

    References:
        Nickel & Kiela (2017), Poincaré Embeddings for Learning Hierarchical Representations,
        arXiv:1705.08039.
    """
    if curvature >= 0:
        raise ValueError(f"curvature of a Poincaré ball must be negative, got {curvature}")
    return Diffeomorphism(
        ConstantCurvature(dim, curvature),
        partial(cc.stereographic_to_tangent, curvature=curvature),
        partial(cc.tangent_to_stereographic, curvature=curvature),
    )


def half_plane(dim: int = 2) -> Diffeomorphism:
    """Hyperbolic space of curvature -1 in upper half space coordinates, the last one positive.

    References:
        Cannon, Floyd, Kenyon & Parry (1997), Hyperbolic Geometry, section 7.
    """
    return Diffeomorphism(
        ConstantCurvature(dim, -1.0), cc.half_plane_to_tangent, cc.tangent_to_half_plane
    )


def poincare_ellipsoid(shape: Tensor, curvature: float = -1.0) -> Diffeomorphism:
    r"""The Poincaré ball under the linear change of coordinates :math:`x = A^{-1} y`.

    The domain is the ellipsoid :math:`y^\top A^{-2} y < -1/\kappa`.

    Arguments:
        shape: Symmetric positive definite :math:`A`, ``(d, d)``.
        curvature: Negative sectional curvature.

    References:
        Fadel, Paulsen & Brefeld (2023), Exploring the Poincaré Ellipsis, for the name.
    """
    if not torch.allclose(shape, shape.mT) or not (torch.linalg.eigvalsh(shape) > 0).all():
        raise ValueError("shape must be a symmetric positive definite matrix")
    if not curvature < 0:
        raise ValueError(f"curvature of a Poincaré ellipsoid must be negative, got {curvature}")
    return Diffeomorphism(
        ConstantCurvature(shape.shape[-1], curvature),
        _FromEllipsoid(torch.linalg.inv(shape), curvature),
        _ToEllipsoid(shape, curvature),
    )


class _FromEllipsoid(nn.Module):
    """Coordinates of the ellipsoid to tangent ones."""

    inverse: Tensor

    def __init__(self, inverse: Tensor, curvature: float) -> None:
        super().__init__()
        self.register_buffer("inverse", inverse)
        self.curvature = curvature

    def forward(self, y: Tensor) -> Tensor:
        return cc.stereographic_to_tangent(y @ self.inverse.to(y), self.curvature)


class _ToEllipsoid(nn.Module):
    """Tangent coordinates to those of the ellipsoid."""

    shape: Tensor

    def __init__(self, shape: Tensor, curvature: float) -> None:
        super().__init__()
        self.register_buffer("shape", shape)
        self.curvature = curvature

    def forward(self, u: Tensor) -> Tensor:
        return cc.tangent_to_stereographic(u, self.curvature) @ self.shape.to(u)
