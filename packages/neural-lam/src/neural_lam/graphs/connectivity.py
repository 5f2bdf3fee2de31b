r"""Connectors: the edges from one set of nodes to another.

Each takes positions of senders ``(S, D)`` and receivers ``(R, D)`` and returns senders
and receivers of the edges, ``(2, E)``, sorted by receiver. Searches use a k-d tree, so
that their cost grows as :math:`N \log N`.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from neural_lam.shell.errors import InputError

__all__ = ["connected", "containing_triangle", "k_nearest", "within_radius"]


def by_receiver(edge_index: Tensor) -> Tensor:
    """The same edges, sorted by receiver and then by sender."""
    span = int(edge_index[0].max()) + 1 if edge_index.shape[1] else 1
    key = torch.sort(edge_index[1] * span + edge_index[0]).values
    return torch.stack((key % span, key.div(span, rounding_mode="floor")))


def within_radius(senders: Tensor, receivers: Tensor, radius: float) -> Tensor:
    """Edges from every sender to the receivers at most ``radius`` away.

    References:
        Bentley (1975), Multidimensional binary search trees used for associative searching,
        doi.org/10.1145/361002.361007.
    """
    if not radius > 0:
        raise InputError(f"radius must be positive, got {radius}")
    found = cKDTree(senders.numpy()).sparse_distance_matrix(
        cKDTree(receivers.numpy()), radius, output_type="ndarray"
    )
    return by_receiver(torch.from_numpy(np.stack((found["i"], found["j"])).astype(np.int64)))


def k_nearest(senders: Tensor, receivers: Tensor, k: int) -> Tensor:
    """Edges to every receiver from its ``k`` nearest senders."""
    if not 1 <= k <= len(senders):
        raise InputError(f"k must be between 1 and the {len(senders)} senders, got {k}")
    _, index = cKDTree(senders.numpy()).query(receivers.numpy(), k=list(range(1, k + 1)))
    source = torch.from_numpy(np.sort(index, axis=1)).flatten().long()
    return torch.stack((source, torch.arange(len(receivers)).repeat_interleave(k)))


def _homogeneous(points: Tensor) -> Tensor:
    """Rays to points of the plane at height 1; points of the sphere are rays already."""
    return (
        torch.cat((points, points.new_ones(len(points), 1)), 1) if points.shape[1] == 2 else points
    )


def containing_triangle(
    senders: Tensor, triangles: Tensor, receivers: Tensor, *, candidates: int = 12
) -> Tensor:
    """Edges to every receiver from the three vertices of the triangle that contains it.

    Works in the plane, ``D = 2``, and on the unit sphere, ``D = 3``, where a triangle is the
    cone over it. A receiver is in the triangle in which the smallest of its barycentric
    coordinates is largest, among those with the nearest centres.

    Arguments:
        senders: Vertices, ``(S, D)``.
        triangles: Their indices, ``(T, 3)``, all of one orientation.
        receivers: ``(R, D)``.
        candidates: Triangles to look at for each receiver.

    Raises:
        ValueError: A receiver lies outside all triangles.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """
    rays, points = _homogeneous(senders.double()), _homogeneous(receivers.double())
    centres = rays[triangles].mean(1)
    count = min(candidates, len(triangles))
    _, near = cKDTree(centres.numpy()).query(points.numpy(), k=list(range(1, count + 1)))
    a, b, c = rays[triangles].unbind(1)
    # Barycentric coordinates are volumes of the cones over the three parts.
    normals = torch.stack((b.cross(c, dim=1), c.cross(a, dim=1), a.cross(b, dim=1)), 1)
    volume = (normals[:, 0] * a).sum(1)
    chosen = torch.empty(len(points), dtype=torch.long)
    smallest = torch.empty(len(points), dtype=torch.float64)
    # Blocks bound the memory of the candidates.
    for rows in torch.split(torch.arange(len(points)), 200_000):
        index = torch.from_numpy(near)[rows]
        weights = torch.einsum("rtkd,rd->rtk", normals[index], points[rows])
        least = (weights / volume[index, None]).min(2).values
        best = least.max(1)
        smallest[rows] = best.values
        chosen[rows] = index.gather(1, best.indices[:, None])[:, 0]
    outside = int((smallest < -1e-9).sum())
    if outside:
        raise InputError(
            f"{outside} of {len(points)} receiver nodes lie outside the mesh; use a larger mesh"
        )
    source = triangles[chosen].sort(1).values.flatten()
    return torch.stack((source, torch.arange(len(points)).repeat_interleave(3)))


def connected(
    edge_index: Tensor, num_senders: int | None = None, num_receivers: int | None = None
) -> Tensor:
    """The same edges, if every sender and every receiver has one.

    Arguments:
        edge_index: ``(2, E)``.
        num_senders: Number of senders, where each must have an edge.
        num_receivers: Number of receivers, where each must have an edge.

    Raises:
        ValueError: A node would be left out, as grid nodes are when the radius is too small.
    """
    for name, index, count in (
        ("sender", edge_index[0], num_senders),
        ("receiver", edge_index[1], num_receivers),
    ):
        if count is None:
            continue
        left_out = count - int((torch.bincount(index, minlength=count) > 0).sum())
        if left_out:
            raise InputError(
                f"{left_out} of {count} {name} nodes have no edge;"
                " use a larger radius or a finer mesh"
            )
    return edge_index
