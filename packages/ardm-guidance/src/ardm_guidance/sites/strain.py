r"""Molecules without impossible strain: no triple bond in a ring of three to six atoms.

A triple bond between :math:`u` and :math:`v` lies in such a ring iff another way of at most five
bonds leads from :math:`u` to :math:`v`.  Taking bonds away never closes a ring, so that a partial
graph has a completion without strain iff the bonds shown have none; and a bond that joins two
components closes no ring, so that this constraint and connectivity never exclude each other's
last class.

References:
    Krebs & Wilke (1983), Angle strained cycloalkynes, Topics in Current Chemistry 109; the
    smallest that can be isolated has eight atoms (Bertrand et al. for seven with heavy groups).
"""

import torch
from torch import Tensor, nn

from ardm_guidance.sites.constraints import Constraint
from ardm_guidance.sites.graphs import node_count, pairs, to_dense

__all__ = ["Unstrained", "in_small_ring"]

_TRIPLE = 3
_LONGEST = 5  # bonds of the other way round a ring of six


def in_small_ring(orders: Tensor) -> Tensor:
    """Whether the ends of each pair are also joined by another way of at most five bonds.

    Arguments:
        orders: Bond orders, ``(..., n, n)``.

    Returns:
        For the pairs in the order of their sites, ``(..., E)``.
    """
    bonded = (orders > 0).float()
    n = orders.shape[-1]
    u, v = pairs(n, orders.device)
    direct = bonded[..., u, v]
    # Ways from u, of each length, that never take the pair's own bond, ``(..., E, n)``.
    reached = nn.functional.one_hot(u, n).to(bonded).expand(*direct.shape, n)
    ends = [nn.functional.one_hot(end, n).to(bonded) for end in (u, v)]
    met = torch.zeros_like(direct)
    for _ in range(_LONGEST):
        own = [(reached * end).sum(-1) * direct for end in ends]
        following = reached @ bonded
        following = following - own[0][..., None] * ends[1] - own[1][..., None] * ends[0]
        reached = (following > 0.5).to(bonded)
        met = met + (reached * ends[1]).sum(-1)
    return met > 0


class Unstrained(Constraint):
    """No triple bond gets into a ring of three to six atoms.

    Arguments:
        num_node_classes: Classes of a node.
        num_edge_classes: Classes of a pair, class ``k`` being a bond of order ``k``.
    """

    def __init__(self, num_node_classes: int, num_edge_classes: int = 4) -> None:
        super().__init__()
        self.num_classes = max(num_node_classes, num_edge_classes)

    def forward(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Return the classes after which no triple bond lies in a small ring."""
        single, triple = (self._after(sites, positions, order) for order in (1, _TRIPLE))
        node = positions < node_count(sites.shape[-1])
        every = torch.arange(self.num_classes, device=sites.device)
        bond = torch.where(every < _TRIPLE, single[..., None], triple[..., None])
        return node[..., None] | (every == 0) | bond

    def _after(self, sites: Tensor, positions: Tensor, order: int) -> Tensor:
        """Whether a bond of an order at each position leaves everything in order, ``(B, P)``."""
        candidates = sites[:, None].expand(*positions.shape, -1).clone()
        candidates.scatter_(-1, positions[..., None], order)
        return self.holds(candidates)

    def holds(self, sites: Tensor) -> Tensor:
        """Whether no triple bond that is shown lies in a small ring, ``(...)``."""
        orders = to_dense(sites).edges.clamp(min=0)
        u, v = pairs(orders.shape[-1], sites.device)
        return ~(in_small_ring(orders) & (orders[..., u, v] == _TRIPLE)).any(-1)
