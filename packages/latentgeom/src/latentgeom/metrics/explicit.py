r"""Metrics to choose: closed-form distances, geodesics, exponentials and transport.

The constant-curvature spaces use tangent coordinates
(:mod:`latentgeom.metrics.constant_curvature`); other charts are the same space seen
through a :class:`Diffeomorphism`:

.. math::

    G(y) = D\phi(y)^\top H(\phi(y))\, D\phi(y), \qquad d(y, y') = d_H(\phi(y), \phi(y')) .

References:
    Fadel, Paulsen & Brefeld (2023), Exploring the Poincaré Ellipsis, for the idea of
    choosing the metric; :func:`poincare_ellipsoid` is our reading of that title.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.metric import Metric

__all__ = [
    "ConstantCurvature",
    "Diffeomorphism",
    "Euclidean",
    "Product",
    "Scaled",
    "half_plane",
    "hyperbolic",
    "poincare_ball",
    "poincare_ellipsoid",
    "sphere",
]

_OUTSIDE = 1e-4  # relative miss of the way there and back that only points outside have
_SPHERE_FILL = 0.9  # fraction of the way to the antipode that encoders may reach


class Euclidean(Metric):
    """Flat space.

    Arguments:
        dim: Dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        identity = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        return identity.expand(*z.shape, self.dim)

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.safe_norm(a - b)

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return z + v

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        return b - a

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return v.expand_as(a + b + v)

    @override
    def projx(self, z: Tensor) -> Tensor:
        return z

    @override
    def features(self, z: Tensor) -> Tensor:
        return z


class ConstantCurvature(Metric):
    """Sphere, flat space or hyperbolic space in tangent coordinates at the origin.

    Arguments:
        dim: Dimension.
        curvature: Sectional curvature: ``1 / radius**2`` of a sphere, negative for
            hyperbolic space.
        learnable: Whether training may change the curvature, its sign included.
    """

    curvature: Tensor

    def __init__(self, dim: int, curvature: float, learnable: bool = False) -> None:
        super().__init__()
        if not math.isfinite(curvature):
            raise ValueError(f"curvature must be finite, got {curvature}")
        self.dim, self.reads_ambient = dim, curvature > 0
        value = torch.tensor(float(curvature))
        if learnable:
            self.curvature = nn.Parameter(value)
        else:
            self.register_buffer("curvature", value)

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return cc.metric_tensor(z, self.curvature)

    @override
    def log_volume(self, z: Tensor) -> Tensor:
        return cc.log_volume(z, self.curvature)

    @override
    def orthonormal_frame(self, z: Tensor) -> Tensor:
        return cc.orthonormal_frame(z, self.curvature)

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.dist(a, b, self.curvature)

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return cc.expmap(z, v, self.curvature)

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.logmap(a, b, self.curvature)

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return cc.transp(a, b, v, self.curvature)

    @override
    def projx(self, z: Tensor) -> Tensor:
        """Identity, but squashed into 0.9 of the way to a sphere's antipode."""
        k = self.curvature.to(z).clamp(min=0) / (_SPHERE_FILL * math.pi) ** 2
        return cc.squash(z, k)

    @override
    def features(self, z: Tensor) -> Tensor:
        """Ambient coordinates on a sphere, where they are smooth at the antipode too."""
        return cc.tangent_to_ambient(z, self.curvature) if self.reads_ambient else z


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
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale * self.metric.dist(a, b)

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


class Product(Metric):
    r"""Product of metrics on consecutive coordinates, :math:`d^2 = \sum_k d_k^2`.

    Arguments:
        metrics: Factors, in the order of their coordinates.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__()
        self.factors = nn.ModuleList(metrics)
        self.dims = [metric.dim for metric in metrics]
        self.dim = sum(self.dims)

    def _each(self, method: str, *points: Tensor) -> list[Tensor]:
        parts = zip(*(torch.split(x, self.dims, -1) for x in points), strict=True)
        return [
            getattr(metric, method)(*part) for metric, part in zip(self.factors, parts, strict=True)
        ]

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        tensor = z.new_zeros(*z.shape, self.dim)
        start = 0
        for block in self._each("metric_tensor", z):
            stop = start + block.shape[-1]
            tensor[..., start:stop, start:stop] = block
            start = stop
        return tensor

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.safe_norm(torch.stack(self._each("dist", a, b), -1))

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return torch.cat(self._each("expmap", z, v), -1)

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat(self._each("logmap", a, b), -1)

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return torch.cat(self._each("transp", a, b, v), -1)

    @override
    def projx(self, z: Tensor) -> Tensor:
        return torch.cat(self._each("projx", z), -1)

    @override
    def features(self, z: Tensor) -> Tensor:
        return torch.cat(self._each("features", z), -1)


class Diffeomorphism(Metric):
    """Another chart of a space: everything through ``forward`` and its ``inverse``.

    Arguments:
        metric: Metric in its own coordinates.
        to_inner: Map of our coordinates to those of ``metric``, ``(..., d) -> (..., d)``.
        from_inner: Its inverse.
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
        pushed = torch.func.jvp(self.to_inner, (z,), (v.expand_as(z),))
        return pushed[0], pushed[1]

    def _pull(self, x: Tensor, v: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(self.from_inner, (x,), (v,))[1]
        return tangent

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        columns = [self._push(z, vector)[1] for vector in basis]
        jacobian = torch.stack(columns, -1)
        return jacobian.mT @ self.metric.metric_tensor(self.to_inner(z)) @ jacobian

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


def sphere(dim: int, radius: float = 1.0) -> ConstantCurvature:
    """Sphere of a radius, in tangent coordinates at a pole."""
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    return ConstantCurvature(dim, 1 / radius**2)


def hyperbolic(dim: int, curvature: float = -1.0) -> ConstantCurvature:
    """Hyperbolic space in tangent coordinates at the origin of the Lorentz model."""
    if not -math.inf < curvature < 0:
        raise ValueError(f"curvature of a hyperbolic space must be negative, got {curvature}")
    return ConstantCurvature(dim, curvature)


def poincare_ball(dim: int, curvature: float = -1.0) -> Diffeomorphism:
    """Hyperbolic space in the coordinates of the Poincaré ball of radius ``1/sqrt(-curvature)``."""
    if curvature >= 0:
        raise ValueError(f"curvature of a Poincaré ball must be negative, got {curvature}")
    return Diffeomorphism(
        ConstantCurvature(dim, curvature),
        lambda x: cc.stereographic_to_tangent(x, curvature),
        lambda u: cc.tangent_to_stereographic(u, curvature),
    )


def half_plane(dim: int = 2) -> Diffeomorphism:
    """Hyperbolic space of curvature -1 in upper half space coordinates, the last one positive."""
    return Diffeomorphism(
        ConstantCurvature(dim, -1.0), cc.half_plane_to_tangent, cc.tangent_to_half_plane
    )


def poincare_ellipsoid(shape: Tensor, curvature: float = -1.0) -> Diffeomorphism:
    r"""The Poincaré ball under the linear change of coordinates :math:`x = A^{-1} y`.

    The domain is the ellipsoid :math:`y^\top A^{-2} y < -1/\kappa`.

    Arguments:
        shape: Symmetric positive definite :math:`A`, ``(d, d)``.
        curvature: Negative sectional curvature.
    """
    if not torch.allclose(shape, shape.mT) or not (torch.linalg.eigvalsh(shape) > 0).all():
        raise ValueError("shape must be a symmetric positive definite matrix")
    ball, inverse = poincare_ball(shape.shape[-1], curvature), torch.linalg.inv(shape)
    return Diffeomorphism(
        ball.metric,
        lambda y: ball.to_inner(y @ inverse.to(y)),
        lambda u: ball.from_inner(u) @ shape.to(u),
    )
