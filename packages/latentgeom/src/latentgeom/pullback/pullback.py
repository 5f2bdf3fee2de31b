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
from latentgeom.shell.showing import in_a_line
from latentgeom.solvers.boundary import geodesics
from latentgeom.solvers.means import frechet_mean
from latentgeom.solvers.solver import DEFAULT, Solver

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
        solver: How geodesics are solved.

    References:
        Shao, Kumar & Fletcher (2018), The Riemannian Geometry of Deep Generative Models,
        arXiv:1711.08014.
    """

    def __init__(self, decoder: Map, dim: int, solver: Solver = DEFAULT) -> None:
        super().__init__(dim, solver)
        self.chart = Chart(decoder, dim)

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        columns = jacobian(self.chart, z)[1]
        return columns.mT @ columns

    @override
    def element_energy(self, root: Tensor, nodes: Tensor) -> Tensor:
        return (root @ self.chart.embed(nodes)).square().sum((-2, -1)) / 2

    @override
    def connection(self, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
        r"""By derivatives of the map, :math:`(J^\top J)^{-1} J^\top f''[u, w]`."""
        first, basis = (
            z.unsqueeze(-2).expand_as(w),
            torch.eye(self.dim, dtype=z.dtype, device=z.device),
        )
        try:
            bend = _pushed(_pushed(self.chart.decoder, u.unsqueeze(-2).expand_as(w)), w)(first)
        except (NotImplementedError, RuntimeError):  # activations without a third derivative
            return super().connection(z, u, w)
        square = basis.expand(*z.shape, self.dim)
        rows = _pushed(self.chart.decoder, square)(z.unsqueeze(-2).expand_as(square))
        solved: Tensor = torch.linalg.solve(rows @ rows.mT, rows @ bend.mT)
        return solved.mT

    @override
    def connect(
        self,
        a: Tensor,
        b: Tensor,
        num_segments: int | None = None,
        initial: Tensor | None = None,
    ) -> GeodesicBatch:
        # Velocities are wanted too: the error of the curve is the root of the energy's.
        return geodesics(
            self.chart, a, b, num_segments=num_segments or self.solver.num_segments,
            tolerance=_FINE, initial=initial, memory_gb=self.solver.memory_gb,
        )  # fmt: skip

    @override
    def chord(self, a: Tensor, b: Tensor) -> Tensor:
        image = self.chart.embed(torch.stack([a, b]))
        length: Tensor = torch.linalg.vector_norm(image[0] - image[1], dim=-1)
        return length

    @override
    def mean(
        self, points: Tensor, weights: Tensor | None = None, tolerance: float = 1e-14
    ) -> FrechetMean:
        return frechet_mean(
            self.chart, points, weights, tolerance=tolerance, memory_gb=self.solver.memory_gb
        )


class EnrichedPullback(NumericalMetric):
    """The metric that a decoder induces from observations with a metric of their own.

    Arguments:
        decoder: Smooth map ``(..., d) -> (..., D)``.
        ambient: Metric of the observations, of dimension ``D``.
        dim: Dimension ``d``.
        solver: How geodesics are solved.

    References:
        Arvanitidis, Hauberg & Schölkopf (2021), Geometrically Enriched Latent Spaces,
        arXiv:2008.00565.
    """

    def __init__(
        self,
        decoder: Map,
        ambient: Metric,
        dim: int,
        solver: Solver = DEFAULT,
    ) -> None:
        super().__init__(dim, solver)
        self.chart, self.ambient = Chart(decoder, dim), ambient

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        image, columns = jacobian(self.chart, z)
        # Never the ambient tensor itself: it has D x D numbers a point.
        return columns.mT @ self.ambient.lower(image, columns)


class Conformal(NumericalMetric):
    r"""A metric times a positive function, :math:`e^{2 \phi(z)} G(z)`.

    Arguments:
        metric: Metric to scale.
        log_factor: :math:`\phi`, ``(..., d) -> (...,)``.
        solver: How geodesics are solved.
    """

    def __init__(self, metric: Metric, log_factor: Map, solver: Solver = DEFAULT) -> None:
        super().__init__(metric.dim, solver)
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
        solver: How geodesics are solved.
    """

    def __init__(
        self,
        chosen: Metric,
        other: Metric,
        weight: float,
        solver: Solver = DEFAULT,
    ) -> None:
        super().__init__(chosen.dim, solver)
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

    __str__ = in_a_line

    def __init__(self, maps: list[nn.Module]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., d)`` to ``(..., sum_k D_k)``."""
        return torch.cat([part(z) for part in self.maps], -1)


def ellipsoid(axes: Sequence[float], solver: Solver = DEFAULT) -> Pullback:
    r"""The ellipsoid :math:`\sum_k (x_k / a_k)^2 = 1` in coordinates of its sphere.

    The coordinates are the sphere's tangent coordinates at :math:`(a_1, 0, \dots)`, all but
    the opposite point; :class:`latentgeom.Ellipsoid` has no such point.

    Arguments:
        axes: Half axes, all positive, one more than the dimension.
        solver: How geodesics are solved.
    """
    if len(axes) < 2 or not all(0 < axis < math.inf for axis in axes):
        raise ValueError(f"axes must be two or more positive numbers, got {list(axes)}")

    def embed(z: Tensor) -> Tensor:
        return cc.tangent_to_ambient(z, 1.0) * torch.tensor(axes, dtype=z.dtype, device=z.device)

    return Pullback(embed, len(axes) - 1, solver)


def torus(major: float, minor: float, solver: Solver = DEFAULT) -> Pullback:
    r"""The torus of radii ``major`` and ``minor`` by its two angles, unrolled.

    Coordinates :math:`(\psi, \phi)` go to
    :math:`((R + r \cos\psi) \cos\phi, (R + r \cos\psi) \sin\phi, r \sin\psi)`; angles a turn
    apart are different points of the covering plane.

    Arguments:
        major: Radius ``R`` of the central circle.
        minor: Radius ``r`` of the tube, below ``R``.
        solver: How geodesics are solved.
    """
    if not 0 < minor < major:
        raise ValueError(f"radii must be 0 < minor < major, got {minor} and {major}")

    def embed(z: Tensor) -> Tensor:
        psi, phi = z.unbind(-1)
        rho = major + minor * psi.cos()
        return torch.stack([rho * phi.cos(), rho * phi.sin(), minor * psi.sin()], -1)

    return Pullback(embed, 2, solver)
