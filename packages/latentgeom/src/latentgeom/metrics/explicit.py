r"""Metrics to choose: closed-form distances, geodesics, exponentials and transport.

The constant-curvature spaces use tangent coordinates
(:mod:`latentgeom.metrics.constant_curvature`); :mod:`latentgeom.metrics.charts` has others.

References:
    Lee (2018), Introduction to Riemannian Manifolds, chapter 3.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.metric import Metric
from latentgeom.shell.checks import counts

__all__ = [
    "ConstantCurvature",
    "Euclidean",
    "Product",
    "hyperbolic",
    "sphere",
]

_HYPERBOLIC_FILL = 6.0  # radius, times the root of the curvature, that encoders may reach
_SPHERE_FILL = 0.9  # fraction of the way to the antipode that encoders may reach


class Euclidean(Metric):
    """Flat space.

    Arguments:
        dim: Dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        counts(dim=dim)
        self.dim = dim

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        identity = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        return identity.expand(*z.shape, self.dim)

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        return vectors

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.safe_norm(a - b)

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(-1)

    @override
    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        return v + torch.zeros_like(z)

    @override
    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return a + torch.zeros_like(z)

    @override
    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        return cc.safe_norm(v + torch.zeros_like(z))

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return z + v

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        return b - a

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(a.shape, b.shape, v.shape)  # type: ignore[no-untyped-call]
        return v.expand(shape)

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

    References:
        Skopek, Ganea & Bécigneul (2020), Mixed-Curvature Variational Autoencoders,
        arXiv:1911.08411, for one family through zero.
    """

    curvature: Tensor

    def __init__(self, dim: int, curvature: float, learnable: bool = False) -> None:
        super().__init__()
        counts(dim=dim)
        if not math.isfinite(curvature):
            raise ValueError(f"curvature must be finite, got {curvature}")
        self.dim, self.reads_ambient = dim, curvature > 0
        # In double precision: single would be a different sphere at the eighth digit.
        value = torch.tensor(float(curvature), dtype=torch.float64)
        if learnable:
            self.curvature = nn.Parameter(value)
        else:
            self.register_buffer("curvature", value)

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return cc.metric_tensor(z, self.curvature)

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        # The frame is symmetric: its inverse is taken twice, on the rows of the transpose.
        places = z.unsqueeze(-2)
        return self.to_frame(places, self.to_frame(places, vectors.mT)).mT

    @override
    def log_volume(self, z: Tensor) -> Tensor:
        return cc.log_volume(z, self.curvature)

    @override
    def orthonormal_frame(self, z: Tensor) -> Tensor:
        return cc.orthonormal_frame(z, self.curvature)

    @override
    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        return cc.safe_norm(self.to_frame(z, v))

    @override
    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        return cc.to_frame(z, v, self.curvature)

    @override
    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return cc.from_frame(z, a, self.curvature)

    @override
    def exp_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return cc.exp_frame(z, a, self.curvature)

    @override
    def log_frame(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.log_frame(a, b, self.curvature)

    @override
    def transp_frame(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return cc.transp_frame(a, b, c, self.curvature)

    @override
    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return cc.geodesic(a, b, t, self.curvature)

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        return cc.squared_dist(a, b, self.curvature)

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
        r"""Squashed smoothly into a ball whose radius is stated.

        On a sphere it is 0.9 of the way to the antipode, in hyperbolic space
        :math:`6 / \sqrt{-\kappa}`: beyond, gradients of decoders grow without bound.
        """
        k = self.curvature.to(z)
        bound = torch.where(k > 0, k / (_SPHERE_FILL * math.pi) ** 2, -k / _HYPERBOLIC_FILL**2)
        return cc.squash(z, bound)

    @override
    def features(self, z: Tensor) -> Tensor:
        """Ambient coordinates on a sphere, where they are smooth at the antipode too."""
        return cc.tangent_to_ambient(z, self.curvature) if self.reads_ambient else z


class Product(Metric):
    r"""Product of metrics on consecutive coordinates, :math:`d^2 = \sum_k d_k^2`.

    Arguments:
        metrics: Factors, in the order of their coordinates.

    References:
        Gu, Sala, Gunel & Ré (2019), Learning Mixed-Curvature Representations in Product Spaces.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__()
        if not metrics:
            raise ValueError("a product needs at least one factor, got none")
        self.factors = nn.ModuleList(metrics)
        self.dims = [metric.dim for metric in metrics]
        self.dim = sum(self.dims)

    @property
    def metrics(self) -> list[nn.Module]:
        """The factors."""
        return list(self.factors)

    def _each(self, method: str, *points: Tensor) -> list[Tensor]:
        wide = torch.broadcast_tensors(*points)  # type: ignore[no-untyped-call]
        parts = zip(*(torch.split(x, self.dims, -1) for x in wide), strict=True)
        return [
            getattr(metric, method)(*part) for metric, part in zip(self.factors, parts, strict=True)
        ]

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return self._diagonal(self._each("metric_tensor", z))

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        points, rows = torch.split(z, self.dims, -1), torch.split(vectors, self.dims, -2)
        parts = zip(self.factors, points, rows, strict=True)
        return torch.cat([metric.lower(x, v) for metric, x, v in parts], -2)  # type: ignore[operator]

    def _diagonal(self, blocks: list[Tensor]) -> Tensor:
        """The blocks along the diagonal of one matrix, zeros elsewhere."""
        columns = torch.split(
            blocks[0].new_zeros(*blocks[0].shape[:-2], self.dim, self.dim), self.dims, -1
        )
        rows, start = [], 0
        for block, zeros in zip(blocks, columns, strict=True):
            stop = start + block.shape[-1]
            rows.append(torch.cat([zeros[..., :start, :], block, zeros[..., stop:, :]], -2))
            start = stop
        return torch.cat(rows, -1)

    @override
    def log_volume(self, z: Tensor) -> Tensor:
        return torch.stack(self._each("log_volume", z), -1).sum(-1)

    @override
    def orthonormal_frame(self, z: Tensor) -> Tensor:
        return self._diagonal(self._each("orthonormal_frame", z))

    @override
    def check(self, z: Tensor, name: str = "points") -> Tensor:
        super().check(z, name)
        for metric, part in zip(self.factors, torch.split(z, self.dims, -1), strict=True):
            metric.check(part, name)  # type: ignore[operator]
        return z

    @override
    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        return cc.safe_norm(self.to_frame(z, v))

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.stack(self._each("squared_dist", a, b), -1).sum(-1)

    @override
    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        return torch.cat(self._each("to_frame", z, v), -1)

    @override
    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return torch.cat(self._each("from_frame", z, a), -1)

    @override
    def exp_frame(self, z: Tensor, a: Tensor) -> Tensor:
        return torch.cat(self._each("exp_frame", z, a), -1)

    @override
    def log_frame(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat(self._each("log_frame", a, b), -1)

    @override
    def transp_frame(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.cat(self._each("transp_frame", a, b, c), -1)

    @override
    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        first, second = (torch.split(x, self.dims, -1) for x in (a, b))
        curves = [
            metric.geodesic(x, y, t)  # type: ignore[operator]
            for metric, x, y in zip(self.factors, first, second, strict=True)
        ]
        return torch.cat(curves, -1)

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


def sphere(dim: int, radius: float = 1.0) -> ConstantCurvature:
    """Sphere of a radius, in tangent coordinates at a pole."""
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    return ConstantCurvature(dim, 1 / radius**2)


def hyperbolic(dim: int, curvature: float = -1.0) -> ConstantCurvature:
    """Hyperbolic space in tangent coordinates at the origin of the Lorentz model.

    References:
        Cannon, Floyd, Kenyon & Parry (1997), Hyperbolic Geometry, section 7.
    """
    if not -math.inf < curvature < 0:
        raise ValueError(f"curvature of a hyperbolic space must be negative, got {curvature}")
    return ConstantCurvature(dim, curvature)
