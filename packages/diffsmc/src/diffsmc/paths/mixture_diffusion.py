r"""The diffusion path of a reference mixture :math:`q = \sum_k w_k N(\mu_k, \Sigma_k)`.

Noised, :math:`x_t = \sqrt{1-\lambda}\,x_0 + \sqrt\lambda\,\epsilon`, the mixture stays one,
:math:`q_\lambda = \sum_k w_k N(\sqrt{1-\lambda}\,\mu_k, (1-\lambda)\Sigma_k + \lambda I)`, and the
target becomes

.. math:: \pi_\lambda = q_\lambda\,\varphi_\lambda,\qquad
    \varphi_\lambda(x) = E_q\big[(\gamma/q)(X_0)\,\big|\,X_\lambda = x\big],\qquad
    \varphi_0 = \gamma/q

Particles go by the mixture's exact reverse kernel: a label and :math:`x_0` given :math:`x`, then
:math:`x'` given both. What is left for the weight is
:math:`\log\varphi_{\lambda'}(x') - \log\varphi_\lambda(x)`. Any positive approximation of
:math:`\varphi_\lambda` with :math:`\varphi_0` exact keeps :math:`\hat Z` unbiased; with
:math:`\varphi = 1` before the end this is importance sampling from :math:`q`.

References:
    Phillips et al., Particle denoising diffusion sampler, ICML 2024 (there with one Gaussian).
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.references.mixture import Mixture, log_joint, log_prob_and_grad
from diffsmc.shell.showing import in_a_line
from diffsmc.smc.density import Cloud, Density
from diffsmc.smc.path import Advance, Path
from diffsmc.targets.target import Target

__all__ = ["MixtureDiffusionPath", "MixturePotential", "MonteCarloRatio", "UnitRatio"]

LOG_2PI = math.log(2 * math.pi)


class Spectrum(NamedTuple):
    r"""A mixture with covariances :math:`V_k\,\mathrm{diag}(e_k)\,V_k^\top`."""

    weights: Tensor
    means: Tensor
    values: Tensor
    vectors: Tensor


def decompose(mixture: Mixture) -> Spectrum:
    """Give eigenvalues, ``(K, D)``, and eigenvectors, ``(K, D, D)``, of the covariances."""
    values, vectors = torch.linalg.eigh(mixture.factors @ mixture.factors.mT)
    return Spectrum(mixture.weights, mixture.means, values, vectors)


def diffuse(mixture: Mixture, variance: float) -> Mixture:
    r"""Give :math:`q_\lambda`."""
    covariance = (1 - variance) * mixture.factors @ mixture.factors.mT
    eye = torch.eye(mixture.means.shape[-1], dtype=covariance.dtype, device=covariance.device)
    factors = torch.linalg.cholesky(covariance + variance * eye)
    return Mixture(mixture.weights, math.sqrt(1 - variance) * mixture.means, factors)


def _normal(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _uniform(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)


def _choose(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Invert the distribution of labels, ``(..., K)``, at uniforms, ``(..., M)``."""
    cdf = log_weights.softmax(-1).cumsum(-1)
    labels = torch.searchsorted(cdf, uniform.contiguous(), right=True)
    return labels.clamp(max=log_weights.shape[-1] - 1)


def denoise(
    spectrum: Spectrum, x: Tensor, variance: float, labels: Tensor, noise: Tensor
) -> Tensor:
    r"""Give :math:`X_0` given :math:`X_\lambda = x` and the label, for given noise.

    In the coordinates of a component's eigenvectors,
    :math:`N\big(\frac{\alpha e}{\alpha^2e+\lambda}z, \frac{e\lambda}{\alpha^2e+\lambda}\big)` with
    :math:`\alpha^2 = 1-\lambda` and :math:`z = V^\top(x - \alpha\mu)`.

    Arguments:
        spectrum: The mixture.
        x: ``(B, D)``.
        variance: :math:`\lambda`.
        labels: ``(B, M)``.
        noise: ``(B, M, D)`` or ``(M, D)``.
    """
    alpha = math.sqrt(1 - variance)
    total = alpha**2 * spectrum.values + variance
    gain, spread = alpha * spectrum.values / total, (variance * spectrum.values / total).sqrt()
    noise = noise.expand(*labels.shape, x.shape[-1])
    clean = torch.empty_like(noise)
    for k in torch.unique(labels).tolist():
        row, draw = (labels == k).nonzero(as_tuple=True)
        unit = (x[row] - alpha * spectrum.means[k]) @ spectrum.vectors[k]
        unit = gain[k] * unit + spread[k] * noise[row, draw]
        clean[row, draw] = spectrum.means[k] + unit @ spectrum.vectors[k].T
    return clean


class MixturePotential(ABC):
    r"""Approximates :math:`\log\varphi_\lambda` for :math:`\lambda > 0`.

    ``num_evaluations`` tells how many target evaluations it takes.
    """

    num_evaluations: int

    __repr__ = __str__ = in_a_line

    @abstractmethod
    def bind(
        self, target: Target, mixture: Mixture, *, generator: torch.Generator
    ) -> "MixturePotential":
        """Give the potential of a target, its noise drawn once and for all."""

    @abstractmethod
    def evaluate(self, x: Tensor, variance: float) -> Tensor:
        r"""Give :math:`\log\hat\varphi_\lambda(x)`, ``(B, D)`` to ``(B,)``."""


class UnitRatio(MixturePotential):
    r""":math:`\hat\varphi_\lambda = 1`: importance sampling from the mixture."""

    num_evaluations = 0

    @override
    def bind(
        self, target: Target, mixture: Mixture, *, generator: torch.Generator
    ) -> "MixturePotential":
        return self

    @override
    def evaluate(self, x: Tensor, variance: float) -> Tensor:
        return torch.zeros_like(x[:, 0])


class MonteCarloRatio(MixturePotential):
    r"""A mean of :math:`\gamma/q` over draws of :math:`X_0` given :math:`x`.

    Uniforms (one in each of M strata, for the labels) and normals (in antithetic pairs) are the
    same at all points and levels, so that :math:`\hat\varphi` is one function of :math:`x`. Its
    variance grows with the dimension.

    Arguments:
        num_draws: :math:`M`, even.
    """

    def __init__(self, num_draws: int = 16) -> None:
        if num_draws < 2 or num_draws % 2:
            raise ValueError(f"num_draws must be even and at least 2, got {num_draws}")
        self.num_draws = self.num_evaluations = num_draws
        self.target: Target | None = None

    @override
    def bind(
        self, target: Target, mixture: Mixture, *, generator: torch.Generator
    ) -> "MonteCarloRatio":
        bound = MonteCarloRatio(self.num_draws)
        bound.target, bound.mixture, bound.spectrum = target, mixture, decompose(mixture)
        means, num = mixture.means, self.num_draws
        half = _normal(means, num // 2, target.dim, generator=generator)
        order = torch.randperm(num, generator=generator, device=means.device)
        bound.uniform = (order + _uniform(means, num, generator=generator)) / num
        bound.noise = torch.cat([half, -half])
        return bound

    mixture: Mixture
    spectrum: Spectrum
    uniform: Tensor
    noise: Tensor

    @override
    def evaluate(self, x: Tensor, variance: float) -> Tensor:
        assert self.target is not None
        share = log_joint(diffuse(self.mixture, variance), x)
        labels = _choose(share, self.uniform.expand(len(x), -1))
        clean = denoise(self.spectrum, x, variance, labels, self.noise)
        ratio = self.target.log_prob(clean) - log_joint(self.mixture, clean).logsumexp(-1)
        return ratio.logsumexp(-1) - math.log(self.num_draws)


class MixtureDiffusionPath(Path):
    r"""Time reversal of the noised mixture; levels are signal fractions :math:`1-\lambda`.

    The gradient of :math:`\hat\varphi_\lambda` is taken to be zero before the end: moves stay
    exact with any vector field.

    Arguments:
        target: The target.
        mixture: The reference.
        potential: Bound to both.
    """

    def __init__(self, target: Target, mixture: Mixture, potential: MixturePotential) -> None:
        self.target, self.mixture, self.potential = target, mixture, potential
        self.spectrum = decompose(mixture)

    def evaluate(self, x: Tensor, level: float) -> Cloud:
        """Evaluate the noised mixture and the potential at points, ``(R, N, D)``."""
        flat, variance = x.flatten(0, 1), 1 - level
        base, base_grad = log_prob_and_grad(diffuse(self.mixture, variance), flat)
        if variance > 0:
            tilt, tilt_grad = self.potential.evaluate(flat, variance), torch.zeros_like(flat)
        else:
            value, grad = self.target.log_prob_and_grad(flat)
            tilt, tilt_grad = value - base, grad - base_grad
        parts = (flat, base, tilt, base_grad, tilt_grad)
        return Cloud(*(part.reshape(*x.shape[:2], *part.shape[1:]) for part in parts))

    @override
    def start(self, num_islands: int, num_particles: int, *, generator: torch.Generator) -> Cloud:
        means = self.mixture.means
        x = _normal(means, num_islands, num_particles, means.shape[-1], generator=generator)
        # at pure noise the potential is a constant, taken to be 1
        zero = torch.zeros_like(x)
        base = -0.5 * x.square().sum(-1) - 0.5 * x.shape[-1] * LOG_2PI
        return Cloud(x, base, zero[..., 0], -x, zero)

    @override
    def advance(
        self, cloud: Cloud, level: float, new_level: float, *, generator: torch.Generator
    ) -> Advance:
        x = cloud.particles.flatten(0, 1)
        clean = self._denoise(x, 1 - level, generator)
        # x = r x' + sqrt(s) e and x' = a x_0 + sqrt(v) e: x' given both others is Gaussian
        variance, new_variance = 1 - level, 1 - new_level
        shrink = math.sqrt(level / new_level)
        gap = 1 - shrink**2
        pull = math.sqrt(new_level) * gap * clean + shrink * new_variance * x
        noise = _normal(x, *x.shape, generator=generator)
        moved = pull / variance + math.sqrt(new_variance * gap / variance) * noise
        new = self.evaluate(moved.reshape(cloud.particles.shape), new_level)
        return Advance(new, new.tilt - cloud.tilt, moved=True)

    def _denoise(self, x: Tensor, variance: float, generator: torch.Generator) -> Tensor:
        share = log_joint(diffuse(self.mixture, variance), x)
        labels = _choose(share, _uniform(x, len(x), 1, generator=generator))
        noise = _normal(x, len(x), 1, x.shape[-1], generator=generator)
        return denoise(self.spectrum, x, variance, labels, noise)[:, 0]

    @override
    def density(self, level: float) -> Density:
        return Density(lambda x: self.evaluate(x, level), 1.0)
