r"""Undirected graphs as sequences of sites.

A graph with :math:`n` nodes is one row of :math:`D = n + n(n-1)/2` categorical
sites: the :math:`n` node classes, then the edge classes of the pairs
:math:`(i, j)`, :math:`i < j`, in the order of ``torch.triu_indices``; edge class 0
means "no edge".  A site that has not been generated holds :data:`MASK`; graphs
smaller than their batch hold :data:`PAD` at the sites that they lack.  A row of
sites is thus a complete description of a partial graph, its size included.
"""

from functools import lru_cache
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ardm_guidance.shell.showing import in_a_line

__all__ = [
    "MASK",
    "PAD",
    "Graphs",
    "masked_graphs",
    "node_count",
    "pair_table",
    "pairs",
    "site_count",
    "sizes",
    "to_dense",
    "to_sites",
]

MASK = -1
PAD = -2


class Graphs(NamedTuple):
    """Dense graphs.

    Attributes:
        nodes: Node classes, ``(..., n)``.
        edges: Edge classes, symmetric, ``(..., n, n)``, :data:`PAD` on the diagonal.
    """

    nodes: Tensor
    edges: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def site_count(num_nodes: int) -> int:
    """Number of sites of a graph with ``num_nodes`` nodes."""
    return num_nodes * (num_nodes + 1) // 2


def node_count(num_sites: int) -> int:
    """Number of nodes of a graph with ``num_sites`` sites."""
    num_nodes = (isqrt(8 * num_sites + 1) - 1) // 2
    if site_count(num_nodes) != num_sites:
        raise ValueError(f"expected n(n+1)/2 sites, got {num_sites}")
    return num_nodes


@lru_cache(maxsize=64)
def pairs(num_nodes: int, device: torch.device | str = "cpu") -> Tensor:
    """Node pairs of the edge sites, ``(2, n(n-1)/2)``."""
    with torch.inference_mode(False):  # a cached inference tensor would be refused by autograd
        return torch.triu_indices(num_nodes, num_nodes, 1, device=device)


@lru_cache(maxsize=64)
def pair_table(num_nodes: int, device: torch.device | str = "cpu") -> Tensor:
    """Site of each node pair, ``(n, n)``; the diagonal points behind the last site."""
    i, j = pairs(num_nodes, device)
    with torch.inference_mode(False):
        table = torch.full((num_nodes, num_nodes), site_count(num_nodes), device=device)
        table[i, j] = table[j, i] = torch.arange(num_nodes, site_count(num_nodes), device=device)
    return table


def to_dense(sites: Tensor) -> Graphs:
    """Unfold sites into dense graphs.

    Arguments:
        sites: ``(..., D)``.
    """
    num_nodes = node_count(sites.shape[-1])
    table = pair_table(num_nodes, sites.device)
    padded = torch.nn.functional.pad(sites, (0, 1), value=PAD)
    edges = padded[..., table]
    return Graphs(sites[..., :num_nodes], edges)


def to_sites(graphs: Graphs) -> Tensor:
    """Fold dense graphs into sites, ``(..., D)``; only the upper triangle is read."""
    i, j = pairs(graphs.nodes.shape[-1], graphs.nodes.device)
    return torch.cat([graphs.nodes, graphs.edges[..., i, j]], -1)


def sizes(sites: Tensor) -> Tensor:
    """Number of nodes of each graph, ``(...)``."""
    return (sites[..., : node_count(sites.shape[-1])] != PAD).sum(-1)


def masked_graphs(num_nodes: Tensor, max_nodes: int) -> Tensor:
    """Graphs of the given sizes with every site masked.

    Arguments:
        num_nodes: Sizes, ``(...)``.
        max_nodes: Size of the padded graphs.

    Returns:
        Sites, ``(..., D)``.
    """
    present = torch.arange(max_nodes, device=num_nodes.device) < num_nodes[..., None]
    i, j = pairs(max_nodes, num_nodes.device)
    present = torch.cat([present, present[..., i] & present[..., j]], -1)
    return torch.where(present, MASK, PAD)
