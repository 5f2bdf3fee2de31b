r"""What every way to draw has in common.

A method turns numbers of samples into finished objects of the law :math:`\propto p_\theta(x) W(x)`
or of something near it.  Sizes, orders and classes depend on the seed and the number alone, and
each object comes with what is known of it: its weight :math:`w`, the estimate :math:`\log\hat Z`
of its group, and its log-probability under what it was drawn from.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.models.ardm import OrderAgnosticARDM
from ardm_guidance.shell.showing import in_a_line

__all__ = ["Drawn", "Groups", "Method", "Model", "in_groups"]


class Start(Protocol):
    """Objects to start from and all that their generation draws, each ``(B, D)``."""

    @property
    def sites(self) -> Tensor:
        """Partial objects."""
        ...

    @property
    def order(self) -> Tensor:
        """Generation orders."""
        ...

    @property
    def noise(self) -> Tensor:
        """Uniform on [0, 1), float64."""
        ...


class Model(Protocol):
    """A generator: its conditionals, and where each sample starts."""

    def ardm(self) -> OrderAgnosticARDM:
        """The conditionals."""
        ...

    def start(self, index: Tensor, seed: int) -> Start:
        """Starts of samples of these numbers, ``(B,)``."""
        ...


class Drawn(NamedTuple):
    r"""Finished objects.

    Attributes:
        sites: ``(B, D)``.
        group: Number of the group that each comes from, ``(B,)``.
        log_weight: Unnormalised, in nats, ``(B,)``; their mean over a group estimates the constant.
        log_normalizer: :math:`\log\hat Z` of the group, ``(B,)``; not a number where unknown.
        log_prob: Under what it was drawn from, given size and order, ``(B,)``; not a number
            where unknown.
    """

    sites: Tensor
    group: Tensor
    log_weight: Tensor
    log_normalizer: Tensor
    log_prob: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class Method(ABC):
    """A way to draw."""

    __str__ = in_a_line

    # Whether samples are to be chosen by weight from all that is drawn, once all is there.
    pooled = False

    @abstractmethod
    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """Draw the samples of these numbers.

        Arguments:
            model: The generator.
            potential: :math:`W`, of methods that are guided.
            index: Numbers of the samples, ``(B,)``.
            seed: Seed of all that is drawn.

        Raises:
            ValueError: The method needs a potential, or takes none.
        """

    def needed(self, potential: Potential | None) -> Potential:
        """The potential of a method that is guided."""
        if potential is None:
            raise ValueError(f"method {type(self).__name__} needs a guide")
        return potential

    def refuse(self, potential: Potential | None) -> None:
        """Stop where a method has no use for a guide."""
        if potential is not None:
            raise ValueError(f"method {type(self).__name__} takes no guide")


class Groups(NamedTuple):
    """Starts of N particles of each sample, each ``(G, N, D)``."""

    sites: Tensor
    order: Tensor
    noise: Tensor


def in_groups(model: Model, index: Tensor, seed: int, num_particles: int) -> Groups:
    """Starts of groups; sizes and orders are of each particle."""
    numbers = index[:, None] * num_particles + torch.arange(num_particles, device=index.device)
    start = model.start(numbers.flatten(), seed)
    shape = (*numbers.shape, -1)
    return Groups(start.sites.view(shape), start.order.view(shape), start.noise.view(shape))
