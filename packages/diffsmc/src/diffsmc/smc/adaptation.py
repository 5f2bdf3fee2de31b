r"""Adaptation of moves: mass from the weighted particles, step size from acceptance.

The mass is :math:`(m, L)` with :math:`m` the weighted mean and :math:`LL^\top` the
weighted covariance, or its diagonal. The step size follows
:math:`\log\epsilon \leftarrow \log\epsilon + c\,(\bar a - a^\ast)` in each island.
Adapting to the particles makes :math:`\hat Z` consistent only; a frozen plan of
masses and step sizes makes it unbiased.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffsmc.smc.density import Mass
from diffsmc.smc.estimators import weighted_moments
from diffsmc.smc.moves import Move

__all__ = ["MassEstimator", "adapt_step", "dense_mass", "diagonal_mass", "pool_masses"]

MassEstimator = Callable[[Tensor, Tensor], Mass]


def dense_mass(particles: Tensor, log_weights: Tensor) -> Mass:
    r"""Estimate a full covariance, shrunk by :math:`D/(\mathrm{ESS}+D)` to its diagonal.

    Arguments:
        particles: ``(R, N, D)``.
        log_weights: ``(R, N)``.
    """
    mean, covariance = weighted_moments(particles, log_weights)
    dim = mean.shape[-1]
    ess = log_weights.softmax(-1).square().sum(-1).reciprocal()
    shrink = (dim / (ess + dim))[:, None, None]
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    # islands that collapsed to one point still need a factor
    widths = diagonal.sqrt().clamp(min=1e-150)
    unit = covariance / widths[..., None] / widths[..., None, :]
    shrunk = (1 - shrink) * unit + shrink * torch.diag_embed(unit.diagonal(dim1=-2, dim2=-1))
    floor = 1e-10 + (shrunk.diagonal(dim1=-2, dim2=-1) == 0).to(shrunk.dtype)
    factor = torch.linalg.cholesky(shrunk + torch.diag_embed(floor))
    return Mass(mean, widths[..., None] * factor)


def diagonal_mass(particles: Tensor, log_weights: Tensor) -> Mass:
    """Estimate standard deviations only.

    Arguments:
        particles: ``(R, N, D)``.
        log_weights: ``(R, N)``.
    """
    weights = log_weights.softmax(-1)[..., None]
    mean = (weights * particles).sum(1)
    variance = (weights * (particles - mean[:, None]).square()).sum(1)
    return Mass(mean, variance.sqrt().clamp(min=1e-150))


def adapt_step(step_size: Tensor, acceptance: Tensor, move: Move, gain: float = 1.0) -> Tensor:
    """Adapt the step sizes, ``(R,)``, to the acceptance of the particles, ``(R, N)``.

    References:
        Buchholz et al. (2021), Adaptive tuning of Hamiltonian Monte Carlo within sequential Monte
        Carlo, Bayesian Analysis 16, arXiv:1808.07730.
    """
    return step_size * torch.exp(gain * (acceptance.mean(-1) - move.target_acceptance))


def pool_masses(mass: Mass, num_strata: int = 1) -> Mass:
    """Average the masses of all islands, stratum by stratum.

    Arguments:
        mass: ``(R K, ...)``, the K strata of an island together.
        num_strata: K.
    """

    def average(values: Tensor) -> Tensor:
        return values.reshape(-1, num_strata, *values.shape[1:]).mean(0)

    if mass.factor.dim() == 2:
        return Mass(average(mass.mean), average(mass.factor.square()).sqrt())
    covariance = average(mass.factor @ mass.factor.mT)
    return Mass(average(mass.mean), torch.linalg.cholesky(covariance))
