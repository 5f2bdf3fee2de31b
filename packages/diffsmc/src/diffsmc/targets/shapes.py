r"""Single-shape targets whose normalising constant is known in closed form.

Gaussians, a skewed Gaussian :math:`2\phi(x)\Phi(a x)`, Neal's funnel and products
of double wells.
"""

import math

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.targets.target import Target

__all__ = ["Funnel", "Gaussian", "ManyWell", "SkewedGaussian", "correlated_gaussian"]

LOG_2PI = math.log(2 * math.pi)
# coefficients of x, x^2 and x^4 in a double well and in its Gaussian partner
POWERS = {"linear": (0.5, 0.0), "square": (6.0, -0.5), "fourth": (-1.0, 0.0)}


class Gaussian(Target):
    r"""Gaussian :math:`Z\,N(\mu, \Sigma)`.

    Arguments:
        mean: :math:`\mu`, ``(D,)``.
        covariance: :math:`\Sigma`, ``(D, D)``; the identity by default.
        log_normalizer: :math:`\log Z`.
        scale: Standard deviation of the wide start.
    """

    def __init__(
        self,
        mean: list[float],
        covariance: list[list[float]] | None = None,
        log_normalizer: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__(len(mean), scale=scale, log_normalizer=log_normalizer, log_concave=True)
        eye = torch.eye(len(mean), dtype=torch.float64)
        cov = eye if covariance is None else torch.as_tensor(covariance, dtype=torch.float64)
        factor = torch.linalg.cholesky(cov)
        self.constant = (
            log_normalizer - float(factor.diagonal().log().sum()) - self.dim / 2 * LOG_2PI
        )
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        precision = torch.cholesky_inverse(factor)
        self.register_buffer("precision", precision)
        self.register_buffer("factor", factor)
        diagonal = precision.diagonal()
        self.independent = torch.equal(precision, torch.diag(diagonal))
        self.register_buffer("precisions", diagonal.clone(), persistent=False)

    mean: Tensor
    precision: Tensor
    factor: Tensor
    precisions: Tensor

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_prob_and_grad(x)[0]

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = x - self.mean
        grad = self.score(x)
        return 0.5 * (residual * grad).sum(-1) + self.constant, grad

    @override
    def score(self, x: Tensor) -> Tensor:
        residual = self.mean - x
        return residual * self.precisions if self.independent else residual @ self.precision

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw exact samples, ``(num, D)``."""
        noise = torch.randn(num, self.dim, generator=generator, dtype=self.mean.dtype)
        return self.mean + noise @ self.factor.T


class SkewedGaussian(Target):
    r"""Product of skewed Gaussians :math:`2\phi(x)\Phi(a x)`, an asymmetric density.

    Arguments:
        dim: Dimension.
        skew: :math:`a`.
        scale: Standard deviation of the wide start.
    """

    def __init__(self, dim: int = 1, skew: float = 4.0, scale: float = 1.0) -> None:
        super().__init__(dim, scale=scale, log_normalizer=0.0, log_concave=True)
        self.skew = skew

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        log_phi = -0.5 * x.square() - 0.5 * LOG_2PI
        log_cdf: Tensor = torch.special.log_ndtr(self.skew * x)
        return (math.log(2) + log_phi + log_cdf).sum(-1)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.skew * x
        log_cdf = torch.special.log_ndtr(u)
        log_phi = -0.5 * x.square() - 0.5 * LOG_2PI
        hazard = torch.exp(-0.5 * u.square() - 0.5 * LOG_2PI - log_cdf)
        return (math.log(2) + log_phi + log_cdf).sum(-1), self.skew * hazard - x

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        r"""Draw exact samples, :math:`\delta|u| + \sqrt{1-\delta^2}\,v`, ``(num, D)``."""
        noise = torch.randn(2, num, self.dim, generator=generator, dtype=torch.float64)
        delta = self.skew / math.sqrt(1 + self.skew**2)
        return delta * noise[0].abs() + math.sqrt(1 - delta**2) * noise[1]


class Funnel(Target):
    r"""Neal's funnel: :math:`v\sim N(0,\sigma^2)`, the others :math:`N(0,e^v)`.

    Arguments:
        dim: Dimension.
        sigma: Standard deviation of the neck coordinate.
        scale: Standard deviation of the wide start.

    References:
        Neal, Slice sampling, Annals of Statistics 2003.
    """

    def __init__(self, dim: int = 10, sigma: float = 3.0, scale: float = 3.0) -> None:
        super().__init__(dim, scale=scale, log_normalizer=0.0)
        self.sigma = sigma

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        v, rest = x[..., 0], x[..., 1:]
        neck = -0.5 * (v / self.sigma).square() - math.log(self.sigma)
        body = -0.5 * rest.square().sum(-1) * torch.exp(-v) - 0.5 * (self.dim - 1) * v
        return neck + body - 0.5 * self.dim * LOG_2PI

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        v, rest = x[..., :1], x[..., 1:]
        pull = -rest * torch.exp(-v)
        energy = -0.5 * (rest * pull).sum(-1, keepdim=True)
        dv = energy - 0.5 * (self.dim - 1) - v / self.sigma**2
        value = -0.5 * (v / self.sigma).square() - energy - 0.5 * (self.dim - 1) * v
        constant = math.log(self.sigma) + 0.5 * self.dim * LOG_2PI
        return value[..., 0] - constant, torch.cat([dv, pull], -1)

    @override
    def score(self, x: Tensor) -> Tensor:
        v, rest = x[..., :1], x[..., 1:]
        pull = -rest * torch.exp(-v)
        dv = -0.5 * (rest * pull).sum(-1, keepdim=True) - 0.5 * (self.dim - 1)
        return torch.cat([dv - v / self.sigma**2, pull], -1)

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw exact samples, ``(num, D)``."""
        noise = torch.randn(num, self.dim, generator=generator, dtype=torch.float64)
        v = self.sigma * noise[:, :1]
        return torch.cat([v, torch.exp(v / 2) * noise[:, 1:]], -1)


class ManyWell(Target):
    r"""Independent pairs of a double well and a Gaussian.

    :math:`\log\gamma = \sum_j \tfrac12 u_j + 6u_j^2 - u_j^4 - \tfrac12 v_j^2` over the
    pairs :math:`(u_j, v_j)`: :math:`2^{D/2}` modes. :math:`\log Z` is a quadrature.

    Arguments:
        dim: Dimension, even.
        scale: Standard deviation of the wide start.

    References:
        Noé et al., Boltzmann generators, Science 2019.
    """

    def __init__(self, dim: int = 32, scale: float = 2.0) -> None:
        if dim % 2:
            raise ValueError(f"dim must be even, got {dim}")
        u = torch.linspace(-5, 5, 100_001, dtype=torch.float64)
        mass = torch.exp(0.5 * u + 6 * u.square() - u.pow(4))
        well = float(torch.trapezoid(mass, u))
        super().__init__(dim, scale=scale, log_normalizer=dim / 2 * (math.log(well) + LOG_2PI / 2))
        self.right_mass = float(torch.trapezoid(mass * (u > 0), u)) / well
        # rows of coefficients, since slices of every other coordinate are slow
        for name, pair in POWERS.items():
            row = torch.tensor(pair, dtype=torch.float64).repeat(dim // 2)
            self.register_buffer(name, row, persistent=False)
        self.register_buffer("grid", u, persistent=False)
        self.register_buffer("cdf", mass.cumsum(0) / mass.sum(), persistent=False)

    linear: Tensor
    square: Tensor
    fourth: Tensor
    grid: Tensor
    cdf: Tensor

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        square = x.square()
        steep = torch.addcmul(self.square, self.fourth, square)
        return (square * steep).sum(-1) + x @ self.linear

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_prob(x), self.score(x)

    @override
    def score(self, x: Tensor) -> Tensor:
        slope = torch.addcmul(2 * self.square, 4 * self.fourth, x.square())
        return torch.addcmul(self.linear, slope, x)

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw samples, ``(num, D)``, wells by inversion on a grid of width 1e-4."""
        uniform = torch.rand(num, self.dim // 2, generator=generator, dtype=torch.float64)
        wells = self.grid[torch.searchsorted(self.cdf, uniform)]
        rest = torch.randn(num, self.dim // 2, generator=generator, dtype=torch.float64)
        return torch.stack([wells, rest], -1).flatten(-2)


def correlated_gaussian(
    dim: int = 5, correlation: float = 0.8, log_normalizer: float = 1.5
) -> Gaussian:
    """Gaussian with equal correlations and unequal scales.

    Arguments:
        dim: Dimension.
        correlation: Correlation of any two coordinates.
        log_normalizer: Log of the normalising constant.
    """
    scales = torch.linspace(0.5, 1.0, dim, dtype=torch.float64)
    matrix = torch.full((dim, dim), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    covariance = matrix * scales[:, None] * scales
    mean = torch.linspace(-0.5, 0.5, dim, dtype=torch.float64)
    return Gaussian(mean.tolist(), covariance.tolist(), log_normalizer)
