r"""Mixtures with known normalising constant, mode masses and exact samples.

.. math:: \gamma(x) = Z \sum_k w_k\, p\big((x - \mu_k)/s_k\big)\, s_k^{-D}

with :math:`p` a standard Gaussian or a standard multivariate Student density.
"""

import math

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.targets.target import Target

__all__ = ["GaussianMixture", "StudentMixture", "gmm40", "student_mixture", "two_modes"]

LOG_2PI = math.log(2 * math.pi)


def _scaled_squares(x: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    r"""Give :math:`|x-\mu_k|^2/s_k^2`, ``(..., K)``, by one product and no ``(..., K, D)``."""
    precision = scales.square().reciprocal()
    square = torch.addcmul(
        precision * means.square().sum(-1), x.square().sum(-1, keepdim=True), precision
    )
    return square - x @ (2 * precision[:, None] * means).T


class GaussianMixture(Target):
    """Mixture of isotropic Gaussians.

    Arguments:
        means: Centres, ``(K, D)``.
        scales: Standard deviations, ``(K,)``.
        weights: Masses, ``(K,)``, summing to 1.
        scale: Standard deviation of the wide start.
        log_normalizer: Log of the factor in front of the mixture.
    """

    def __init__(
        self,
        means: list[list[float]],
        scales: list[float] | None = None,
        weights: list[float] | None = None,
        scale: float = 1.0,
        log_normalizer: float = 0.0,
    ) -> None:
        num = len(means)
        super().__init__(len(means[0]), scale=scale, log_normalizer=log_normalizer)
        self.register_buffer("means", torch.as_tensor(means, dtype=torch.float64))
        self.register_buffer(
            "scales",
            torch.as_tensor([1.0] * num if scales is None else scales, dtype=torch.float64),
        )
        self.register_buffer(
            "masses",
            torch.as_tensor([1 / num] * num if weights is None else weights, dtype=torch.float64),
        )
        if len(self.scales) != num or len(self.masses) != num:
            raise ValueError(f"expected {num} scales and weights, one for each mean")

    means: Tensor
    scales: Tensor
    masses: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """Give the log-density of each component times its mass, ``(..., K)``."""
        constant = self.masses.log() - self.dim * (self.scales.log() + 0.5 * LOG_2PI)
        square = _scaled_squares(x, self.means, self.scales)
        return torch.add(constant, square, alpha=-0.5)

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_joint(x).logsumexp(-1) + (self.log_normalizer or 0.0)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_joint = self.log_joint(x)
        return log_joint.logsumexp(-1) + (self.log_normalizer or 0.0), self._pull(x, log_joint)

    @override
    def score(self, x: Tensor) -> Tensor:
        return self._pull(x, self.log_joint(x))

    def _pull(self, x: Tensor, log_joint: Tensor) -> Tensor:
        """Give the gradient, towards the centres by their shares."""
        pull = log_joint.softmax(-1) / self.scales.square()
        return torch.addcmul(pull @ self.means, pull.sum(-1, keepdim=True), x, value=-1)

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw exact samples, ``(num, D)``."""
        label = torch.multinomial(self.masses, num, True, generator=generator)
        noise = torch.randn(num, self.dim, generator=generator, dtype=self.means.dtype)
        return self.means[label] + self.scales[label, None] * noise


class StudentMixture(Target):
    """Mixture of isotropic multivariate Student densities.

    Arguments:
        means: Centres, ``(K, D)``.
        scales: Scales, ``(K,)``.
        weights: Masses, ``(K,)``, summing to 1.
        freedom: Degrees of freedom.
        scale: Standard deviation of the wide start.
    """

    def __init__(
        self,
        means: list[list[float]],
        scales: list[float],
        weights: list[float],
        freedom: float = 4.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__(len(means[0]), scale=scale, log_normalizer=0.0)
        self.freedom = freedom
        self.register_buffer("means", torch.as_tensor(means, dtype=torch.float64))
        self.register_buffer("scales", torch.as_tensor(scales, dtype=torch.float64))
        self.register_buffer("masses", torch.as_tensor(weights, dtype=torch.float64))

    means: Tensor
    scales: Tensor
    masses: Tensor

    def _log_joint(self, square: Tensor) -> Tensor:
        nu, d = self.freedom, self.dim
        constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
        tail = -(nu + d) / 2 * torch.log1p(square / nu)
        return constant + tail - d * self.scales.log() + self.masses.log()

    def log_joint(self, x: Tensor) -> Tensor:
        """Give the log-density of each component times its mass, ``(..., K)``."""
        return self._log_joint(_scaled_squares(x, self.means, self.scales))

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_joint(x).logsumexp(-1)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        square = _scaled_squares(x, self.means, self.scales)
        log_joint = self._log_joint(square)
        return log_joint.logsumexp(-1), self._pull(x, square, log_joint)

    @override
    def score(self, x: Tensor) -> Tensor:
        square = _scaled_squares(x, self.means, self.scales)
        return self._pull(x, square, self._log_joint(square))

    def _pull(self, x: Tensor, square: Tensor, log_joint: Tensor) -> Tensor:
        curvature = (self.freedom + self.dim) / (self.freedom + square) / self.scales.square()
        pull = log_joint.softmax(-1) * curvature
        return torch.addcmul(pull @ self.means, pull.sum(-1, keepdim=True), x, value=-1)

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw exact samples, ``(num, D)``."""
        label = torch.multinomial(self.masses, num, True, generator=generator)
        noise = torch.randn(num, self.dim, generator=generator, dtype=self.means.dtype)
        shape = torch.full((num, 1), self.freedom / 2, dtype=self.means.dtype)
        gamma = torch._standard_gamma(shape, generator=generator)
        student = noise * (self.freedom / (2 * gamma)).sqrt()
        return self.means[label] + self.scales[label, None] * student


def gmm40(dim: int = 2, box: float = 40.0, seed: int = 0) -> GaussianMixture:
    """Forty unit Gaussians with centres uniform in a cube.

    Published targets of this name differ by code base; here the centres come from
    NumPy's Mersenne twister, which is stable across versions.

    Arguments:
        dim: Dimension.
        box: Half the side of the cube.
        seed: Seed of the centres.

    References:
        Midgley et al. (2023), Flow annealed importance sampling bootstrap, ICLR, arXiv:2208.01893.
    """
    import numpy as np

    centres = np.random.RandomState(seed).uniform(-box, box, size=(40, dim))
    return GaussianMixture(centres.tolist(), scale=box)


def two_modes(dim: int = 2, width: float = 0.2, scale: float = 3.0) -> GaussianMixture:
    r"""Two modes of equal mass, :math:`10` apart, of width 1 and ``width``.

    Arguments:
        dim: Dimension.
        width: Standard deviation of the narrow mode.
        scale: Standard deviation of the wide start.
    """
    centre = 5 / math.sqrt(dim)
    return GaussianMixture([[-centre] * dim, [centre] * dim], [1.0, width], scale=scale)


def student_mixture(dim: int = 10, seed: int = 1, scale: float = 4.0) -> StudentMixture:
    """Eight Student modes of widths 0.15 to 1.5 and unequal masses.

    Arguments:
        dim: Dimension.
        seed: Seed of centres and masses.
        scale: Standard deviation of the wide start.
    """
    import numpy as np

    rng = np.random.RandomState(seed)
    centres = rng.uniform(-4, 4, (8, dim))
    scales = np.exp(np.linspace(math.log(0.15), math.log(1.5), 8))
    masses = rng.permutation(np.arange(1, 9)) / 36.0
    return StudentMixture(centres.tolist(), scales.tolist(), masses.tolist(), scale=scale)
