r"""Potentials: approximations of how a noised target differs from noise.

With :math:`g_0 = \gamma / N(0, I)`, whitened, the exact potential at noise variance
:math:`\lambda` is

.. math::
    g_\lambda(x) = E\big[g_0(X_0)\,\big|\,X_\lambda = x\big],\qquad
    X_0 \mid x \sim N\big(\sqrt{1-\lambda}\,x,\ \lambda I\big)

A potential gives :math:`\log\hat g_\lambda(x)`, with :math:`\hat g_0 = g_0`, and a
drift that stands for its gradient. Any drift is valid: it enters the weights.

References:
    Phillips et al., Particle denoising diffusion sampler, ICML 2024.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.references.gaussian import GaussianReference
from diffsmc.shell.showing import in_a_line
from diffsmc.targets.target import Target

__all__ = ["MonteCarloPotential", "NaivePotential", "Potential", "log_ratio"]

LOG_2PI = math.log(2 * math.pi)


def log_ratio(target: Target, x: Tensor) -> Tensor:
    r"""Give :math:`\log g_0 = \log\gamma - \log N(0, I)`, ``(..., D)`` to ``(...)``."""
    return target.log_prob(x) + 0.5 * x.square().sum(-1) + 0.5 * target.dim * LOG_2PI


def log_ratio_and_grad(target: Target, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Give :math:`\log g_0` and its gradient."""
    value, grad = target.log_prob_and_grad(x)
    return value + 0.5 * x.square().sum(-1) + 0.5 * target.dim * LOG_2PI, grad + x


class Potential(ABC):
    """Gives log-potentials and drifts of a whitened target.

    ``reference`` is the Gaussian whose coordinates the potential was made for, if it was
    made for one, and ``num_evaluations`` how many target evaluations it takes.
    """

    num_evaluations: int = 1
    reference: GaussianReference | None = None

    __repr__ = __str__ = in_a_line

    @abstractmethod
    def bind(self, target: Target, *, generator: torch.Generator) -> "Potential":
        """Give the potential of a target, its noise drawn once and for all."""

    @abstractmethod
    def evaluate(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        r"""Give :math:`\log\hat g_\lambda(x)`, ``(...)``, and the drift, ``(..., D)``."""


class NaivePotential(Potential):
    r"""The potential at the mean: :math:`\hat g_\lambda(x) = g_0(\sqrt{1-\lambda}\,x)`.

    Exact for a Gaussian target only up to curvature; for anything far from the
    reference its variance explodes. A warning example.
    """

    def __init__(self, target: Target | None = None) -> None:
        self.target = target

    @override
    def bind(self, target: Target, *, generator: torch.Generator) -> "NaivePotential":
        return NaivePotential(target)

    @override
    def evaluate(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        assert self.target is not None
        shrink = math.sqrt(1 - variance)
        value, grad = log_ratio_and_grad(self.target, shrink * x)
        return value, shrink * grad


class MonteCarloPotential(Potential):
    r"""A mean over draws of :math:`X_0`, with the drift of their weighted mean.

    .. math::
        \hat g_\lambda(x) = \frac1M\sum_m g_0\big(\sqrt{1-\lambda}\,x +
        \sqrt\lambda\,\epsilon_m\big),\qquad
        u(x) = \sqrt{\tfrac{1-\lambda}\lambda}\sum_m W_m\epsilon_m

    with :math:`W_m` the normalised terms. Predicting :math:`x_0` by their weighted mean
    and applying Tweedie's formula gives :math:`u`, which needs no gradient and is
    bounded. The noise comes in antithetic pairs and is the same at all levels, so that
    :math:`\hat g` is one smooth function and the weights stay exact.

    Arguments:
        num_draws: :math:`M`, even.

    References:
        Huang et al. (2024), Reverse diffusion Monte Carlo, ICLR, arXiv:2307.02037.
    """

    def __init__(self, num_draws: int = 16) -> None:
        if num_draws < 2 or num_draws % 2:
            raise ValueError(f"num_draws must be even and at least 2, got {num_draws}")
        self.num_draws = num_draws
        self.target: Target | None = None
        self.noise = torch.empty(0, device="cpu")

    @property
    def num_evaluations(self) -> int:  # type: ignore[override]
        """Target evaluations of one potential."""
        return self.num_draws

    @override
    def bind(self, target: Target, *, generator: torch.Generator) -> "MonteCarloPotential":
        bound = MonteCarloPotential(self.num_draws)
        half = torch.randn(
            self.num_draws // 2,
            target.dim,
            generator=generator,
            dtype=torch.float64,
            device=generator.device,
        )
        bound.target, bound.noise = target, torch.cat([half, -half])
        return bound

    @override
    def evaluate(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        assert self.target is not None
        if variance == 0:
            return log_ratio_and_grad(self.target, x)
        mean = math.sqrt(1 - variance) * x
        terms = log_ratio(self.target, mean[..., None, :] + math.sqrt(variance) * self.noise)
        shift = terms.softmax(-1) @ self.noise
        # all terms zero: no direction is better than another
        shift = torch.where(shift.isnan(), 0.0, shift)
        value = terms.logsumexp(-1) - math.log(self.num_draws)
        return value, math.sqrt((1 - variance) / variance) * shift
