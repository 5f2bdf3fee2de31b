r"""Estimators made of weights: ESS, evidence with its interval, single-run variance.

With unnormalised weights :math:`w_i` of one island,
:math:`\mathrm{ESS} = (\sum w)^2/\sum w^2`, and with increments :math:`u_i` the
conditional one is :math:`N(\sum W_i u_i)^2/\sum W_i u_i^2`. Islands are independent,
each :math:`\hat Z_r` is unbiased, and so is their mean.

References:
    Zhou, Johansen & Aston, Toward automatic model comparison, JCGS 2016.
    Lee & Whiteley, Variance estimation in the particle filter, Biometrika 2018.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Evidence",
    "conditional_ess",
    "effective_sample_size",
    "evidence",
    "lee_whiteley_variance",
    "log_mean_exp",
    "weighted_moments",
]


WIDEST_SPREAD = 1.0  # of the islands' logs


class Evidence(NamedTuple):
    """Log-evidence with a 95 % interval.

    ``islands`` is the number of independent estimates behind it; with one island
    ``standard_error`` and the bounds are NaN, and so they are where islands spread too far for
    any interval.
    """

    log_normalizer: float
    standard_error: float
    lower: float
    upper: float
    islands: int

    def __str__(self) -> str:
        many = f"{self.islands} islands" if self.islands > 1 else "one island"
        if math.isnan(self.lower):
            why = "islands disagree" if self.islands > 1 else "one island alone"
            return f"log Z = {self.log_normalizer:.3f} from {many}, no interval: {why}"
        return (
            f"log Z = {self.log_normalizer:.3f}, 95 % [{self.lower:.3f}, {self.upper:.3f}] from "
            f"{many}, given the modes found"
        )


def log_mean_exp(values: Tensor, dim: int = -1) -> Tensor:
    """Give the log of the mean of exponentials, ``-inf`` where all are ``-inf``."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Give the effective sample size, ``(..., N)`` to ``(...)``; 0 if all are ``-inf``."""
    size = torch.exp(2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1))
    return torch.where((log_weights == -torch.inf).all(-1), 0.0, size)


def conditional_ess(log_weights: Tensor, log_increments: Tensor) -> Tensor:
    """Give the conditional effective sample size relative to N, ``(...)`` in [0, 1].

    References:
        Zhou, Johansen & Aston (2016), Toward automatic model comparison, JCGS 25, arXiv:1303.3123.
    """
    first = (log_weights + log_increments).logsumexp(-1)
    second = (log_weights + 2 * log_increments).logsumexp(-1)
    size = torch.exp(2 * first - second - log_weights.logsumexp(-1))
    return torch.where(first == -torch.inf, 0.0, size)


def evidence(log_normalizers: Tensor) -> Evidence:
    r"""Combine islands: :math:`\log\frac1R\sum_r\hat Z_r` and a 95 % interval.

    The interval is Student's on :math:`\hat Z_r/\hat Z`, taken to the log scale by the
    delta method, which is honest while the islands' logs spread by less than about 1: beyond,
    there is none.

    Arguments:
        log_normalizers: One estimate per island, ``(R,)``.
    """
    log_z = log_mean_exp(log_normalizers)
    num = len(log_normalizers)
    if num < 2 or not bool(log_z.isfinite()):
        return Evidence(float(log_z), math.nan, math.nan, math.nan, num)
    from scipy import stats

    if float(log_normalizers.std()) > WIDEST_SPREAD:
        return Evidence(float(log_z), math.nan, math.nan, math.nan, num)
    ratios = torch.exp(log_normalizers - log_z)
    error = float(ratios.std()) / math.sqrt(num)
    half = float(stats.t.ppf(0.975, num - 1)) * error
    return Evidence(float(log_z), error, float(log_z) - half, float(log_z) + half, num)


def lee_whiteley_variance(log_weights: Tensor, eves: Tensor, num_resampled: Tensor) -> Tensor:
    r"""Estimate the relative variance of :math:`\hat Z` from one run's genealogy.

    .. math::
        V = 1 - \Big(\frac{N}{N-1}\Big)^{n+1}
        \Big(1 - \sum_e\big(\sum_{i: E_i=e}W_i\big)^2\Big)

    with :math:`E_i` the particle at the start from which particle :math:`i` descends and
    :math:`n` the number of resamplings. Made for multinomial resampling; pessimistic
    for the others. Useless once all particles descend from one: then it says 1. Not valid for
    waste-free runs, whose particles are states of chains: `Result.chain_length` tells them.

    Arguments:
        log_weights: Final log-weights, ``(R, N)``.
        eves: First ancestors, ``(R, N)``.
        num_resampled: Number of resamplings of each island, ``(R,)``.

    Returns:
        Relative variance :math:`\mathrm{var}(\hat Z)/Z^2`, ``(R,)``.

    References:
        Lee & Whiteley (2018), Variance estimation in the particle filter, Biometrika 105,
        arXiv:1509.00394.
    """
    num = log_weights.shape[-1]
    weights = log_weights.softmax(-1)
    families = torch.zeros_like(weights).scatter_add_(-1, eves.long(), weights)
    distinct = 1 - families.square().sum(-1)
    return 1 - (num / (num - 1)) ** (num_resampled + 1) * distinct


def weighted_moments(particles: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Give weighted mean and covariance of each island, ``(R, D)`` and ``(R, D, D)``."""
    weights, particles = log_weights.softmax(-1), particles.to(log_weights.dtype)
    mean = torch.einsum("rn,rnd->rd", weights, particles)
    centred = particles - mean[:, None]
    return mean, torch.einsum("rn,rnd,rne->rde", weights, centred, centred)


def pareto_shape(log_weights: Tensor) -> float:
    r"""Fit a generalised Pareto tail to the largest weights and give its shape k.

    The variance of an importance-sampling mean is infinite from k = 1/2; estimates become
    useless at practical sample sizes from k = 0.7. Zhang & Stephens' posterior mean, on
    the largest :math:`\min(N/5, 3\sqrt N)` weights, with a weak prior towards 1/2.

    Arguments:
        log_weights: ``(N,)``.

    Returns:
        The shape; ``-inf`` for equal weights and NaN for fewer than 25.

    References:
        Zhang & Stephens (2009), A new and efficient estimation method for the generalized Pareto
        distribution, Technometrics 51.
    """
    num = len(log_weights)
    size = min(num // 5, math.ceil(3 * math.sqrt(num)))
    if size < 5:
        return math.nan
    ordered = (log_weights - log_weights.max()).sort().values
    excess = ordered[-size:].exp() - ordered[-size - 1].exp()
    if float(excess[-1]) < 1e-12:
        return -math.inf
    return _fit_pareto(excess.clamp(min=1e-300))


def _fit_pareto(excess: Tensor) -> float:
    """Zhang & Stephens (2009): mean over a grid of profile likelihoods."""
    num = len(excess)
    grid = 30 + int(math.sqrt(num))
    quartile = excess[max(int(num / 4 + 0.5) - 1, 0)]
    points = torch.arange(1, grid + 1, dtype=excess.dtype, device=excess.device) - 0.5
    theta = 1 / excess[-1] + (1 - (grid / points).sqrt()) / (3 * quartile)
    shape = torch.log1p(-theta[:, None] * excess).mean(-1)
    profile = num * ((-theta / shape).log() - shape - 1)
    best = (profile.softmax(0) * theta).sum()
    fitted = float(torch.log1p(-best * excess).mean())
    return (fitted * num + 0.5 * 10) / (num + 10)
