r"""Hard constraints on partial molecular graphs, exact in every conditional.

Let :math:`c_a` be the largest number of bonds of atom class :math:`a`, and
:math:`u_i` the sum of the bond orders already generated at node :math:`i`.  A
partial graph can be completed within the valences iff :math:`u_i \le c_{x_i}` at every
node, where a masked node counts with :math:`\max_a c_a`: the remaining pairs may stay
unbonded.  :class:`Valence` therefore keeps exactly the classes that have a completion.

:class:`Connectivity` looks ahead to one component.  With the bonds generated so far
a partial graph has :math:`m` components; a pair is *open* if it is masked and both
ends have room for a bond.  Completion to a connected molecule needs

1. that bonds and open pairs together connect all nodes, and
2. :math:`\sum_i \min(r_i, o_i) \ge 2(m - 1)`, with :math:`r_i` the room of node
   :math:`i` and :math:`o_i` its open pairs to other components: the :math:`m - 1`
   joining bonds have two ends each.

A pair without which (1) fails is a bridge and must become a bond, which uses up room;
the conditions are checked again after such bonds are made.  Deciding completion
exactly is a spanning-tree problem with bounded degrees, which is NP-hard; where
these necessary conditions leave no class, the valence alone decides.

A constraint maps ``(sites (B, D), positions (B, P))`` to the classes allowed at these
positions, ``(B, P, K)``.

References:
    Degree-constrained spanning trees: Garey & Johnson, *Computers and Intractability* (1979),
    problem ND1. Bridges by effective resistance: Klein & Randić, "Resistance distance", J. Math.
    Chem. 12 (1993).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil, log2
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.graphs import MASK, PAD, node_count, pairs, to_dense
from ardm_guidance.sites.shortcuts import pays

__all__ = ["Connectivity", "Constraint", "Valence", "closure", "completable"]


class Constraint(nn.Module, ABC):
    """Classes that a partial object may still take."""

    __str__ = in_a_line

    @abstractmethod
    def forward(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Return the allowed classes.

        Arguments:
            sites: Partial objects, ``(B, D)``.
            positions: Sites asked for, ``(B, P)``.

        Returns:
            ``(B, P, K)``, true where the class is allowed.
        """

    @abstractmethod
    def holds(self, sites: Tensor) -> Tensor:
        """Whether objects have the property, or can still get it.

        Of a complete object the answer is exact; of a partial one, false means that no
        completion has the property.

        Arguments:
            sites: Objects, ``(B, D)``.

        Returns:
            ``(B,)``.
        """


class Bonds(NamedTuple):
    """Bonds and room of partial graphs.

    Attributes:
        orders: Bond orders generated so far, ``(..., n, n)``.
        masked: Pairs not generated, ``(..., n, n)``.
        room: Bond orders that each node can still take, ``(..., n)``.
        present: Nodes that are not padding, ``(..., n)``.
    """

    orders: Tensor
    masked: Tensor
    room: Tensor
    present: Tensor


def _bonds(sites: Tensor, capacities: Tensor) -> Bonds:
    nodes, edges = to_dense(sites)
    orders = edges.clamp(min=0)
    capacity = torch.where(nodes == MASK, capacities.max(), capacities[nodes.clamp(min=0)])
    present = nodes != PAD
    room = (capacity - orders.sum(-1)).masked_fill(~present, 0)
    return Bonds(orders, edges == MASK, room, present)


class Valence(Constraint):
    """No atom gets more bonds than its class can carry.

    Arguments:
        capacities: Largest number of bonds of each atom class.
        num_edge_classes: Edge classes, class ``k`` being a bond of order ``k``.
    """

    capacities: Tensor

    def __init__(self, capacities: Sequence[int], num_edge_classes: int = 4) -> None:
        super().__init__()
        self.num_edge_classes = num_edge_classes
        self.num_classes = max(len(capacities), num_edge_classes)
        self.register_buffer("capacities", torch.tensor(capacities), persistent=False)

    def forward(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Return the classes that have a completion within the valences."""
        bonds = _bonds(sites, self.capacities)
        allowed = torch.cat([self._nodes(bonds), self._edges(bonds)], -2)
        index = positions[..., None].expand(*positions.shape, self.num_classes)
        return allowed.gather(-2, index)

    def holds(self, sites: Tensor) -> Tensor:
        """Whether no atom has more bonds than it can carry, hidden ones counting nothing."""
        return (_bonds(sites, self.capacities).room >= 0).all(-1)

    def _nodes(self, bonds: Bonds) -> Tensor:
        fits = self.capacities >= bonds.orders.sum(-1)[..., None]
        return nn.functional.pad(fits, (0, self.num_classes - fits.shape[-1]))

    def _edges(self, bonds: Bonds) -> Tensor:
        i, j = pairs(bonds.room.shape[-1], bonds.room.device)
        room = torch.minimum(bonds.room[..., i], bonds.room[..., j]).clamp(min=0)
        fits = torch.arange(self.num_edge_classes, device=room.device) <= room[..., None]
        return nn.functional.pad(fits, (0, self.num_classes - fits.shape[-1]))


def closure(adjacency: Tensor) -> Tensor:
    """Reflexive transitive closure of a symmetric relation, ``(..., n, n)``, as floats."""
    n = adjacency.shape[-1]
    reach = (adjacency | torch.eye(n, dtype=torch.bool, device=adjacency.device)).float()
    for _ in range(max(1, ceil(log2(max(n, 2))))):
        reach = (reach @ reach).clamp_(max=1.0)
    return reach


def _open_pairs(bonds: Bonds) -> Tensor:
    roomy = bonds.room > 0
    return bonds.masked & roomy[..., :, None] & roomy[..., None, :]


def _bridges(graph: Tensor, present: Tensor) -> Tensor:
    r"""Edges whose removal disconnects a connected graph.

    With unit resistors on the edges, the effective resistance between the ends of an
    edge is 1 iff it is a bridge, and at most :math:`(n-1)/n` on a cycle.
    """
    weights = graph.double()
    n = weights.shape[-1]
    laplacian = torch.diag_embed(weights.sum(-1)) - weights
    # One unit from every node to ground makes the matrix definite; present nodes share it.
    ground = (present[..., :, None] & present[..., None, :]).double()
    ground = ground + torch.diag_embed((~present).double())
    potential = torch.linalg.inv(laplacian + ground)
    diagonal = potential.diagonal(dim1=-2, dim2=-1)
    resistance = diagonal[..., :, None] + diagonal[..., None, :] - 2 * potential
    bridges: Tensor = graph & (resistance > 1 - 0.5 / n)
    return bridges


def _graph(bonds: Bonds) -> Tensor:
    """Bonds and open pairs."""
    return (bonds.orders > 0) | _open_pairs(bonds)


def _supplied(bonds: Bonds) -> Tensor:
    """The second condition for a connected completion: room for the bonds that join pieces."""
    component = closure(bonds.orders > 0)
    count = (bonds.present / component.sum(-1)).sum(-1)
    outward = (_open_pairs(bonds) & (component == 0)).sum(-1)
    supply = torch.minimum(bonds.room, outward).sum(-1)
    return (supply + 0.5 >= 2 * (count - 1)) & (bonds.room >= 0).all(-1)


def _connected(bonds: Bonds) -> Tensor:
    """The first condition: bonds and open pairs connect all nodes."""
    present = bonds.present[..., :, None] & bonds.present[..., None, :]
    return (closure(_graph(bonds)).bool() | ~present).all(-1).all(-1)


def _dense(bonds: Bonds) -> Tensor:
    """Graphs with a Hamiltonian cycle by Dirac's theorem: connected, and without bridges."""
    count = bonds.present.sum(-1, keepdim=True)
    degrees = _graph(bonds).sum(-1)
    return ((2 * degrees >= count) | ~bonds.present).all(-1) & (count[..., 0] >= 3)


def _make_bridges(bonds: Bonds) -> tuple[Bonds, Tensor]:
    """Turn the masked bridges of connected graphs into single bonds; which graphs had any."""
    made = bonds.masked & _bridges(_graph(bonds), bonds.present)
    orders, room = bonds.orders + made, bonds.room - made.sum(-1)
    after = Bonds(orders, bonds.masked & ~made, room, bonds.present)
    return after, made.flatten(-2).any(-1)


def _rows(bonds: Bonds, keep: Tensor) -> Bonds:
    return Bonds(*(values[keep] for values in bonds))


def completable(sites: Tensor, capacities: Tensor, num_rounds: int = 2) -> Tensor:
    """Whether the necessary conditions for a connected completion hold.

    Each check is made only of the graphs that the cheaper ones before it leave open.

    Arguments:
        sites: Partial molecular graphs, ``(..., D)``.
        capacities: Largest number of bonds of each atom class.
        num_rounds: How often bridges are made into bonds before checking again.

    Returns:
        ``(...)``; false means that no connected completion exists.
    """
    bonds = _bonds(sites.flatten(0, -2), capacities)
    feasible = _supplied(bonds)
    if not pays(sites.device):
        return _completable_everywhere(bonds, feasible, num_rounds).view(sites.shape[:-1])
    rows = (feasible & ~_dense(bonds)).nonzero()[:, 0]
    bonds = _rows(bonds, rows)
    holds = _connected(bonds)
    feasible = feasible.index_put((rows,), holds)
    for _ in range(num_rounds):
        bonds, changed = _make_bridges(_rows(bonds, holds))
        rows, bonds = rows[holds][changed], _rows(bonds, changed)
        holds = _connected(bonds) & _supplied(bonds)
        feasible = feasible.index_put((rows,), holds)
    return feasible.view(sites.shape[:-1])


def _completable_everywhere(bonds: Bonds, feasible: Tensor, num_rounds: int) -> Tensor:
    """The same checks of every graph, without a look at the values."""
    feasible = feasible & _connected(bonds)
    for _ in range(num_rounds):
        # Bridges are of connected graphs; the others have their answer, and get all their bonds.
        whole = bonds.present[..., :, None] & bonds.present[..., None, :]
        graph = torch.where(feasible[..., None, None], _graph(bonds), whole)
        made = bonds.masked & _bridges(graph, bonds.present)
        orders, room = bonds.orders + made, bonds.room - made.sum(-1)
        bonds = Bonds(orders, bonds.masked & ~made, room, bonds.present)
        feasible = feasible & _connected(bonds) & _supplied(bonds)
    return feasible


class Connectivity(Constraint):
    """The molecule can still become one component.

    Arguments:
        capacities: Largest number of bonds of each atom class.
        num_edge_classes: Edge classes, class ``k`` being a bond of order ``k``.
        num_rounds: Rounds of forced bonds, see :func:`completable`.
    """

    capacities: Tensor
    tried: Tensor
    answers: Tensor

    def __init__(
        self, capacities: Sequence[int], num_edge_classes: int = 4, num_rounds: int = 2
    ) -> None:
        super().__init__()
        self.num_rounds = num_rounds
        self.valence = Valence(capacities, num_edge_classes)
        self.register_buffer("capacities", torch.tensor(capacities), persistent=False)
        # Atom classes of one capacity share their answer: only the first of them is tried.
        distinct = sorted(set(capacities))
        tried = [capacities.index(capacity) for capacity in distinct]
        places = [distinct.index(capacity) for capacity in capacities]
        edges = list(range(num_edge_classes))
        for name, table in (("tried", (tried, edges)), ("answers", (places, edges))):
            self.register_buffer(name, _padded(*table), persistent=False)

    def forward(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Return the classes that fit and leave the graph completable, or all that fit."""
        fits: Tensor = self.valence(sites, positions)
        edge = (positions >= node_count(sites.shape[-1])).long()
        tried = self.tried[edge]
        # Where one class fits, it is taken in any case.
        asked = fits.gather(-1, tried) & (fits.sum(-1, keepdim=True) > 1)
        candidates = _with_class(sites, positions, tried)
        if pays(sites.device):
            answers = completable(candidates[asked], self.capacities, self.num_rounds)
            possible = torch.ones_like(asked).masked_scatter(asked, answers)
        else:
            possible = completable(candidates, self.capacities, self.num_rounds) | ~asked
        allowed = fits & possible.gather(-1, self.answers[edge])
        return torch.where(allowed.any(-1, keepdim=True), allowed, fits)

    def holds(self, sites: Tensor) -> Tensor:
        """Whether the molecule is one component within the valences, or can still become one."""
        return completable(sites, self.capacities, self.num_rounds)


def _padded(nodes: list[int], edges: list[int]) -> Tensor:
    """Two rows, the shorter one filled up with its last entry, ``(2, M)``."""
    length = max(len(nodes), len(edges))
    return torch.tensor([row + row[-1:] * (length - len(row)) for row in (nodes, edges)])


def _with_class(sites: Tensor, positions: Tensor, classes: Tensor) -> Tensor:
    """Each partial graph with each of the classes ``(B, P, M)`` at each position."""
    candidates = sites[:, None, None].expand(*classes.shape, -1).clone()
    index = positions[..., None, None].expand(*classes.shape, 1)
    return candidates.scatter_(-1, index, classes[..., None])
