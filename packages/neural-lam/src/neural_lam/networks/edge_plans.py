r"""Chunks of edges that stay in the cache, for `neural_lam.networks.fused`.

A chunk holds whole receivers and all of their edges. The three terms of an edge's first layer,
those of its sender, of its static row and of its receiver, lie in one table, whose rows one
``embedding_bag`` both gathers and adds.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_lam.networks.plain import EdgeIndex

__all__ = ["Chunk", "EdgePlan", "Groups", "bag", "plan_edges"]


class Groups(NamedTuple):
    """Rows of a chunk that are added to the same target.

    Arguments:
        order: Rows sorted by target.
        offsets: Where each target's rows begin, and the end.
        targets: The distinct targets.
    """

    order: Tensor
    offsets: Tensor
    targets: Tensor

    def add(self, values: Tensor, total: Tensor) -> None:
        """Add rows ``(n, D)`` to the rows of ``total`` that they belong to."""
        total.index_add_(0, self.targets, bag(values, self.order, self.offsets))


class Chunk(NamedTuple):
    """Some receivers and all of their edges.

    Arguments:
        receivers: The first receiver and the one past the last.
        edges: Likewise.
        gather: Rows of the table that are added up for each edge, ``(n * terms,)``.
        gather_offsets: Where each edge's rows begin, and the end.
        offsets: Where each receiver's edges begin, and the end.
        local: Receiver of each edge within the chunk.
        every: ``0 .. n - 1``.
        by_sender: Edges of the same sender.
        by_row: Edges of the same static row.
    """

    receivers: tuple[int, int]
    edges: tuple[int, int]
    gather: Tensor
    gather_offsets: Tensor
    offsets: Tensor
    local: Tensor
    every: Tensor
    by_sender: Groups
    by_row: Groups | None

    def rows_of(self, x: Tensor) -> Tensor:
        """Rows of the chunk's receivers, batch and nodes as one, ``(r * B, D)``."""
        first, last = self.receivers
        return x[first:last].reshape(-1, x.shape[-1])

    def edges_of(self, x: Tensor) -> Tensor:
        """Rows of the chunk's edges, ``(n, ...)``."""
        return x[self.edges[0] : self.edges[1]]


class EdgePlan(NamedTuple):
    """Chunks of a set of edges, for one kind of edge state.

    Arguments:
        edges: Where they start and end.
        chunks: In order of receivers.
        num_senders: Rows of the table that belong to senders.
        num_rows: Rows of the table that belong to distinct static rows; 0 if every edge has
            its own, or edges have states.
        most_receivers: In a chunk.
    """

    edges: EdgeIndex
    chunks: list[Chunk]
    num_senders: int
    num_rows: int
    most_receivers: int


def bag(table: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
    """Sums of rows of a table: from each of ``offsets`` to the next, those at ``index``."""
    return torch.embedding_bag(table, index, offsets, False, 0, False, None, True)[0]


def _group(targets: Tensor) -> Groups:
    order = torch.argsort(targets, stable=True)
    distinct, counts = torch.unique_consecutive(targets[order], return_counts=True)
    return Groups(order, F.pad(counts.cumsum(0), (1, 0)), distinct)


def _boundaries(offsets: Tensor, most_edges: int) -> list[int]:
    """Receivers at which chunks begin, and the end."""
    bounds, last, ends = [0], len(offsets) - 1, offsets.tolist()
    while bounds[-1] < last:
        first = bounds[-1]
        reach = torch.searchsorted(offsets, ends[first] + most_edges, right=True)
        bounds.append(max(first + 1, min(last, int(reach) - 1)))
    return bounds


def plan_edges(
    index: EdgeIndex, num_senders: int, num_receivers: int, num_rows: int, most_edges: int
) -> EdgePlan:
    """Chunks of at most ``most_edges`` edges, or of one receiver.

    Arguments:
        index: Where the edges start and end.
        num_senders: Number of sending nodes.
        num_receivers: Number of receiving nodes.
        num_rows: Distinct static rows that the edges share; 0 if they share none.
        most_edges: In a chunk.
    """
    degree = torch.bincount(index.receivers, minlength=num_receivers)
    offsets = F.pad(degree.cumsum(0), (1, 0))
    bounds = _boundaries(offsets, max(1, most_edges))
    ends = offsets[bounds].tolist()
    receivers, edges = list(pairwise(bounds)), list(pairwise(ends))
    chunks = []
    for (first, last), (start, stop) in zip(receivers, edges, strict=True):
        senders, local = index.senders[start:stop], index.receivers[start:stop] - first
        parts = [senders, local + num_senders + num_rows]
        if num_rows:
            parts.insert(1, index.row[start:stop] + num_senders)
        every = torch.arange(stop - start + 1, device=senders.device)
        chunk = Chunk(
            (first, last),
            (start, stop),
            torch.stack(parts, dim=1).flatten(),
            every * len(parts),
            offsets[first : last + 1] - start,
            local,
            every[:-1],
            _group(senders),
            _group(index.row[start:stop]) if num_rows else None,
        )
        chunks.append(chunk)
    most = max(last - first for first, last in receivers)
    return EdgePlan(index, chunks, num_senders, num_rows, most)
