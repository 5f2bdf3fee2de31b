r"""Guided conditionals and proposals.

A potential :math:`W` tilts each conditional of a base model,

.. math::
    r(x_k = c \mid x_S) = \frac{p_\theta(x_k = c \mid x_S)\, W(x_S \cup \{x_k = c\})}
                              {W(x_S)\, C(x_S)}, \qquad
    C(x_S) = \sum_c p_\theta(x_k = c \mid x_S)\,
             \frac{W(x_S \cup \{x_k = c\})}{W(x_S)}.

Sampling from :math:`r` alone is ARDG.  It is exact where the conditionals of the base
are consistent and :math:`W` is the optimal discriminator; with the inconsistent
conditionals of any trained order-agnostic network it is biased even then, and
:mod:`ardm_guidance.guidance.smc` corrects it.

Where the constraints of the model leave one class, that class is taken and :math:`W` keeps its
value without being asked: values on partial objects may be anything positive, and a class that
every object of the model and of the data has there tells nothing.  The last site is always judged.

References:
    Ekström Kelvinius & Lindsten, "Discriminator Guidance for Autoregressive Diffusion
    Models", AISTATS 2024.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.models.ardm import sample
from ardm_guidance.models.state import Conditionals, Stateful, with_state
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.graphs import MASK
from ardm_guidance.sites.shortcuts import pays

__all__ = ["Best", "Guided", "Proposal", "Proposing", "best_of", "bootstrap", "fully_adapted"]


class Proposal(NamedTuple):
    r"""How one site of each object is proposed.

    Attributes:
        log_probs: Normalised over classes, ``(B, K)``.
        log_adjustment: Weight known before the draw, :math:`\log(C\, W(x_S))` or
            :math:`\log W(x_S)`, ``(B,)``.
        log_values: :math:`\log W` after each class, ``(B, K)``, or none where only the class
            that is drawn is to be evaluated.
    """

    log_probs: Tensor
    log_adjustment: Tensor
    log_values: Tensor | None

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


Proposing = Callable[[Tensor, Potential, Tensor, Tensor, Tensor], Proposal]


def bootstrap(
    log_probs: Tensor, potential: Potential, sites: Tensor, at: Tensor, log_value: Tensor
) -> Proposal:
    """Propose from the base model.

    Arguments:
        log_probs: The base model's conditional at the site, ``(B, K)``.
        potential: Not asked before the draw.
        sites: Partial objects, ``(B, D)``.
        at: Site to generate, ``(B, 1)``.
        log_value: The potential of ``sites``, ``(B,)``.

    References:
        Gordon, Salmond & Smith (1993), Novel approach to nonlinear Bayesian estimation.
    """
    return Proposal(log_probs, log_value, None)


def fully_adapted(
    log_probs: Tensor, potential: Potential, sites: Tensor, at: Tensor, log_value: Tensor
) -> Proposal:
    """Propose from the tilted conditional, whose weight does not depend on the draw.

    Arguments:
        log_probs: The base model's conditional at the site, ``(B, K)``.
        potential: Asked for every class where there is a choice.
        sites: Partial objects, ``(B, D)``.
        at: Site to generate, ``(B, 1)``.
        log_value: The potential of ``sites``, ``(B,)``.

    References:
        Pitt & Shephard (1999), Filtering via simulation: auxiliary particle filters.
    """
    log_values = _look_ahead(potential, sites, at[:, 0], log_probs > -torch.inf, log_value)
    return Proposal(*_tilt(log_probs, log_values), log_values)


def _look_ahead(
    potential: Potential, sites: Tensor, at: Tensor, allowed: Tensor, log_value: Tensor
) -> Tensor:
    """The potential after each class, ``(B, K)``, asked only where it matters."""
    hidden = sites == MASK
    choice = (allowed.sum(-1) > 1) | (hidden.sum(-1) == 1)
    asked = choice & hidden.gather(-1, at[:, None])[:, 0]
    values = log_value.double()[:, None].expand(allowed.shape).masked_fill(~allowed, -torch.inf)
    if not pays(sites.device):
        ahead = potential.look_ahead(sites, at, allowed).double()
        return torch.where(asked[:, None], ahead, values)
    rows = asked.nonzero()[:, 0]
    if not len(rows):
        return values
    found = potential.look_ahead(sites[rows], at[rows], allowed[rows])
    return values.index_put((rows,), found.double())


def _tilt(log_probs: Tensor, log_values: Tensor) -> tuple[Tensor, Tensor]:
    """Tilted conditionals and the logarithm of their sum; the base where all are impossible."""
    # A class that the base excludes stays excluded, whatever its potential.
    joint = torch.where(log_probs == -torch.inf, -torch.inf, log_probs + log_values)
    total = joint.logsumexp(-1)
    dead = (total == -torch.inf)[:, None]
    return torch.where(dead, log_probs, joint).log_softmax(-1), total


class Guided:
    """The tilted conditionals as a model of their own: ARDG.

    Arguments:
        base: The model.
        potential: What tilts it.

    References:
        Ekström Kelvinius & Lindsten (2024), Discriminator guidance for autoregressive models.
    """

    __str__ = in_a_line

    def __init__(self, base: Conditionals | Stateful, potential: Potential) -> None:
        self.base, self.potential = base, potential
        self._model = with_state(base)

    def log_probs_at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Log-probabilities of the classes at some sites, ``(B, P, K)``.

        Arguments:
            sites: Partial objects, ``(B, D)``.
            positions: Sites asked for, ``(B, P)``.
        """
        state = self.begin(sites)
        return torch.stack([self.log_probs(state, at) for at in positions.unbind(1)], 1)

    def begin(self, sites: Tensor) -> tuple[Tensor, Any]:
        """The objects, which the potential is asked for, and the model's own state."""
        return sites, self._model.begin(sites)

    def log_probs(self, state: tuple[Tensor, Any], at: Tensor) -> Tensor:
        """Tilted log-probabilities at one site of each object, ``(B, K)``."""
        sites, inner = state
        return self._tilted(sites, at, self._model.log_probs(inner, at))

    def extend(self, state: tuple[Tensor, Any], at: Tensor, value: Tensor) -> tuple[Tensor, Any]:
        """Both with one more site."""
        sites, inner = state
        shown = sites.scatter(-1, at[:, None], value[:, None])
        return shown, self._model.extend(inner, at, value)

    def select(self, state: tuple[Tensor, Any], rows: Tensor) -> tuple[Tensor, Any]:
        """Both of some objects."""
        sites, inner = state
        return sites[rows], self._model.select(inner, rows)

    def _tilted(self, sites: Tensor, positions: Tensor, log_probs: Tensor) -> Tensor:
        # A value that is the same for all classes cancels, so that it need not be known.
        before = torch.zeros(len(sites), device=sites.device)
        allowed = log_probs > -torch.inf
        values = _look_ahead(self.potential, sites, positions, allowed, before)
        return _tilt(log_probs, values)[0]


class Best(NamedTuple):
    """The best of each group.

    Attributes:
        sites: ``(G, D)``.
        log_value: Their potential, ``(G,)``.
    """

    sites: Tensor
    log_value: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def best_of(
    base: Conditionals | Stateful,
    potential: Potential,
    sites: Tensor,
    order: Tensor,
    noise: Tensor,
) -> Best:
    """Draw groups from the base model and keep the object of largest potential in each.

    Arguments:
        base: The model.
        potential: Asked on complete objects only.
        sites: Partial objects, ``(G, N, D)``.
        order: Their generation orders, ``(G, N, D)``.
        noise: Uniform on [0, 1), float64, ``(G, N, D)``.
    """
    drawn, _ = sample(base, *(value.flatten(0, 1) for value in (sites, order, noise)))
    log_value, index = potential(drawn).view(sites.shape[:2]).max(-1)
    chosen = drawn.view(sites.shape)[torch.arange(len(sites), device=sites.device), index]
    return Best(chosen, log_value)
