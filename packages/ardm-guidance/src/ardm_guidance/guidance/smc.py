r"""Sequential Monte Carlo over partial objects.

Groups of :math:`N` particles are generated site by site.  With the weight
:math:`w` of a particle, the potential :math:`W` and the proposal :math:`r`,

.. math::
    w_t = w_{t-1}
      \frac{p_\theta(x_{\sigma(t)} \mid x_{\sigma(<t)})\, W(x_{\sigma(\le t)})}
           {r(x_{\sigma(t)} \mid x_{\sigma(<t)})\, W(x_{\sigma(<t)})}, \qquad
    w_0 = W(\varnothing),

and a group is resampled when its effective sample size falls below a share of
:math:`N`.  A fully adapted proposal knows :math:`w_t` before the draw and is resampled by it
(FADG); the bootstrap proposal is resampled by :math:`w_{t-1}` (BSDG).  A resampled group
carries its mean weight, so that :math:`\hat Z = \frac1N \sum_n w_T^n` is unbiased for
:math:`\sum_x p_\theta(x) W(x)` at any :math:`N`.

**Orders.**  With an order of its own for each particle the target is
:math:`E_\sigma[p_\theta(x \mid \sigma)]\, W(x)`, the right one, also with inconsistent
conditionals.  With one order shared by a group it is :math:`p_\theta(x \mid \sigma) W(x)`,
whose normaliser :math:`Z_\sigma` varies: the mixture over groups is biased unless groups are
re-weighted by :math:`\hat Z_\sigma`, which :func:`select_groups` does.

References:
    Ekström Kelvinius & Lindsten, "Discriminator Guidance for Autoregressive Diffusion Models",
    AISTATS 2024; full adaptation is that of Pitt & Shephard, "Filtering via Simulation: Auxiliary
    Particle Filters", JASA 94 (1999).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.guidance.proposals import Proposal, Proposing, fully_adapted
from ardm_guidance.guidance.resampling import Resampling, effective_sample_size, systematic
from ardm_guidance.models.ardm import categorical
from ardm_guidance.models.state import Conditionals, Stateful, with_state
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.graphs import MASK

__all__ = ["Particles", "Run", "StepInfo", "run", "select", "select_groups", "step"]


class Particles(NamedTuple):
    """Groups of weighted partial objects.

    Attributes:
        sites: ``(G, N, D)``.
        order: Generation orders, ``(G, N, D)``.
        log_weights: Unnormalised; their mean estimates the constant, ``(G, N)``.
        log_value: The potential of ``sites``, ``(G, N)``.
        state: What the model keeps of each, of the rows of the flattened groups.
    """

    sites: Tensor
    order: Tensor
    log_weights: Tensor
    log_value: Tensor
    state: Any

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class StepInfo(NamedTuple):
    """What happened in a step.

    Attributes:
        ess: Effective sample size before resampling, ``(G,)``.
        ancestors: ``(G, N)``; the identity where a group was not resampled.
        resampled: ``(G,)``.
    """

    ess: Tensor
    ancestors: Tensor
    resampled: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class Run(NamedTuple):
    r"""Finished groups.

    Attributes:
        sites: ``(G, N, D)``.
        log_weights: ``(G, N)``.
        log_normalizer: :math:`\log \hat Z`, ``(G,)``.
        ess: By step, ``(T, G)``.
        ancestors: By step, ``(T, G, N)``.
        resampled: By step, ``(T, G)``.
    """

    sites: Tensor
    log_weights: Tensor
    log_normalizer: Tensor
    ess: Tensor
    ancestors: Tensor
    resampled: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def _take(values: Tensor, ancestors: Tensor) -> Tensor:
    """Rows of the ancestors within each group, ``(G, N, ...)``."""
    index = ancestors.view(*ancestors.shape, *(1,) * (values.dim() - 2)).expand_as(values)
    return values.gather(1, index)


def _mean_weight(log_weights: Tensor) -> Tensor:
    number = torch.tensor(log_weights.shape[-1], dtype=log_weights.dtype, device=log_weights.device)
    return log_weights.logsumexp(-1) - number.log()


def _choose(
    log_weights: Tensor, threshold: float, resample: Resampling, generator: torch.Generator
) -> tuple[Tensor, StepInfo]:
    """Ancestors where the weights have degenerated, and the weights after that."""
    n = log_weights.shape[-1]
    ess = effective_sample_size(log_weights)
    resampled = ess < threshold * n
    drawn = resample(log_weights, generator=generator)
    identity = torch.arange(n, device=drawn.device).expand_as(drawn)
    ancestors = torch.where(resampled[:, None], drawn, identity)
    carried = _mean_weight(log_weights)[:, None].expand_as(log_weights)
    after = torch.where(resampled[:, None], carried, log_weights)
    return after, StepInfo(ess, ancestors, resampled)


def step(
    base: Stateful,
    potential: Potential,
    particles: Particles,
    t: int,
    noise: Tensor,
    *,
    propose: Proposing = fully_adapted,
    resample: Resampling = systematic,
    threshold: float = 0.7,
    generator: torch.Generator,
) -> tuple[Particles, StepInfo]:
    """Resample where needed, then generate one site of every particle.

    Arguments:
        base: The model; :func:`~ardm_guidance.models.state.with_state` gives any one a state.
        potential: What the law is tilted by.
        particles: Groups before the step.
        t: Place in the orders, from 0.
        noise: Uniform on [0, 1), float64, ``(G, N)``.
        propose: :func:`~ardm_guidance.guidance.proposals.bootstrap` or
            :func:`~ardm_guidance.guidance.proposals.fully_adapted`.
        resample: A scheme of :mod:`ardm_guidance.guidance.resampling`.
        threshold: Share of :math:`N` below which a group is resampled.
        generator: Source of the ancestors.
    """
    at = particles.order[..., t, None]
    rows = particles.sites.flatten(0, 1), at.flatten(0, 1)
    log_probs = base.log_probs(particles.state, rows[1][:, 0])
    proposal = propose(log_probs, potential, *rows, particles.log_value.flatten())
    log_weights = _adjust(particles, at, proposal)
    log_weights, info = _choose(log_weights, threshold, resample, generator)
    particles = Particles(
        _take(particles.sites, info.ancestors),
        _take(particles.order, info.ancestors),
        log_weights,
        _take(particles.log_value, info.ancestors),
        base.select(particles.state, _rows(info.ancestors)),
    )
    return _extend(base, potential, particles, proposal, t, info.ancestors, noise), info


def _rows(ancestors: Tensor) -> Tensor:
    """Ancestors as rows of the flattened groups, ``(G N,)``."""
    groups = torch.arange(len(ancestors), device=ancestors.device)[:, None]
    return (groups * ancestors.shape[-1] + ancestors).flatten()


def _adjust(particles: Particles, at: Tensor, proposal: Proposal) -> Tensor:
    """Weights with what the proposal knows before its draw."""
    hidden = particles.sites.gather(-1, at)[..., 0] == MASK
    adjustment = proposal.log_adjustment.view(hidden.shape)
    change = _difference(adjustment, particles.log_value)
    return particles.log_weights + torch.where(hidden, change, 0.0)


def _extend(
    base: Stateful,
    potential: Potential,
    particles: Particles,
    proposal: Proposal,
    t: int,
    ancestors: Tensor,
    noise: Tensor,
) -> Particles:
    """Draw the site of step ``t`` where it is hidden, and weigh what was drawn."""
    sites, order, log_weights, before, state = particles
    at = order[..., t, None]
    shown = sites.gather(-1, at)[..., 0]
    log_probs = _take(proposal.log_probs.view(*shown.shape, -1), ancestors)
    drawn = torch.where(shown == MASK, categorical(log_probs, noise), shown)
    sites = sites.scatter(-1, at, drawn[..., None])
    state = base.extend(state, at.flatten(), drawn.flatten())
    value = _value_after(potential, proposal, ancestors, sites, drawn)
    value = torch.where(shown == MASK, value, before)
    if proposal.log_values is None:
        log_weights = log_weights + _difference(value, before)
    return Particles(sites, order, log_weights, value, state)


def _difference(after: Tensor, before: Tensor) -> Tensor:
    """``after - before``, and no weight left where either is impossible."""
    dead = (after == -torch.inf) | (before == -torch.inf)
    return torch.where(dead, -torch.inf, after - before)


def _value_after(
    potential: Potential, proposal: Proposal, ancestors: Tensor, sites: Tensor, drawn: Tensor
) -> Tensor:
    """The potential of the extended objects, ``(G, N)``."""
    if proposal.log_values is None:
        value: Tensor = potential(sites.flatten(0, 1)).view(drawn.shape)
        return value
    values = _take(proposal.log_values.view(*drawn.shape, -1), ancestors)
    return values.gather(-1, drawn.clamp(min=0)[..., None])[..., 0]


def run(
    base: Conditionals | Stateful,
    potential: Potential,
    sites: Tensor,
    order: Tensor,
    noise: Tensor,
    *,
    propose: Proposing = fully_adapted,
    resample: Resampling = systematic,
    threshold: float = 0.7,
    generator: torch.Generator,
) -> Run:
    r"""Generate groups of particles.

    Arguments:
        base: The model, with or without a state.
        potential: What the law is tilted by.
        sites: Partial objects to start from, ``(G, N, D)``; the same in a whole group.
        order: Generation orders, ``(G, N, D)``: of each particle, or the same in a group.
        noise: Uniform on [0, 1), float64, for the draws of classes, ``(G, N, D)``.
        propose: As in :func:`step`.
        resample: As in :func:`step`.
        threshold: As in :func:`step`.
        generator: Source of the ancestors.

    Raises:
        ValueError: The potential or the model gave a value that is not a number.

    References:
        Chopin & Papaspiliopoulos (2020), An Introduction to Sequential Monte Carlo, chapter 10.
    """
    log_value = potential(sites.flatten(0, 1)).view(sites.shape[:2]).double()
    model = with_state(base)
    particles = Particles(sites, order, log_value, log_value, model.begin(sites.flatten(0, 1)))
    infos = []
    for t in range(sites.shape[-1]):
        particles, info = step(
            model, potential, particles, t, noise[..., t],
            propose=propose, resample=resample, threshold=threshold, generator=generator,
        )  # fmt: skip
        infos.append(info)
    if particles.log_weights.isnan().any():
        raise ValueError("a weight is not a number: the potential or the model gave NaN")
    ess, ancestors, resampled = (torch.stack(values) for values in zip(*infos, strict=True))
    log_normalizer = _mean_weight(particles.log_weights)
    return Run(particles.sites, particles.log_weights, log_normalizer, ess, ancestors, resampled)


def select(finished: Run, noise: Tensor) -> Tensor:
    """One particle of each group, drawn by weight, ``(G, D)``.

    Arguments:
        finished: Groups.
        noise: Uniform on [0, 1), float64, ``(G,)``.
    """
    index = chosen(finished, noise)
    return finished.sites[torch.arange(len(index), device=index.device), index]


def chosen(finished: Run, noise: Tensor) -> Tensor:
    """Number of the particle of each group that :func:`select` draws, ``(G,)``."""
    return categorical(finished.log_weights.log_softmax(-1), noise)


def select_groups(finished: Run, *, generator: torch.Generator) -> Tensor:
    r"""Groups resampled by :math:`\hat Z`, as indices ``(G,)``: what shared orders need."""
    return systematic(finished.log_normalizer, generator=generator)
