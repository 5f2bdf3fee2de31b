r"""Resampling: ancestors from log-weights.

Each scheme maps unnormalised log-weights ``(..., N)`` to ancestors ``(..., N)`` with

.. math:: E[\#\{n : A_n = i\}] = N W_i, \qquad W = \mathrm{softmax}(\log w),

which makes the estimate of a normalising constant unbiased.  Rows are independent;
``-inf`` is allowed and never drawn.  A row without any weight gets equal weights: its
estimate is zero already, and its particles only have to exist.

References:
    Chopin & Papaspiliopoulos, *An Introduction to Sequential Monte Carlo* (2020), chapter 9;
    for killing, Del Moral, *Feynman-Kac Formulae* (2004), section 1.5.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "Resampling",
    "effective_sample_size",
    "killing",
    "multinomial",
    "residual",
    "spread",
    "stratified",
    "systematic",
]

Resampling = Callable[..., Tensor]

# The largest float64 below one: rounding must not carry a position past the last weight.
_BELOW_ONE = 1 - 2.0**-53


def _weights(log_weights: Tensor) -> Tensor:
    log_weights = log_weights.double()
    dead = (log_weights == -torch.inf).all(-1, keepdim=True)
    return log_weights.masked_fill(dead, 0.0).softmax(-1)


def _invert(weights: Tensor, positions: Tensor) -> Tensor:
    """Inverse of the distribution function of ``weights`` at ``positions`` in [0, 1)."""
    cumulative = weights.cumsum(-1)
    cumulative = cumulative / cumulative[..., -1:]
    return torch.searchsorted(cumulative, positions.clamp(max=_BELOW_ONE), right=True)


def _noise(log_weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    shape = (*log_weights.shape[:-1], number)
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=log_weights.device)


def _strata(log_weights: Tensor) -> Tensor:
    return torch.arange(log_weights.shape[-1], device=log_weights.device, dtype=torch.float64)


def effective_sample_size(log_weights: Tensor) -> Tensor:
    r""":math:`1 / \sum_i W_i^2`, between 1 and :math:`N`; 0 without any weight, ``(...)``.

    References:
        Kong, Liu & Wong (1994), Sequential imputations.
    """
    dead = (log_weights == -torch.inf).all(-1)
    return (1 / _weights(log_weights).square().sum(-1)).masked_fill(dead, 0.0)


def multinomial(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """Independent ancestors, sorted.

    References:
        Douc, Cappé & Moulines (2005), Comparison of resampling schemes.
    """
    noise = _noise(log_weights, log_weights.shape[-1], generator)
    return _invert(_weights(log_weights), noise.sort(-1).values)


def stratified(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """One ancestor from each of N equal strata, sorted.

    References:
        Kitagawa (1996), Monte Carlo filter and smoother, section 4.
    """
    n = log_weights.shape[-1]
    positions = (_strata(log_weights) + _noise(log_weights, n, generator)) / n
    return _invert(_weights(log_weights), positions)


def systematic(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    r"""Stratified with one uniform for all strata, sorted.

    Particle :math:`i` gets :math:`\lfloor N W_i \rfloor` or :math:`\lceil N W_i \rceil`
    offspring.

    References:
        Carpenter, Clifford & Fearnhead (1999), Improved particle filter.
    """
    return spread(log_weights, log_weights.shape[-1], generator=generator)


def spread(log_weights: Tensor, number: int, *, generator: torch.Generator) -> Tensor:
    """Systematic draws, as many as are asked for, sorted, ``(..., number)``."""
    places = torch.arange(number, device=log_weights.device, dtype=torch.float64)
    positions = (places + _noise(log_weights, 1, generator)) / number
    return _invert(_weights(log_weights), positions)


def residual(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    r""":math:`\lfloor N W_i \rfloor` offspring each, the rest independently.

    References:
        Liu & Chen (1998), Sequential Monte Carlo methods for dynamic systems.
    """
    n = log_weights.shape[-1]
    expected = n * _weights(log_weights)
    whole = expected.floor()
    slots = _strata(log_weights).expand(expected.shape).contiguous()
    certain = torch.searchsorted(whole.cumsum(-1), slots, right=True).clamp(max=n - 1)
    rest = expected - whole
    # With nothing left every slot is certain, and the draw below is not used.
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, 1.0)
    drawn = _invert(rest, _noise(log_weights, n, generator))
    return torch.where(slots < whole.sum(-1, keepdim=True), certain, drawn)


def killing(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    r"""Particle :math:`i` survives with :math:`W_i / \max_j W_j`, else takes a drawn ancestor."""
    n = log_weights.shape[-1]
    weights = _weights(log_weights)
    survives = _noise(log_weights, n, generator) * weights.amax(-1, keepdim=True) < weights
    drawn = _invert(weights, _noise(log_weights, n, generator))
    return torch.where(survives, torch.arange(n, device=weights.device), drawn)
