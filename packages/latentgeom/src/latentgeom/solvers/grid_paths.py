r"""Shortest paths on a grid of coordinates, where a curve has lost its way.

Between walls and ridges of a map the descent from a straight line takes very long, or ends
beside the point.  In two or three coordinates a grid whose first axis goes through both ends
shows the way: its edges, to all neighbours up to a knight's move, are as long as their images
by way of their middles.

References:
    Dijkstra (1959), A Note on Two Problems in Connexion with Graphs.
"""

from itertools import product
from math import gcd
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from latentgeom.immersions.immersion import Immersion
from latentgeom.relaxation.curves import resample
from latentgeom.relaxation.samples import completed

__all__ = ["grid_paths", "has_grid"]


class _Grid(NamedTuple):
    """Steps between the ends, beyond each of them, to either side, and of an edge."""

    between: int
    beyond: int
    aside: int
    reach: int

    def shape(self, dim: int) -> tuple[int, ...]:
        """Nodes along each axis."""
        return (self.between + 2 * self.beyond + 1, *[2 * self.aside + 1] * (dim - 1))


_GRIDS = {2: _Grid(24, 12, 20, 2), 3: _Grid(12, 5, 8, 1)}


def has_grid(immersion: Immersion) -> bool:
    """Whether a grid of the coordinates is small enough to be searched."""
    return immersion.dim in _GRIDS and immersion.num_coordinates == immersion.dim


def _edges(dim: int, reach: int) -> list[tuple[int, ...]]:
    """Steps of the edges: one of each pair of opposite ones, none a multiple of another."""
    steps = product(range(-reach, reach + 1), repeat=dim)
    return [step for step in steps if step > (0,) * dim and gcd(*step) == 1]


def _ends(shape: tuple[int, ...], step: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the nodes that an edge's step joins."""
    number = np.arange(np.prod(shape)).reshape(shape)
    first = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, shape, strict=True))
    second = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, shape, strict=True))
    return number[first].ravel(), number[second].ravel()


def _nodes(a: Tensor, b: Tensor, grid: _Grid) -> Tensor:
    """Coordinates of the grid's nodes, ``(*shape, d)``."""
    step = torch.linalg.vector_norm(b - a) / grid.between
    axes = completed(b - a) * step
    ranges = [torch.arange(-grid.beyond, grid.between + grid.beyond + 1, device=a.device)]
    ranges += [torch.arange(-grid.aside, grid.aside + 1, device=a.device)] * (len(a) - 1)
    places = torch.stack(torch.meshgrid(*ranges, indexing="ij"), -1).to(a)
    nodes: Tensor = a + places @ axes.mT
    return nodes


def _path(immersion: Immersion, a: Tensor, b: Tensor, grid: _Grid) -> Tensor:
    """Coordinates along the shortest path from ``a`` to ``b``, ``(K, d)``."""
    nodes = _nodes(a, b, grid)
    shape = tuple(nodes.shape[:-1])
    flat = nodes.flatten(0, -2)
    image = immersion.embed(flat)
    rows, columns, lengths = [], [], []
    for step in _edges(len(a), grid.reach):
        first, second = _ends(shape, step)
        middle = immersion.embed((flat[first] + flat[second]) / 2)
        ways = (torch.linalg.vector_norm(image[end] - middle, dim=-1) for end in (first, second))
        rows.append(first)
        columns.append(second)
        lengths.append(sum(ways).double().cpu().numpy())
    entries = np.nan_to_num(np.concatenate(lengths), nan=np.inf)
    where = (np.concatenate(rows), np.concatenate(columns))
    graph = csr_matrix((entries, where), shape=2 * (len(flat),))
    middle_row = np.array([grid.aside] * (len(a) - 1), dtype=int)
    start, end = (
        int(np.ravel_multi_index((first, *middle_row), shape))
        for first in (grid.beyond, grid.beyond + grid.between)
    )
    options = {"directed": False, "indices": start, "return_predecessors": True}
    previous = dijkstra(graph, **options)[1]  # type: ignore[call-overload]
    path = [end]
    while previous[path[-1]] >= 0:
        path.append(int(previous[path[-1]]))
    if path[-1] != start:
        return torch.stack([a, b])
    return torch.cat([a[None], flat[path[-2:0:-1]], b[None]])


def grid_paths(immersion: Immersion, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    """Shortest paths between pairs on grids of their own, ``(B, num_segments + 1, d)``.

    Arguments:
        immersion: Map with plain coordinates, two or three.
        a: Start points, ``(B, d)``.
        b: End points, ``(B, d)``.
        num_segments: Segments of the answer, equal steps along the path.
    """
    grid = _GRIDS[immersion.dim]
    paths = [_path(immersion, *pair, grid) for pair in zip(a, b, strict=True)]
    return torch.stack([resample(path, num_segments) for path in paths])
