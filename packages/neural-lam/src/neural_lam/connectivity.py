r"""Connectors: the edges from one set of nodes to another.

Each takes positions of senders ``(S, D)`` and receivers ``(R, D)`` and returns senders
and receivers of the edges, ``(2, E)``, sorted by receiver. Searches use a k-d tree, so
that their cost grows as :math:`N \log N`.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from neural_lam.configuration import InputError

__all__ = ["connected", "k_nearest", "within_radius"]


def within_radius(senders: Tensor, receivers: Tensor, radius: float) -> Tensor:
    """Edges from every sender to the receivers at most ``radius`` away."""
    if not radius > 0:
        raise InputError(f"radius must be positive, got {radius}")
    neighbours = cKDTree(senders.numpy()).query_ball_point(
        receivers.numpy(), radius, return_sorted=True
    )
    degree = [len(found) for found in neighbours]
    source = np.concatenate([np.asarray(found, dtype=np.int64) for found in neighbours])
    target = np.repeat(np.arange(len(receivers)), degree)
    return torch.from_numpy(np.stack((source, target)))


def k_nearest(senders: Tensor, receivers: Tensor, k: int) -> Tensor:
    """Edges to every receiver from its ``k`` nearest senders."""
    if not 1 <= k <= len(senders):
        raise InputError(f"k must be between 1 and the {len(senders)} senders, got {k}")
    _, index = cKDTree(senders.numpy()).query(receivers.numpy(), k=list(range(1, k + 1)))
    source = torch.from_numpy(np.sort(index, axis=1)).flatten().long()
    return torch.stack((source, torch.arange(len(receivers)).repeat_interleave(k)))


def connected(edge_index: Tensor, num_senders: int, num_receivers: int) -> Tensor:
    """The same edges, if every sender and every receiver has one.

    Raises:
        ValueError: A node would be left out, as grid nodes are when the radius is too small.
    """
    for name, index, count in (
        ("sender", edge_index[0], num_senders),
        ("receiver", edge_index[1], num_receivers),
    ):
        left_out = count - int((torch.bincount(index, minlength=count) > 0).sum())
        if left_out:
            raise InputError(
                f"{left_out} of {count} {name} nodes have no edge;"
                " use a larger radius or a finer mesh"
            )
    return edge_index
