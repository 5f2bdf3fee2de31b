r"""Metrics that observations themselves suggest: short paths keep near the data.

With weights :math:`w_n(x) = e^{-|x - x_n|^2 / 2 \sigma^2}`,

.. math::

    M_{dd}(x) &= \Bigl(\sum_n w_n(x) (x_{nd} - x_d)^2 + \rho\Bigr)^{-1}
        && \text{local variance,} \\
    M(x) &= \Bigl(\sum_k W_k e^{-|x - c_k|^2 / 2 \sigma^2} + \rho\Bigr) I
        && \text{radial cost,} \\
    M(x) &= \sum_n w_n(x) M_n \big/ \sum_n w_n(x)
        && \text{average of local metrics.}

Local metrics come from groups of labelled points with means :math:`m_c` and covariances
:math:`\Sigma_c`: Mahalanobis' :math:`(\Sigma_c + \rho I)^{-1}`, or those of discriminants,

.. math::

    W_c^{-1/2} \bigl( W_c^{-1/2} B_c W_c^{-1/2} + I \bigr) W_c^{-1/2}, \qquad
    W_c = \Sigma_c + \rho I, \quad B_c = \sum_{c'} \pi_{c'} (m_{c'} - m_c)(m_{c'} - m_c)^\top ,

which are longer across the borders to the other groups.

References:
    Arvanitidis, Hansen & Hauberg (2016), A Locally Adaptive Normal Distribution;
    Hauberg, Freifeld & Black (2012), A Geometric Take on Metric Learning;
    Hastie & Tibshirani (1996), Discriminant Adaptive Nearest Neighbor Classification.
"""

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.pullback.numerical import NumericalMetric
from latentgeom.solvers.solver import DEFAULT, Solver

__all__ = [
    "LocalAverage",
    "LocalVariance",
    "RadialCost",
    "local_discriminants",
    "local_mahalanobis",
]


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
        solver: How geodesics are solved.

    References:
        Arvanitidis, Hansen & Hauberg (2016), A Locally Adaptive Normal Distribution,
        arXiv:1606.02518.
    """

    data: Tensor

    def __init__(
        self,
        data: Tensor,
        bandwidth: float,
        floor: float = 1e-2,
        solver: Solver = DEFAULT,
    ) -> None:
        super().__init__(data.shape[-1], solver)
        _positive(bandwidth=bandwidth, floor=floor)
        self.register_buffer("data", data)
        self.bandwidth, self.floor = bandwidth, floor

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return torch.diag_embed(1 / self._variance(z))

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        return vectors / self._variance(z).unsqueeze(-1)

    def _variance(self, z: Tensor) -> Tensor:
        weights = _log_weights(z, self.data, self.bandwidth).exp()
        square = (z.unsqueeze(-2) - self.data).square()
        return (weights.unsqueeze(-2) @ square).squeeze(-2) + self.floor


class RadialCost(NumericalMetric):
    r"""Isotropic cost by radial functions.

    Arguments:
        centres: Centres ``c``, ``(K, d)``.
        weights: Costs ``W``, ``(K,)``, not below zero.
        bandwidth: Width :math:`\sigma` of the functions.
        floor: Cost :math:`\rho` far from all centres.
        solver: How geodesics are solved.
    """

    centres: Tensor
    weights: Tensor

    def __init__(
        self,
        centres: Tensor,
        weights: Tensor,
        bandwidth: float,
        floor: float = 1e-2,
        solver: Solver = DEFAULT,
    ) -> None:
        super().__init__(centres.shape[-1], solver)
        _positive(bandwidth=bandwidth, floor=floor)
        if not bool((weights >= 0).all()):
            raise ValueError("weights must not be negative")
        self.register_buffer("centres", centres)
        self.register_buffer("weights", weights)
        self.bandwidth, self.floor = bandwidth, floor

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        return self._cost(z) * torch.eye(self.dim, dtype=z.dtype, device=z.device)

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        return self._cost(z) * vectors

    def _cost(self, z: Tensor) -> Tensor:
        basis = _log_weights(z, self.centres, self.bandwidth).exp()
        return ((basis * self.weights).sum(-1) + self.floor)[..., None, None]


class LocalAverage(NumericalMetric):
    """Smooth average of metrics known at some points (discriminants, Mahalanobis, ...).

    Arguments:
        centres: Points, ``(N, d)``.
        tensors: Their positive definite metric tensors, ``(N, d, d)``.
        bandwidth: Width of the weights.
        solver: How geodesics are solved.

    References:
        Hauberg, Freifeld & Black (2012), A Geometric Take on Metric Learning.
    """

    centres: Tensor
    tensors: Tensor

    def __init__(
        self,
        centres: Tensor,
        tensors: Tensor,
        bandwidth: float,
        solver: Solver = DEFAULT,
    ) -> None:
        super().__init__(centres.shape[-1], solver)
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

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        weights = _log_weights(z, self.centres, self.bandwidth).softmax(-1)
        total = torch.zeros_like(vectors)
        for weight, tensor in zip(weights.unbind(-1), self.tensors, strict=True):
            total = total + weight[..., None, None] * (tensor @ vectors)
        return total


def _groups(data: Tensor, labels: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Means ``(C, d)``, regularised covariances ``(C, d, d)`` and shares ``(C,)`` of the groups."""
    if labels.shape != data.shape[:1]:
        raise ValueError(
            f"labels must be one a point, got {(*labels.shape,)} for {len(data)} points"
        )
    _positive(floor=floor)
    parts = [data[labels == label] for label in torch.unique(labels)]
    means = torch.stack([part.mean(0) for part in parts])
    spread = torch.stack([torch.cov(part.mT, correction=0) for part in parts])
    identity = torch.eye(data.shape[-1], dtype=data.dtype, device=data.device)
    shares = torch.tensor(
        [len(part) / len(data) for part in parts], dtype=data.dtype, device=data.device
    )
    return means, spread + floor * identity, shares


def local_mahalanobis(
    data: Tensor, labels: Tensor, bandwidth: float, floor: float = 1e-2, solver: Solver = DEFAULT
) -> LocalAverage:
    r"""Average of the Mahalanobis metrics of groups of points, weighted around their means.

    Arguments:
        data: Points, ``(N, d)``.
        labels: Their groups, ``(N,)``.
        bandwidth: Width of the weights.
        floor: Regulariser :math:`\rho` of the covariances.
        solver: How geodesics are solved.
    """
    means, covariances, _ = _groups(data, labels, floor)
    return LocalAverage(means, _symmetric(torch.linalg.inv(covariances)), bandwidth, solver)


def local_discriminants(
    data: Tensor, labels: Tensor, bandwidth: float, floor: float = 1e-2, solver: Solver = DEFAULT
) -> LocalAverage:
    r"""Average of the discriminant metrics of classes, weighted around their means.

    Arguments:
        data: Points, ``(N, d)``.
        labels: Their classes, ``(N,)``.
        bandwidth: Width of the weights.
        floor: Regulariser :math:`\rho` of the covariances within classes.
        solver: How geodesics are solved.

    References:
        Hastie & Tibshirani (1996), Discriminant Adaptive Nearest Neighbor Classification.
    """
    means, covariances, shares = _groups(data, labels, floor)
    gaps = means - means.unsqueeze(1)
    between = torch.einsum("k,cki,ckj->cij", shares, gaps, gaps)
    inverse = torch.linalg.inv(covariances)
    tensors = inverse @ between @ inverse + inverse  # the formula above, multiplied out
    return LocalAverage(means, _symmetric(tensors), bandwidth, solver)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2
