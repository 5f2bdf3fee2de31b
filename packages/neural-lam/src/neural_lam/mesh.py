r"""Meshes: the nodes between which a graph network passes its messages.

A rectangular mesh lies over a regular grid of :math:`n_x \times n_y` points: one node
for every block of :math:`r \times r` grid points, at a grid point, and edges in both
directions between the eight neighbours of a node. Its levels repeat this on the mesh
itself, so that level :math:`l` has one node for about :math:`r^{2(l+1)}` grid points and
its nodes are nodes of all finer levels. A multiscale mesh has the nodes of the finest
level and the edges of all (Lam et al. 2023; Oskarsson et al. 2023).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from neural_lam.configuration import InputError

__all__ = ["Mesh", "lattice_edges", "merge_levels", "rectangular_levels"]


class Mesh(NamedTuple):
    """Nodes and the edges between them.

    Arguments:
        positions: ``(N, D)``.
        edge_index: Senders and receivers, ``(2, E)``.
        shape: Nodes along each axis of the lattice.
        parents: For each node its index in the next finer level, ``(N,)``.
    """

    positions: Tensor
    edge_index: Tensor
    shape: tuple[int, int]
    parents: Tensor


def lattice_edges(shape: tuple[int, int]) -> Tensor:
    """Edges in both directions between the eight neighbours of a lattice, ``(2, E)``.

    Nodes count row by row: node ``(i, j)`` of ``shape`` is ``i * shape[1] + j``.
    """
    index = torch.arange(shape[0] * shape[1]).reshape(shape)
    right = torch.stack((index[:, :-1].flatten(), index[:, 1:].flatten()))
    down = torch.stack((index[:-1].flatten(), index[1:].flatten()))
    diagonal = torch.stack((index[:-1, :-1].flatten(), index[1:, 1:].flatten()))
    anti = torch.stack((index[:-1, 1:].flatten(), index[1:, :-1].flatten()))
    one_way = torch.cat((right, down, diagonal, anti), dim=1)
    return torch.cat((one_way, one_way.flip(0)), dim=1)


def _every(num_points: int, refinement: int) -> Tensor:
    """Indices of the points in the middle of blocks of ``refinement``, the cover centred."""
    num_nodes = -(-num_points // refinement)
    first = (num_points - 1 - refinement * (num_nodes - 1)) // 2
    return (first + refinement * torch.arange(num_nodes)).clamp(0, num_points - 1)


def _coarsen(positions: Tensor, shape: tuple[int, int], refinement: int) -> Mesh:
    rows, columns = _every(shape[0], refinement), _every(shape[1], refinement)
    parents = (rows[:, None] * shape[1] + columns[None, :]).flatten()
    coarse = (len(rows), len(columns))
    return Mesh(positions[parents], lattice_edges(coarse), coarse, parents)


def rectangular_levels(
    positions: Tensor, shape: tuple[int, int], *, refinement: int = 3, num_levels: int | None = None
) -> list[Mesh]:
    """Levels of rectangular meshes over a regular grid, the finest first.

    Arguments:
        positions: Of the grid points, row by row, ``(shape[0] * shape[1], D)``.
        shape: Rows and columns of the grid, of any size.
        refinement: Grid points a side of the block that one node stands for.
        num_levels: How many levels; by default as many as have two nodes a side.

    Raises:
        ValueError: If a level would have fewer than two nodes along an axis.
    """
    if refinement < 2:
        raise InputError(f"refinement must be at least 2, got {refinement}")
    if positions.shape[0] != shape[0] * shape[1]:
        raise InputError(f"expected {shape[0] * shape[1]} positions, got {positions.shape[0]}")
    if num_levels is not None and num_levels < 1:
        raise InputError(f"num_levels must be at least 1, got {num_levels}")
    levels: list[Mesh] = []
    while num_levels is None or len(levels) < num_levels:
        level = _coarsen(positions, shape, refinement)
        if min(level.shape) < 2:
            break
        levels.append(level)
        positions, shape = level.positions, level.shape
    if len(levels) < (num_levels or 1):
        raise InputError(
            f"level {len(levels) + 1} needs at least two nodes along each axis:"
            f" the one below has {shape[0]} x {shape[1]} points; use fewer levels"
        )
    return levels


def merge_levels(levels: list[Mesh]) -> Mesh:
    """A multiscale mesh: the nodes of the finest level, the edges of all levels."""
    edges = [levels[0].edge_index]
    to_finest = torch.arange(len(levels[0].positions))
    for level in levels[1:]:
        to_finest = to_finest[level.parents]
        edges.append(to_finest[level.edge_index])
    return levels[0]._replace(edge_index=torch.cat(edges, dim=1))
