r"""Gaussian references: where a path starts, and the coordinates it runs in.

A Gaussian :math:`N(\mu, LL^\top)` starts the tempered path; its inverse map
:math:`z = L^{-1}(x-\mu)` whitens a target before it is diffused. It may come from
a prior, from the weighted particles of a pilot run or from Laplace's method.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.shell.showing import in_a_line
from diffsmc.smc.estimators import weighted_moments
from diffsmc.targets.target import Target

__all__ = ["GaussianReference", "Whitened", "fit_gaussian", "isotropic", "laplace"]

LOG_2PI = math.log(2 * math.pi)


class GaussianReference(NamedTuple):
    """A Gaussian by its mean, ``(D,)``, and lower Cholesky factor, ``(D, D)``."""

    mean: Tensor
    factor: Tensor

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


def isotropic(dim: int, scale: float, *, like: Tensor | None = None) -> GaussianReference:
    """Give the centred Gaussian of standard deviation ``scale``."""
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale}")
    like = torch.zeros((), dtype=torch.float64, device="cpu") if like is None else like
    eye = torch.eye(dim, dtype=like.dtype, device=like.device)
    return GaussianReference(torch.zeros_like(eye[0]), scale * eye)


def fit_gaussian(
    particles: Tensor, log_weights: Tensor, inflation: float = 1.0
) -> GaussianReference:
    """Fit a Gaussian to weighted particles, pooled over equally weighted islands.

    Arguments:
        particles: ``(R, N, D)``.
        log_weights: ``(R, N)``.
        inflation: Factor on the standard deviations.
    """
    means, covariances = weighted_moments(particles, log_weights)
    mean = means.mean(0)
    between = torch.einsum("rd,re->de", means - mean, means - mean) / len(means)
    factor = torch.linalg.cholesky(covariances.mean(0) + between)
    return GaussianReference(mean, inflation * factor)


def laplace(
    target: Target, *, num_iterations: int = 50, tolerance: float = 1e-8
) -> GaussianReference:
    r"""Fit a Gaussian at the mode by Newton's method with step halving.

    The Hessian comes from central differences of the gradient. Where it is not
    negative definite its eigenvalues are made so, which is a step of gradient ascent
    along that direction.

    Arguments:
        target: A target with a mode.
        num_iterations: Most Newton steps.
        tolerance: Stops when the Newton decrement is below it.

    Raises:
        ValueError: The mode was not reached.

    References:
        Tierney & Kadane (1986), Accurate approximations for posterior moments and marginal
        densities, JASA 81.
    """
    x = target.start_mean.clone()
    for _ in range(num_iterations):
        value, grad = target.log_prob_and_grad(x)
        eigenvalues, vectors = torch.linalg.eigh(_negative_hessian(target, x))
        spread = eigenvalues.abs().clamp(min=1e-8)
        step = vectors @ ((vectors.T @ grad) / spread)
        if float(grad @ step) < tolerance:
            return GaussianReference(x, torch.linalg.cholesky((vectors / spread) @ vectors.T))
        x = _ascend(target, x, step, float(value))
    raise ValueError(f"Laplace's method did not reach a mode in {num_iterations} iterations")


def _negative_hessian(target: Target, x: Tensor, width: float = 1e-5) -> Tensor:
    sizes = width * target.start_factor.square().sum(-1).sqrt()
    shift = torch.diag(sizes)
    difference = target.log_prob_and_grad(x - shift)[1] - target.log_prob_and_grad(x + shift)[1]
    hessian = difference / (2 * sizes[:, None])
    return 0.5 * (hessian + hessian.T)


def _ascend(target: Target, x: Tensor, step: Tensor, value: float) -> Tensor:
    lengths = 0.5 ** torch.arange(30, dtype=x.dtype, device=x.device)
    values = target.log_prob(x + lengths[:, None] * step)
    better = (values > value).nonzero()
    return x + lengths[better[0]] * step if len(better) else x + lengths[-1] * step


class Whitened(Target):
    r"""A target in the coordinates of a Gaussian: :math:`x = \mu + Lz`.

    :math:`\log\gamma(\mu + Lz) + \log|\det L|`, so that :math:`Z` is the same.

    Arguments:
        target: Target in the original coordinates.
        reference: The Gaussian.
    """

    def __init__(self, target: Target, reference: GaussianReference) -> None:
        super().__init__(target.dim, log_normalizer=target.log_normalizer, names=target.names)
        self.target = target
        self.register_buffer("mean", reference.mean)
        self.register_buffer("factor", reference.factor)
        diagonal = reference.factor.diagonal()
        self.independent = torch.equal(reference.factor, torch.diag(diagonal))
        self.register_buffer("widths", diagonal.clone(), persistent=False)
        self.to(reference.mean.device)
        self.register_buffer("log_det", reference.factor.diagonal().log().sum())

    mean: Tensor
    factor: Tensor
    widths: Tensor
    log_det: Tensor

    def restore(self, z: Tensor) -> Tensor:
        """Map whitened points back, ``(..., D)``."""
        return self.mean + (z * self.widths if self.independent else z @ self.factor.T)

    def whiten(self, x: Tensor) -> Tensor:
        """Map points to their coordinates, ``(..., D)``."""
        if self.independent:
            return (x - self.mean) / self.widths
        centred = (x - self.mean).reshape(-1, self.dim)
        unit: Tensor = torch.linalg.solve_triangular(self.factor, centred.T, upper=False).T
        return unit.reshape(x.shape)

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.target.log_prob(self.restore(x)) + self.log_det

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = self.target.log_prob_and_grad(self.restore(x))
        return value + self.log_det, self._pull(grad)

    @override
    def score(self, x: Tensor) -> Tensor:
        return self._pull(self.target.score(self.restore(x)))

    def _pull(self, grad: Tensor) -> Tensor:
        return grad * self.widths if self.independent else grad @ self.factor
