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

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentgeom.geodesics import GeodesicBatch, geodesics
from latentgeom.immersion import Chart, jacobian
from latentgeom.metric import Metric
from latentgeom.numerical import NumericalMetric

__all__ = ["Blend", "Conformal", "EnrichedPullback", "Pullback", "RadialDeviation", "Stacked"]

Map = Callable[[Tensor], Tensor]


class Pullback(NumericalMetric):
    """The metric that a decoder induces from Euclidean observations.

    Arguments:
        decoder: Smooth map ``(..., d) -> (..., D)``.
        dim: Dimension ``d``.
        num_segments: Segments of boundary-value geodesics.
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    def __init__(self, decoder: Map, dim: int, num_segments: int = 32, num_steps: int = 64) -> None:
        super().__init__(dim, num_segments, num_steps)
        self.chart = Chart(decoder, dim)

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        columns = jacobian(self.chart, z)[1]
        return columns.mT @ columns

    @override
    def connect(self, a: Tensor, b: Tensor) -> GeodesicBatch:
        return geodesics(self.chart, a, b, num_segments=self.num_segments)


class EnrichedPullback(NumericalMetric):
    """The metric that a decoder induces from observations with a metric of their own.

    Arguments:
        decoder: Smooth map ``(..., d) -> (..., D)``.
        ambient: Metric of the observations, of dimension ``D``.
        dim: Dimension ``d``.
        num_segments: Segments of boundary-value geodesics.
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    def __init__(
        self, decoder: Map, ambient: Metric, dim: int, num_segments: int = 32, num_steps: int = 64
    ) -> None:
        super().__init__(dim, num_segments, num_steps)
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
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    def __init__(
        self, metric: Metric, log_factor: Map, num_segments: int = 32, num_steps: int = 64
    ) -> None:
        super().__init__(metric.dim, num_segments, num_steps)
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
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    def __init__(
        self,
        chosen: Metric,
        other: Metric,
        weight: float,
        num_segments: int = 32,
        num_steps: int = 64,
    ) -> None:
        super().__init__(chosen.dim, num_segments, num_steps)
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


class RadialDeviation(nn.Module):
    r"""Standard deviation that grows away from the codes.

    .. math:: \sigma(z) = \beta(z)^{-1/2}, \qquad
        \beta(z) = W v(z) + \zeta, \quad v_k(z) = e^{-\lambda_k |z - c_k|^2}, \quad W \ge 0

    Arguments:
        centres: Centres ``c``, ``(K, d)``.
        rates: Positive :math:`\lambda`, ``(K,)``.
        out_features: Number ``D`` of observations.
        floor: Precision :math:`\zeta` far from all centres.
    """

    centres: Tensor
    rates: Tensor

    def __init__(
        self, centres: Tensor, rates: Tensor, out_features: int, floor: float = 1e-3
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}")
        self.register_buffer("centres", centres)
        self.register_buffer("rates", rates)
        self.floor = floor
        self.log_weight = nn.Parameter(torch.zeros(out_features, len(centres)).to(centres))

    def forward(self, z: Tensor) -> Tensor:
        """``(..., d)`` to ``(..., D)``."""
        square = (z.unsqueeze(-2) - self.centres).square().sum(-1)
        basis = (-self.rates * square).exp()
        precision = basis @ self.log_weight.exp().mT + self.floor
        return precision.rsqrt()
