r"""Potentials: positive functions of partial objects, in log space.

A potential :math:`W(x_S)` steers generation.  The law that sequential Monte Carlo
samples is :math:`\propto p_\theta(x) W(x)`, with :math:`W` on *complete* objects:
values on partial ones may be anything positive and only change the variance.

A potential answers two questions: :math:`\log W(x_S)`, and the *look-ahead*
:math:`\log W(x_S \cup \{x_k = c\})` for every class :math:`c` at one position.
:func:`per_class` answers the second by the first, at the cost of one evaluation for each
class; potentials with a shortcut take it.

References:
    Del Moral, *Feynman-Kac Formulae* (2004); rewards as potentials in Singhal et al., "A General
    Framework for Inference-time Scaling and Steering of Diffusion Models", ICML 2025.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.constraints import Constraint
from ardm_guidance.sites.graphs import MASK
from ardm_guidance.sites.shortcuts import pays

__all__ = ["Hard", "LateStart", "Potential", "Product", "Reward", "Tempered", "per_class"]


class Potential(nn.Module, ABC):
    """A positive function of partial objects."""

    __str__ = in_a_line

    @abstractmethod
    def forward(self, sites: Tensor) -> Tensor:
        r""":math:`\log W` of partial objects ``(B, D)``, ``(B,)``."""

    @abstractmethod
    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        r""":math:`\log W` after each class at one position.

        Arguments:
            sites: Partial objects, ``(B, D)``.
            positions: Site to be generated, ``(B,)``.
            allowed: Classes that the model allows there, ``(B, K)``; others are not asked.

        Returns:
            ``(B, K)``, ``-inf`` at classes that are not allowed.
        """


def per_class(potential: Potential, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
    """Look ahead by evaluating the potential once for each allowed class, ``(B, K)``."""
    rows, classes = allowed.nonzero(as_tuple=True)
    candidates = sites[rows].scatter(-1, positions[rows, None], classes[:, None])
    value = potential(candidates) if len(candidates) else sites.new_zeros(0, dtype=torch.double)
    return value.new_full(allowed.shape, -torch.inf).index_put((rows, classes), value)


class Reward(Potential):
    r""":math:`W(x_S) = \exp(\lambda\, r(x_S))`.

    Arguments:
        reward: Maps sites ``(B, D)`` to rewards ``(B,)``; on partial objects any guess of
            the reward of their completion.
        strength: :math:`\lambda`.
    """

    def __init__(self, reward: Callable[[Tensor], Tensor], strength: float = 1.0) -> None:
        super().__init__()
        self.reward, self.strength = reward, strength

    def forward(self, sites: Tensor) -> Tensor:
        r""":math:`\lambda\, r`."""
        return self.strength * self.reward(sites)

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """One evaluation for each class."""
        return per_class(self, sites, positions, allowed)


class Hard(Potential):
    """One on the objects that have a property, zero on others.

    Of partial objects it is one where a completion may still have the property; complete ones
    are asked for the property itself, so that the target doesn't depend on the path.

    The law is then the model *conditioned* on the property, whereas a constraint given to the
    model itself changes each conditional.  The two differ, and the normaliser of the
    conditionals is what enters the weight.

    Arguments:
        constraint: Such as :class:`~ardm_guidance.sites.constraints.Valence`.
    """

    def __init__(self, constraint: Constraint) -> None:
        super().__init__()
        self.constraint = constraint

    def forward(self, sites: Tensor) -> Tensor:
        """Zero, or minus infinity where the property is out of reach."""
        fine = self.constraint.holds(sites)
        return torch.zeros(fine.shape, device=sites.device).masked_fill(~fine, -torch.inf)

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """The property after each class: the same function as :meth:`forward`."""
        return per_class(self, sites, positions, allowed)


class Tempered(Potential):
    r""":math:`W(x_S)^\beta`.

    Arguments:
        potential: :math:`W`.
        power: :math:`\beta`.
    """

    def __init__(self, potential: Potential, power: float) -> None:
        super().__init__()
        self.potential, self.power = potential, power

    def forward(self, sites: Tensor) -> Tensor:
        r""":math:`\beta \log W`."""
        value: Tensor = self.potential(sites)
        return self.power * value

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """As the potential does."""
        return self.power * self.potential.look_ahead(sites, positions, allowed)


class LateStart(Potential):
    r"""One until a number of sites has been generated, :math:`W` from there on.

    :math:`W` is asked only where it counts.

    Arguments:
        potential: :math:`W`.
        start: Shown sites from which on it counts.
    """

    def __init__(self, potential: Potential, start: int) -> None:
        super().__init__()
        self.potential, self.start = potential, start

    def forward(self, sites: Tensor) -> Tensor:
        r""":math:`\log W`, or zero; complete objects always count."""
        early = torch.zeros(len(sites), dtype=torch.double, device=sites.device)
        counts = self._counting(sites, 0)
        if not pays(sites.device):
            return torch.where(counts, self.potential(sites).double(), early)
        rows = counts.nonzero()[:, 0]
        if not len(rows):
            return early
        return early.index_put((rows,), self.potential(sites[rows]).double())

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """As the potential does."""
        early = torch.zeros(allowed.shape, dtype=torch.double, device=sites.device)
        early = early.masked_fill(~allowed, -torch.inf)
        counts = self._counting(sites, 1)
        if not pays(sites.device):
            ahead = self.potential.look_ahead(sites, positions, allowed).double()
            return torch.where(counts[:, None], ahead, early)
        rows = counts.nonzero()[:, 0]
        if not len(rows):
            return early
        values = self.potential.look_ahead(sites[rows], positions[rows], allowed[rows])
        return early.index_put((rows,), values.double())

    def _counting(self, sites: Tensor, more: int) -> Tensor:
        """Whether :math:`W` counts, ``(B,)``."""
        hidden = (sites == MASK).sum(-1)
        return ((sites >= 0).sum(-1) + more >= self.start) | (hidden <= more)


class Product(Potential):
    """The product of potentials.

    Arguments:
        potentials: At least one.
    """

    def __init__(self, potentials: Sequence[Potential]) -> None:
        super().__init__()
        if not potentials:
            raise ValueError("a product needs at least one potential")
        self.potentials: Sequence[Potential] = nn.ModuleList(potentials)  # type: ignore[assignment]

    def forward(self, sites: Tensor) -> Tensor:
        """Sum of the logarithms."""
        return torch.stack([potential(sites) for potential in self.potentials]).sum(0)

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """Sum of what each sees."""
        values = [one.look_ahead(sites, positions, allowed) for one in self.potentials]
        return torch.stack(values).sum(0)
