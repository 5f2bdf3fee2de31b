r"""Order-agnostic autoregressive diffusion models.

For a generation order :math:`\sigma` of the :math:`D` sites of :math:`x`,

.. math::
    \log p_\theta(x \mid \sigma)
        = \sum_{t=1}^{D} \log p_\theta(x_{\sigma(t)} \mid x_{\sigma(<t)}),

and one network predicts every masked site from the ones that are shown, so that

.. math::
    \log p_\theta(x) \ge E_\sigma \log p_\theta(x \mid \sigma)
      = E_{\sigma} E_{t \sim U(1..D)} \Big[ \frac{D}{D - t + 1}
        \sum_{k \in \sigma(\ge t)} \log p_\theta(x_k \mid x_{\sigma(<t)}) \Big].

:func:`bound` is one draw of the right-hand side, in nats; it is reported as it
stands, never re-weighted.  Steps count from 0 in the code: ``num_generated`` is
:math:`t - 1`.

References:
    Hoogeboom et al., "Autoregressive Diffusion Models", ICLR 2022, equation 6.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ardm_guidance.models.orders import ranks
from ardm_guidance.models.state import Conditionals, Stateful, with_state
from ardm_guidance.models.trunks import Pointed
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.constraints import Constraint
from ardm_guidance.sites.graphs import MASK, PAD
from ardm_guidance.sites.shortcuts import pays

__all__ = [
    "Masked",
    "OrderAgnosticARDM",
    "Samples",
    "Steps",
    "bound",
    "categorical",
    "hide",
    "log_prob",
    "sample",
    "step_log_probs",
    "steps",
]


class Samples(NamedTuple):
    r"""Finished objects.

    Attributes:
        sites: ``(B, D)``.
        log_prob: Their :math:`\log p_\theta(x \mid \sigma)` in nats, ``(B,)``.
    """

    sites: Tensor
    log_prob: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


@runtime_checkable
class Masked(Protocol):
    """Conditionals whose constraints can be asked apart from the network."""

    def logits_at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """What the network says of some sites, before any constraint, ``(B, P, K)``."""
        ...

    def allowed(self, sites: Tensor, positions: Tensor) -> Tensor | None:
        """Classes within all constraints, ``(B, P, K)``; none where there is no constraint."""
        ...


class OrderAgnosticARDM(nn.Module):
    """A network with hard constraints: the law of each site given the ones shown.

    The constraints enter every conditional before it is normalised, so that the
    bound, the likelihood and the samples are all of the constrained model.

    Arguments:
        network: Maps sites ``(B, D)`` to logits ``(B, D, K)``, ``-inf`` at classes
            that a site does not have.  One that is
            :class:`~ardm_guidance.models.networks.Pointed` is asked for single sites alone.
        constraints: Classes outside any of them get probability zero.

    References:
        Hoogeboom et al. (2022), Autoregressive diffusion models, arXiv:2110.02037.
    """

    __str__ = in_a_line

    def __init__(self, network: nn.Module, constraints: Iterable[Constraint] = ()) -> None:
        super().__init__()
        self.network = network
        self.constraints = nn.ModuleList(constraints)

    def log_probs(self, sites: Tensor) -> Tensor:
        """Log-probabilities of the classes at every site, ``(B, D, K)``."""
        every = torch.arange(sites.shape[-1], device=sites.device).expand(sites.shape)
        return self.log_probs_at(sites, every)

    def logits_at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """What the network says of some sites, before any constraint, ``(B, P, K)``."""
        if isinstance(self.network, Pointed) and positions.shape[-1] == 1:
            return self.network.at(sites, positions[:, 0])[:, None]
        logits: Tensor = self.network(sites)
        return logits.gather(-2, positions[..., None].expand(*positions.shape, logits.shape[-1]))

    def log_probs_at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Log-probabilities of the classes at some sites.

        Arguments:
            sites: Partial objects, ``(B, D)``.
            positions: Sites asked for, ``(B, P)``.

        Returns:
            ``(B, P, K)``; meaningless at sites that are shown or padding.
        """
        allowed = self.allowed(sites, positions)
        if isinstance(self.network, Pointed) and positions.shape[-1] == 1:
            return self._log_probs_of_one(self.network, sites, positions[:, 0], allowed)[:, None]
        logits = self.logits_at(sites, positions)
        logits = logits if allowed is None else logits.masked_fill(~allowed, -torch.inf)
        return logits.log_softmax(-1)

    def allowed(self, sites: Tensor, positions: Tensor) -> Tensor | None:
        """Classes within all constraints, ``(B, P, K)``; none where there is no constraint."""
        allowed = None
        for constraint in self.constraints:
            fits: Tensor = constraint(sites, positions)
            allowed = fits if allowed is None else allowed & fits
        return allowed

    @staticmethod
    def _log_probs_of_one(
        network: Pointed, sites: Tensor, positions: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """As :meth:`log_probs_at`, asking the network only where there is a choice."""
        if allowed is None:
            return network.at(sites, positions).log_softmax(-1)
        allowed = allowed[:, 0]
        if not pays(sites.device):
            return network.at(sites, positions).masked_fill(~allowed, -torch.inf).log_softmax(-1)
        hidden = sites.gather(-1, positions[:, None])[:, 0] == MASK
        rows = (hidden & (allowed.sum(-1) > 1)).nonzero()[:, 0]
        logits = torch.zeros(allowed.shape, device=sites.device)
        if len(rows):
            found = network.at(sites[rows], positions[rows])
            logits = logits.to(found.dtype).index_put((rows,), found)
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)


def categorical(log_probs: Tensor, noise: Tensor) -> Tensor:
    """Draw classes by inverting the distribution function.

    Arguments:
        log_probs: ``(..., K)``; ``-inf`` is allowed and never drawn.
        noise: Uniform on [0, 1), float64, ``(...)``.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    return (cumulative <= noise[..., None] * cumulative[..., -1:]).sum(-1)


def steps(sites: Tensor, noise: Tensor) -> Tensor:
    """Numbers of generated sites, uniform on 0..D-1 for each object.

    Arguments:
        sites: Objects, ``(..., D)``.
        noise: Uniform on [0, 1), ``(...)``.
    """
    dimension = (sites != PAD).sum(-1)
    return (noise * dimension).long().clamp(max=dimension - 1)


def hide(sites: Tensor, order: Tensor, num_generated: Tensor) -> Tensor:
    """Mask the sites that an order has not reached.

    Arguments:
        sites: Complete objects, ``(..., D)``.
        order: ``(..., D)``.
        num_generated: ``(...)``.
    """
    hidden = (ranks(order) >= num_generated[..., None]) & (sites != PAD)
    return sites.masked_fill(hidden, MASK)


def bound(ardm: OrderAgnosticARDM, sites: Tensor, order: Tensor, num_generated: Tensor) -> Tensor:
    r"""One draw of the lower bound of :math:`\log p_\theta(x)` for each object.

    Arguments:
        ardm: The model.
        sites: Complete objects, ``(B, D)``.
        order: A generation order of each, ``(B, D)``.
        num_generated: How many sites are shown, between 0 and :math:`D - 1`, ``(B,)``.

    Returns:
        Nats, ``(B,)``; unbiased for the bound when order and number are uniform.

    References:
        Hoogeboom et al. (2022), Autoregressive diffusion models, arXiv:2110.02037, equation 3.
    """
    partial = hide(sites, order, num_generated)
    hidden = partial == MASK
    log_probs = ardm.log_probs(partial).gather(-1, sites.clamp(min=0)[..., None])[..., 0]
    dimension = (sites != PAD).sum(-1)
    return dimension / hidden.sum(-1) * torch.where(hidden, log_probs, 0.0).sum(-1)


def log_prob(ardm: Conditionals, sites: Tensor, order: Tensor) -> Tensor:
    r"""Exact :math:`\log p_\theta(x \mid \sigma)` in nats, ``(B,)``, by :math:`D` passes."""
    partial = torch.where(sites == PAD, PAD, MASK)
    total = torch.zeros(sites.shape[:-1], device=sites.device)
    for positions in order.unbind(-1):
        at = positions[..., None]
        value = sites.gather(-1, at)
        log_probs = ardm.log_probs_at(partial, at).squeeze(-2).gather(-1, value.clamp(min=0))
        total = total + torch.where(value == PAD, 0.0, log_probs)[..., 0]
        partial = partial.scatter(-1, at, value)
    return total


def sample(ardm: Conditionals | Stateful, sites: Tensor, order: Tensor, noise: Tensor) -> Samples:
    """Generate the masked sites in the given order; sites that are shown stay.

    Arguments:
        ardm: The model, with or without a state.
        sites: Partial objects, ``(B, D)``.
        order: A generation order of each, ``(B, D)``.
        noise: Uniform on [0, 1), float64, one number for each step, ``(B, D)``.
    """
    costs = step_log_probs(ardm, sites, order, noise)
    return Samples(costs.sites, costs.log_probs.sum(-1))


class Steps(NamedTuple):
    r"""Finished objects, step by step.

    Attributes:
        sites: ``(B, D)``.
        log_probs: :math:`\log p_\theta(x_{\sigma(t)} \mid x_{\sigma(<t)})` in nats,
            ``(B, D)``; zero where the site was shown already.
    """

    sites: Tensor
    log_probs: Tensor


def step_log_probs(
    ardm: Conditionals | Stateful, sites: Tensor, order: Tensor, noise: Tensor
) -> Steps:
    """As :func:`sample`, with what each step cost."""
    model = with_state(ardm)
    state = model.begin(sites)
    costs = []
    for at, step_noise in zip(order.unbind(-1), noise.unbind(-1), strict=True):
        log_probs = model.log_probs(state, at)
        shown = sites.gather(-1, at[:, None])[:, 0]
        drawn = torch.where(shown == MASK, categorical(log_probs, step_noise), shown)
        chosen = log_probs.gather(-1, drawn.clamp(min=0)[:, None])[:, 0]
        costs.append(torch.where(shown == MASK, chosen, 0.0))
        state = model.extend(state, at, drawn)
        sites = sites.scatter(-1, at[:, None], drawn[:, None])
    return Steps(sites, torch.stack(costs, -1))
