r"""Resampling: replace weighted particles by equally weighted ones, without bias.

A scheme draws ancestors :math:`A_1,\dots,A_N` such that particle :math:`i` gets
:math:`N W_i` offspring on average, with :math:`W` the normalised weights. All
schemes work on a batch of islands and return sorted ancestors. A row whose weights
are all zero is treated as equally weighted: its normaliser is already zero.

References:
    Chopin & Papaspiliopoulos, An Introduction to Sequential Monte Carlo, 2020, chapter 9.
    Gerber, Chopin & Whiteley, Negative association, ordering and convergence of
    resampling methods, Annals of Statistics 2019.
"""

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Resampling", "multinomial", "residual", "ssp", "stratified", "systematic"]


class Resampling(Protocol):
    """What a scheme is: log-weights ``(..., N)`` and a generator to ancestors ``(..., N)``."""

    def __call__(self, log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw ancestors."""


def _normalize(log_weights: Tensor) -> Tensor:
    dead = (log_weights == -torch.inf).all(-1, keepdim=True)
    return torch.where(dead, torch.zeros_like(log_weights), log_weights).softmax(-1)


def _invert(weights: Tensor, positions: Tensor) -> Tensor:
    """Ancestors at sorted positions in [0, 1): the inverse of the empirical CDF."""
    cdf = weights.cumsum(-1)
    cdf = cdf / cdf[..., -1:]
    # (u + N - 1) / N may round to 1, which no particle owns
    below_one = 1 - torch.finfo(positions.dtype).eps
    return torch.searchsorted(cdf, positions.clamp(max=below_one), right=True)


def _expand(counts: Tensor) -> Tensor:
    """Ancestors from offspring counts that sum to N."""
    slots = torch.arange(counts.shape[-1], device=counts.device, dtype=counts.dtype)
    return torch.searchsorted(counts.cumsum(-1), slots.expand_as(counts).contiguous(), right=True)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)


def multinomial(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """Multinomial resampling: N independent draws.

    Arguments:
        log_weights: Unnormalised log-weights, ``(..., N)``; ``-inf`` is allowed.
        generator: Source of N draws per batch element.

    Returns:
        Ancestors, ``(..., N)``, sorted.
    """
    positions = _uniform(tuple(log_weights.shape), log_weights, generator).sort(-1).values
    return _invert(_normalize(log_weights), positions)


def stratified(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """Stratified resampling: one uniform in each of N equal strata.

    Arguments:
        log_weights: Unnormalised log-weights, ``(..., N)``; ``-inf`` is allowed.
        generator: Source of N draws per batch element.

    Returns:
        Ancestors, ``(..., N)``, sorted.
    """
    num = log_weights.shape[-1]
    slots = torch.arange(num, device=log_weights.device, dtype=log_weights.dtype)
    uniform = _uniform(tuple(log_weights.shape), log_weights, generator)
    return _invert(_normalize(log_weights), (uniform + slots) / num)


def systematic(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    r"""Systematic resampling.

    One uniform serves all particles, so particle :math:`i` gets
    :math:`\lfloor N W_i \rfloor` or :math:`\lceil N W_i \rceil` offspring.

    Arguments:
        log_weights: Unnormalised log-weights, ``(..., N)``; ``-inf`` is allowed.
        generator: Source of one draw per batch element.

    Returns:
        Ancestors, ``(..., N)``, sorted.

    References:
        Carpenter, Clifford & Fearnhead (1999), Improved particle filter for nonlinear problems.
    """
    num = log_weights.shape[-1]
    slots = torch.arange(num, device=log_weights.device, dtype=log_weights.dtype)
    uniform = _uniform((*log_weights.shape[:-1], 1), log_weights, generator)
    return _invert(_normalize(log_weights), (uniform + slots) / num)


def residual(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    r"""Residual resampling: :math:`\lfloor N W_i\rfloor` copies, the rest multinomial.

    Arguments:
        log_weights: Unnormalised log-weights, ``(..., N)``; ``-inf`` is allowed.
        generator: Source of N draws per batch element.

    Returns:
        Ancestors, ``(..., N)``, sorted.

    References:
        Liu & Chen (1998), Sequential Monte Carlo methods for dynamic systems, JASA 93.
    """
    num = log_weights.shape[-1]
    expected = num * _normalize(log_weights)
    copies = expected.floor()
    rest = expected - copies
    # a row without a rest draws from the weights; none of its draws is used
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, expected)
    uniform = _uniform(tuple(log_weights.shape), log_weights, generator)
    slots = torch.arange(num, device=log_weights.device)
    kept = _expand(copies.long()).clamp(max=num - 1)
    drawn = _invert(rest, uniform)
    return torch.where(slots < copies.sum(-1, keepdim=True), kept, drawn).sort(-1).values


def ssp(log_weights: Tensor, *, generator: torch.Generator) -> Tensor:
    r"""Srinivasan sampling process: offspring :math:`\lfloor NW_i\rfloor` or one more.

    The fractional parts meet in turn. Two of them, :math:`a` and :math:`b`, settle one
    against the other so that their sum and both means are kept; who isn't settled
    meets the next. Unlike systematic resampling it is consistent in every order of
    the particles.

    Arguments:
        log_weights: Unnormalised log-weights, ``(..., N)``; ``-inf`` is allowed.
        generator: Source of N draws per batch element.

    Returns:
        Ancestors, ``(..., N)``, sorted.

    References:
        Gerber, Chopin & Whiteley 2019, section 3.4.
    """
    num = log_weights.shape[-1]
    expected = num * _normalize(log_weights).reshape(-1, num)
    counts = expected.floor()
    parts = (expected - counts).unbind(-1)
    uniform = _uniform(tuple(expected.shape), log_weights, generator).unbind(-1)
    who = torch.zeros(len(expected), dtype=torch.long, device=log_weights.device)
    part = parts[0]
    for k in range(1, num):
        who, part, promoted, settled = _meet(who, part, k, parts[k], uniform[k])
        counts.scatter_add_(1, settled[:, None], promoted[:, None].to(counts.dtype))
    counts.scatter_add_(1, who[:, None], part.round()[:, None])
    return _expand(counts.long()).clamp(max=num - 1).reshape(log_weights.shape)


def _meet(
    who: Tensor, part: Tensor, other: int, other_part: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Settle one of two fractional parts; give the survivor, its part and who was promoted."""
    total = part + other_part
    full = total >= 1
    stay = torch.where(full, 1 - (1 - other_part) / (2 - total), part / total.clamp(min=1e-300))
    stays = uniform < stay
    other_index = torch.full_like(who, other)
    survivor = torch.where(stays, who, other_index)
    settled = torch.where(stays, other_index, who)
    return survivor, torch.where(full, total - 1, total), full, settled
