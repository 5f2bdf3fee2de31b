r"""A trunk that is asked no question twice.

Two heads on one trunk ask for the same states: the generator for its conditional at a site, the
discriminator's look-ahead for what each class there would be worth. Copies of a particle, of which
resampling makes many, ask for the same states too. The states of the last question are kept, and
a row is computed once:

.. math:: h(x, k) \text{ for the distinct rows of } \{(x_i, k_i)\} \setminus \text{kept}.

Finding equal rows takes a look at them.  Where that would make the host wait
(:func:`~ardm_guidance.sites.shortcuts.pays`), only a question that is the last one, tensor by
tensor, is answered from memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ardm_guidance.models.networks import pick, widen
from ardm_guidance.models.trunks import Trunk, TrunkSettings
from ardm_guidance.sites.graphs import node_count
from ardm_guidance.sites.shortcuts import pays

__all__ = ["Once"]


class _Kept(NamedTuple):
    """The last question, and its answer.

    Attributes:
        asked: Sites and positions, as they were handed in.
        rows: The same side by side, ``(R, D + 1)``; sites alone where rows aren't compared.
        states: Their states, ``(R, width)`` and ``(R, pair_width)``.
    """

    asked: tuple[Tensor, Tensor]
    rows: Tensor
    states: tuple[Tensor, Tensor]


class Once(nn.Module):
    """A trunk whose last answer is kept; for weights that don't change meanwhile.

    Arguments:
        trunk: What is asked. Its heads are those of the nodes' and of the pairs' logits.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self._kept: _Kept | None = None

    @property
    def settings(self) -> TrunkSettings:
        """Widths and numbers of classes."""
        return self.trunk.settings

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        """Logits of nodes and of pairs."""
        return self.trunk.heads

    def forward(self, sites: Tensor) -> Tensor:
        """Logits of every site, ``(B, D, K)``."""
        nodes, edges = self.heads
        h, e = self.states(sites)
        return widen(nodes(h), edges(e))

    def at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Logits of one site of each graph, ``(B, K)``; arguments as in :meth:`states_at`."""
        nodes, edges = self.heads
        h, e = self.states_at(sites, positions)
        return pick(nodes(h), edges(e), positions, node_count(sites.shape[-1]))

    def states(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        """All states, ``(B, n, width)``, ``(B, E, pair_width)``; of equal graphs once."""
        if not pays(sites.device) or torch.is_grad_enabled():
            return self.trunk.states(sites)
        rows, back = torch.unique(sites, dim=0, return_inverse=True)
        h, e = self.trunk.states(rows)
        return h[back], e[back]

    def states_at(self, sites: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """States of one site of each graph.

        Arguments:
            sites: Partial graphs, ``(B, D)``.
            positions: Sites, ``(B,)``.

        Returns:
            ``(B, width)`` and ``(B, pair_width)``, as the trunk says.
        """
        if torch.is_grad_enabled() or not len(sites):
            return self.trunk.states_at(sites, positions)
        if pays(sites.device):
            return self._distinct(sites, positions)
        if self._kept is not None and all(
            given is known
            for given, known in zip((sites, positions), self._kept.asked, strict=True)
        ):
            return self._kept.states
        states = self.trunk.states_at(sites, positions)
        self._kept = _Kept((sites, positions), sites, states)
        return states

    def _distinct(self, sites: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the rows that are neither kept nor equal to another."""
        asked = torch.cat([sites, positions[:, None]], 1)
        old = self._remembered(asked)
        number = 0 if old is None else len(old.rows)
        known = asked if old is None else torch.cat([old.rows, asked])
        rows, back = torch.unique(known, dim=0, return_inverse=True)
        # Where each distinct row's states are: among the kept ones, or behind them.
        place = back.new_full((len(rows),), -1)
        place[back[:number]] = torch.arange(number, device=sites.device)
        new = (place < 0).nonzero()[:, 0]
        place[new] = number + torch.arange(len(new), device=sites.device)
        parts = [] if old is None else [old.states]
        if len(new):
            parts.append(self.trunk.states_at(rows[new, :-1], rows[new, -1]))
        index = place[back[number:]]
        h, e = (torch.cat(column)[index] for column in zip(*parts, strict=True))
        self._kept = _Kept((sites, positions), asked, (h, e))
        return h, e

    def _remembered(self, asked: Tensor) -> _Kept | None:
        """The last answer, where it can be of use."""
        kept = self._kept
        return None if kept is None or kept.rows.shape[1:] != asked.shape[1:] else kept
