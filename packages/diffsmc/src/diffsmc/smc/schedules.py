r"""Schedules: how a path is cut into steps.

A variance-preserving diffusion has noise variance :math:`\lambda_t`, with
:math:`x_t = \sqrt{1-\lambda_t}\,x_0 + \sqrt{\lambda_t}\,\epsilon`, :math:`\lambda_0 = 0`
and :math:`\lambda_1 = 1`; a tempered path has inverse temperatures :math:`b` from 0 to 1.

References:
    Nichol & Dhariwal, Improved denoising diffusion probabilistic models, ICML 2021.
    Zhou, Johansen & Aston, Toward automatic model comparison, JCGS 2016.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.shell.showing import in_a_line
from diffsmc.smc.path import State
from diffsmc.targets.errors import FailedRunError

__all__ = [
    "AdaptiveSchedule",
    "FixedSchedule",
    "Schedule",
    "bisect_level",
    "cosine_variances",
    "geometric_levels",
    "transition_variance",
]

OFFSET = 0.008
SMALLEST_LEVEL = 1e-290


def cosine_variances(num_steps: int) -> Tensor:
    r"""Give :math:`\lambda` from 1 (noise) down to 0 (data), ``(num_steps + 1,)``.

    :math:`1-\lambda_t = \cos^2(\tfrac\pi2\tfrac{t+c}{1+c})/\cos^2(\tfrac\pi2\tfrac{c}{1+c})`,
    :math:`c = 0.008`: the denominator makes :math:`\lambda_0` exactly 0.

    Arguments:
        num_steps: Number of denoising steps.

    References:
        Nichol & Dhariwal (2021), Improved denoising diffusion probabilistic models,
        arXiv:2102.09672.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    t = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64, device="cpu")
    angle = math.pi / 2 * (t + OFFSET) / (1 + OFFSET)
    signal = torch.cos(angle).square() / math.cos(math.pi / 2 * OFFSET / (1 + OFFSET)) ** 2
    variances = 1 - signal
    variances[0], variances[-1] = 1.0, 0.0
    return variances


def transition_variance(noisier: Tensor, cleaner: Tensor) -> Tensor:
    r"""Give the variance of a diffusion step, :math:`1-\frac{1-\lambda_{k+1}}{1-\lambda_k}`."""
    return 1 - (1 - noisier) / (1 - cleaner)


def geometric_levels(num_steps: int, smallest: float = 1e-3) -> Tensor:
    """Give inverse temperatures 0, ``smallest``, ..., 1 in geometric progression.

    Arguments:
        num_steps: Number of steps.
        smallest: First level after 0.
    """
    if num_steps < 2 or not 0 < smallest < 1:
        raise ValueError(f"need two steps and 0 < smallest < 1, got {num_steps} and {smallest}")
    rising = torch.logspace(math.log10(smallest), 0, num_steps, dtype=torch.float64, device="cpu")
    rising[-1] = 1.0
    return torch.cat([rising.new_zeros(1), rising])


def bisect_level(log_weights: Tensor, tilt: Tensor, level: float, target_ess: float) -> float:
    r"""Find the next inverse temperature: mean conditional ESS of ``target_ess`` N.

    All islands take one level, the largest :math:`b' \le 1` whose conditional ESS,
    averaged over those whose weights aren't all zero and relative to particles whose density isn't,
    is at least ``target_ess``. The log of the
    advance is bisected: where log-densities spread over :math:`10^{12}`, the first level is
    :math:`10^{-12}`.

    Arguments:
        log_weights: Weights before the step, ``(R, N)``.
        tilt: :math:`\log\gamma - \log p_0` at the particles, ``(R, N)``.
        level: Current inverse temperature.
        target_ess: Wanted conditional ESS relative to N, in (0, 1).

    Raises:
        FailedRunError: No advance that a float can hold is small enough.

    References:
        Jasra et al. (2011), Inference for Lévy-driven stochastic volatility models via adaptive
        sequential Monte Carlo, Scandinavian Journal of Statistics 38.
    """
    # one exponential a trial: with e = exp(a (h - max h)) the ratio is (sum We)^2 / sum We^2
    shifted = tilt - tilt.amax(-1, keepdim=True).clamp(min=torch.finfo(tilt.dtype).min)
    weights = log_weights.softmax(-1)
    alive = (log_weights + tilt > -torch.inf).any(-1)
    if not bool(alive.any()):
        return 1.0
    # particles of density zero are lost by any advance, however small
    live = (weights * (tilt > -torch.inf)).sum(-1)

    def enough(advance: float) -> bool:
        growth = (advance * shifted).exp()
        first, second = (weights * growth).sum(-1), (weights * growth.square()).sum(-1)
        ratio = torch.where(second > 0, first.square() / (live * second), 0.0)
        return float(ratio[alive].mean()) >= target_ess

    if enough(1 - level):
        return 1.0
    # the least advance that a level can hold, or at the start the least of all
    low, high = math.log(max(4e-16 * level, SMALLEST_LEVEL)), math.log(1 - level)
    if not enough(math.exp(low)):
        raise FailedRunError(
            f"no step from level {level:.3g} is small enough: log-densities spread over more than "
            "numbers can hold; give a scale or a location nearer to the target"
        )
    # levels need not be sharper than the estimate of the conditional ESS
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if enough(math.exp(middle)) else (low, middle)
    return min(1.0, level + math.exp(low))


class Schedule(ABC):
    """Chooses the next level."""

    __repr__ = __str__ = in_a_line

    @abstractmethod
    def next_level(self, state: State) -> float:
        """Give the level after the state's, at most 1."""


@dataclass(frozen=True, repr=False)
class FixedSchedule(Schedule):
    """Levels given in advance, from 0 to 1.

    Arguments:
        levels: Rising levels.
    """

    levels: list[float]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not rising or self.levels[0] != 0.0 or self.levels[-1] != 1.0:
            raise ValueError("levels must rise from 0 to 1")

    @override
    def next_level(self, state: State) -> float:
        return self.levels[state.num_steps + 1]


@dataclass(frozen=True, repr=False)
class AdaptiveSchedule(Schedule):
    """Levels by bisection on the conditional ESS, for tempered paths.

    Arguments:
        target_ess: Conditional ESS relative to the number of particles.
    """

    target_ess: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.target_ess < 1:
            raise ValueError(f"target_ess must be between 0 and 1, got {self.target_ess}")

    @override
    def next_level(self, state: State) -> float:
        return bisect_level(state.log_weights, state.cloud.tilt, state.level, self.target_ess)
