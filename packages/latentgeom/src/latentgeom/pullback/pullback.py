r"""Metrics pulled back through a decoder.

.. math:: G(z) = J(z)^\top M(f(z))\, J(z)

With :math:`M = I` geodesics are solved by Newton's method on the images; a decoder with
mean and standard deviation has the expected metric
:math:`J_\mu^\top J_\mu + J_\sigma^\top J_\sigma`, which is the pullback of the stacked map
:math:`(\mu, \sigma)`: no second code path.

References:
    Arvanitidis, Hansen & Hauberg (2018), Latent Space Oddity, equations 5 and 8;
    Arvanitidis, Hauberg & Schölkopf (2021), Geometrically Enriched Latent Spaces.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import vjp
from typing_extensions import override

from latentgeom.immersions.immersion import Chart, jacobian
from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.answers import FrechetMean, GeodesicBatch
from latentgeom.metrics.metric import Metric
from latentgeom.pullback.numerical import NumericalMetric
from latentgeom.solvers.boundary import geodesics
from latentgeom.solvers.means import frechet_mean

__all__ = ["Blend", "Conformal", "EnrichedPullback", "Pullback", "Stacked", "ellipsoid", "torus"]

Map = Callable[[Tensor], Tensor]
_FINE = 1e-18


def _pushed(function: Map, direction: Tensor) -> Map:
    """Directional derivative by two reverse derivatives.

    Forward ones are slow in torch wherever a constant meets a variable.
    """

    def derivative(x: Tensor) -> Tensor:
        pulled = vjp(function, x)
        value, pull = pulled[0], pulled[1]
        column: Tensor = vjp(lambda c: pull(c)[0], torch.zeros_like(value))[1](direction)[0]
        return column

    return derivative


class Pullback(NumericalMetric):
    """The metric that a decoder induces from Euclidean observations.

    Arguments:
        decoder: Smooth map ``(..., d) -> (..., D)``.
        dim: Dimension ``d``.
        num_segments: Segments of boundary-value geodesics.
        tolerance: Error of a step of initial-value geodesics.
    """

    def __init__(
        self, decoder: Map, dim: int, num_segments: int = 32, tolerance: float = 1e-9
    ) -> None:
        super().__init__(dim, num_segments, tolerance)
        self.chart = Chart(decoder, dim)

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        columns = jacobian(self.chart, z)[1]
        return columns.mT @ columns

    @override
    def connection(self, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
        r"""By derivatives of the map, :math:`(J^\top J)^{-1} J^\top f''[u, w]`."""
        first, basis = z.unsqueeze(-2).expand_as(w), torch.eye(self.dim).to(z)
        try:
            bend = _pushed(_pushed(self.chart.decoder, u.unsqueeze(-2).expand_as(w)), w)(first)
        except (NotImplementedError, RuntimeError):  # activations without a third derivative
            return super().connection(z, u, w)
        square = basis.expand(*z.shape, self.dim)
        rows = _pushed(self.chart.decoder, square)(z.unsqueeze(-2).expand_as(square))
        solved: Tensor = torch.linalg.solve(rows @ rows.mT, rows @ bend.mT)
        return solved.mT

    @override
    def connect(self, a: Tensor, b: Tensor, num_segments: int | None = None) -> GeodesicBatch:
        # Velocities are wanted too: the error of the curve is the root of the energy's.
        segments = num_segments or self.num_segments
        return geodesics(self.chart, a, b, num_segments=segments, tolerance=_FINE)

    @override
    def mean(
        self, points: Tensor, weights: Tensor | None = None, tolerance: float = 1e-14
    ) -> FrechetMean:
        return frechet_mean(self.chart, points, weights, tolerance=tolerance)


class EnrichedPullback(NumericalMetric):
    """The metric that a decoder induces from observations with a metric of their own.

    Arguments:
        decoder: Smooth map ``(..., d) -> (..., D)``.
        ambient: Metric of the observations, of dimension ``D``.
        dim: Dimension ``d``.
        num_segments: Segments of boundary-value geodesics.
        tolerance: Error of a step of initial-value geodesics.
    """

    def __init__(
        self,
        decoder: Map,
        ambient: Metric,
        dim: int,
        num_segments: int = 32,
        tolerance: float = 1e-9,
    ) -> None:
        super().__init__(dim, num_segments, tolerance)
        self.chart, self.ambient = Chart(decoder, dim), ambient

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        image, columns = jacobian(self.chart, z)
        return columns.mT @ self.ambient.metric_tensor(image) @ columns


class Conformal(NumericalMetric):
    r"""A metric times a positive function, :math:`e^{2 \phi(z)} G(z)`.

    Arguments:
        metric: Metric to scale.
        log_factor: :math:`\phi`, ``(..., d) -> (...,)``.
        num_segments: Segments of boundary-value geodesics.
        tolerance: Error of a step of initial-value geodesics.
    """

    def __init__(
        self, metric: Metric, log_factor: Map, num_segments: int = 32, tolerance: float = 1e-9
    ) -> None:
        super().__init__(metric.dim, num_segments, tolerance)
        self.metric, self.log_factor = metric, log_factor

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        factor = (2 * self.log_factor(z)).exp()
        return factor[..., None, None] * self.metric.metric_tensor(z)


class Blend(NumericalMetric):
    r"""A chosen metric plus a weighted other one, :math:`h(z) + \alpha\, G(z)`.

    Arguments:
        chosen: Metric ``h``.
        other: Metric ``G``, for instance a pullback.
        weight: Non-negative :math:`\alpha`.
        num_segments: Segments of boundary-value geodesics.
        tolerance: Error of a step of initial-value geodesics.
    """

    def __init__(
        self,
        chosen: Metric,
        other: Metric,
        weight: float,
        num_segments: int = 32,
        tolerance: float = 1e-9,
    ) -> None:
        super().__init__(chosen.dim, num_segments, tolerance)
        if chosen.dim != other.dim or not weight >= 0:
            raise ValueError(
                f"blended metrics need one dimension and a weight of at least 0, got"
                f" {chosen.dim}, {other.dim} and {weight}"
            )
        self.chosen, self.other, self.weight = chosen, other, weight

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return self.chosen.metric_tensor(z) + self.weight * self.other.metric_tensor(z)


class Stacked(nn.Module):
    """Several maps side by side; of mean and deviation it pulls back the expected metric.

    Arguments:
        maps: Maps ``(..., d) -> (..., D_k)``.
    """

    def __init__(self, maps: list[nn.Module]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., d)`` to ``(..., sum_k D_k)``."""
        return torch.cat([part(z) for part in self.maps], -1)


def ellipsoid(axes: Sequence[float], num_segments: int = 32, tolerance: float = 1e-9) -> Pullback:
    r"""The ellipsoid :math:`\sum_k (x_k / a_k)^2 = 1` in coordinates of its sphere.

    The coordinates are the sphere's tangent coordinates at :math:`(a_1, 0, \dots)`, all but
    the opposite point; :class:`latentgeom.Ellipsoid` has no such point.

    Arguments:
        axes: Half axes, all positive, one more than the dimension.
        num_segments: Segments of boundary-value geodesics.
        tolerance: Error of a step of initial-value geodesics.
    """
    if len(axes) < 2 or not all(0 < axis < math.inf for axis in axes):
        raise ValueError(f"axes must be two or more positive numbers, got {list(axes)}")

    def embed(z: Tensor) -> Tensor:
        return cc.tangent_to_ambient(z, 1.0) * torch.tensor(axes).to(z)

    return Pullback(embed, len(axes) - 1, num_segments, tolerance)


def torus(major: float, minor: float, num_segments: int = 32, tolerance: float = 1e-9) -> Pullback:
    r"""The torus of radii ``major`` and ``minor`` by its two angles, unrolled.

    Coordinates :math:`(\psi, \phi)` go to
    :math:`((R + r \cos\psi) \cos\phi, (R + r \cos\psi) \sin\phi, r \sin\psi)`; angles a turn
    apart are different points of the covering plane.

    Arguments:
        major: Radius ``R`` of the central circle.
        minor: Radius ``r`` of the tube, below ``R``.
        num_segments: Segments of boundary-value geodesics.
        tolerance: Error of a step of initial-value geodesics.
    """
    if not 0 < minor < major:
        raise ValueError(f"radii must be 0 < minor < major, got {minor} and {major}")

    def embed(z: Tensor) -> Tensor:
        psi, phi = z.unbind(-1)
        rho = major + minor * psi.cos()
        return torch.stack([rho * phi.cos(), rho * phi.sin(), minor * psi.sin()], -1)

    return Pullback(embed, 2, num_segments, tolerance)
