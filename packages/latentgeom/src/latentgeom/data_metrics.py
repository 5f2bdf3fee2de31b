r"""Metrics that observations themselves suggest: short paths keep near the data.

With weights :math:`w_n(x) = e^{-|x - x_n|^2 / 2 \sigma^2}`,

.. math::

    M_{dd}(x) &= \Bigl(\sum_n w_n(x) (x_{nd} - x_d)^2 + \rho\Bigr)^{-1}
        && \text{local variance,} \\
    M(x) &= \Bigl(\sum_k W_k e^{-|x - c_k|^2 / 2 \sigma^2} + \rho\Bigr) I
        && \text{radial cost,} \\
    M(x) &= \sum_n w_n(x) M_n \big/ \sum_n w_n(x)
        && \text{average of local metrics.}

References:
    Arvanitidis, Hansen & Hauberg (2016), A Locally Adaptive Normal Distribution;
    Hauberg, Freifeld & Black (2012), A Geometric Take on Metric Learning.
"""

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.numerical import NumericalMetric

__all__ = ["LocalAverage", "LocalVariance", "RadialCost"]


def _log_weights(x: Tensor, centres: Tensor, bandwidth: float) -> Tensor:
    """Log of the weights, ``(..., N)``."""
    return -(x.unsqueeze(-2) - centres).square().sum(-1) / (2 * bandwidth**2)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


class LocalVariance(NumericalMetric):
    r"""Inverse local diagonal covariance.

    Arguments:
        data: Observations, ``(N, d)``.
        bandwidth: Width :math:`\sigma` of the neighbourhoods.
        floor: Regulariser :math:`\rho`: far from the data distances grow by its inverse root.
        num_segments: Segments of boundary-value geodesics.
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    data: Tensor

    def __init__(
        self,
        data: Tensor,
        bandwidth: float,
        floor: float = 1e-2,
        num_segments: int = 32,
        num_steps: int = 64,
    ) -> None:
        super().__init__(data.shape[-1], num_segments, num_steps)
        _positive(bandwidth=bandwidth, floor=floor)
        self.register_buffer("data", data)
        self.bandwidth, self.floor = bandwidth, floor

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        weights = _log_weights(z, self.data, self.bandwidth).exp()
        square = (z.unsqueeze(-2) - self.data).square()
        variance = (weights.unsqueeze(-2) @ square).squeeze(-2)
        return torch.diag_embed(1 / (variance + self.floor))


class RadialCost(NumericalMetric):
    r"""Isotropic cost by radial functions.

    Arguments:
        centres: Centres ``c``, ``(K, d)``.
        weights: Costs ``W``, ``(K,)``, not below zero.
        bandwidth: Width :math:`\sigma` of the functions.
        floor: Cost :math:`\rho` far from all centres.
        num_segments: Segments of boundary-value geodesics.
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    centres: Tensor
    weights: Tensor

    def __init__(
        self,
        centres: Tensor,
        weights: Tensor,
        bandwidth: float,
        floor: float = 1e-2,
        num_segments: int = 32,
        num_steps: int = 64,
    ) -> None:
        super().__init__(centres.shape[-1], num_segments, num_steps)
        _positive(bandwidth=bandwidth, floor=floor)
        if not bool((weights >= 0).all()):
            raise ValueError("weights must not be negative")
        self.register_buffer("centres", centres)
        self.register_buffer("weights", weights)
        self.bandwidth, self.floor = bandwidth, floor

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        basis = _log_weights(z, self.centres, self.bandwidth).exp()
        cost = (basis * self.weights).sum(-1) + self.floor
        return cost[..., None, None] * torch.eye(self.dim, dtype=z.dtype, device=z.device)


class LocalAverage(NumericalMetric):
    """Smooth average of metrics known at some points (discriminants, Mahalanobis, ...).

    Arguments:
        centres: Points, ``(N, d)``.
        tensors: Their positive definite metric tensors, ``(N, d, d)``.
        bandwidth: Width of the weights.
        num_segments: Segments of boundary-value geodesics.
        num_steps: Runge-Kutta steps of initial-value geodesics.
    """

    centres: Tensor
    tensors: Tensor

    def __init__(
        self,
        centres: Tensor,
        tensors: Tensor,
        bandwidth: float,
        num_segments: int = 32,
        num_steps: int = 64,
    ) -> None:
        super().__init__(centres.shape[-1], num_segments, num_steps)
        _positive(bandwidth=bandwidth)
        if not bool((torch.linalg.eigvalsh(tensors) > 0).all()):
            raise ValueError("tensors must be symmetric positive definite")
        self.register_buffer("centres", centres)
        self.register_buffer("tensors", tensors)
        self.bandwidth = bandwidth

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        weights = _log_weights(z, self.centres, self.bandwidth).softmax(-1)
        return torch.einsum("...n,nij->...ij", weights, self.tensors)
