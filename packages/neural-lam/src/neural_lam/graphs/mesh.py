r"""Meshes: the nodes between which a graph network passes its messages.

A *rectangular* mesh lies over a regular grid of :math:`n_x \times n_y` points: one node
for every block of :math:`r \times r` grid points, at a grid point, and edges in both
directions between the eight neighbours of a node. Its levels repeat this on the mesh
itself, so that level :math:`l` has one node for about :math:`r^{2(l+1)}` grid points and
its nodes are nodes of all finer levels (Lam et al. 2023; Oskarsson et al. 2023).

A *triangular* mesh has its nodes on a lattice of equilateral triangles; every level divides
the triangles of the next coarser one into :math:`r^2`. An *icosahedral* mesh divides the
faces of an icosahedron on the unit sphere into four again and again.

A multiscale mesh has the nodes of the finest level and the edges of all.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neural_lam.shell.errors import InputError

__all__ = [
    "Mesh",
    "containing_cell",
    "icosahedral_levels",
    "lattice_edges",
    "merge_levels",
    "rectangular_levels",
    "sphere_points",
    "triangular_levels",
]


class Mesh(NamedTuple):
    """Nodes and the edges between them.

    Arguments:
        positions: ``(N, D)``.
        edge_index: Senders and receivers, ``(2, E)``.
        parents: For each node its index in the next finer level, ``(N,)``.
        shape: Nodes along each axis of a lattice.
        triangles: Nodes of each triangle, ``(T, 3)``.
    """

    positions: Tensor
    edge_index: Tensor
    parents: Tensor
    shape: tuple[int, int] | None = None
    triangles: Tensor | None = None

    @property
    def edge_lengths(self) -> Tensor:
        """Length of each edge, ``(E,)``."""
        sender, receiver = self.positions[self.edge_index]
        lengths: Tensor = torch.linalg.vector_norm(sender - receiver, dim=1)
        return lengths


def both_ways(edges: Tensor) -> Tensor:
    """Edges ``(2, E)`` and their reverses."""
    return torch.cat((edges, edges.flip(0)), dim=1)


def lattice_edges(shape: tuple[int, int]) -> Tensor:
    """Edges in both directions between the eight neighbours of a lattice, ``(2, E)``.

    Nodes count row by row: node ``(i, j)`` of ``shape`` is ``i * shape[1] + j``.
    """
    index = torch.arange(shape[0] * shape[1]).reshape(shape)
    right = torch.stack((index[:, :-1].flatten(), index[:, 1:].flatten()))
    down = torch.stack((index[:-1].flatten(), index[1:].flatten()))
    diagonal = torch.stack((index[:-1, :-1].flatten(), index[1:, 1:].flatten()))
    anti = torch.stack((index[:-1, 1:].flatten(), index[1:, :-1].flatten()))
    return both_ways(torch.cat((right, down, diagonal, anti), dim=1))


def _every(num_points: int, refinement: int) -> Tensor:
    """Indices of the points in the middle of blocks of ``refinement``, the cover centred."""
    num_nodes = -(-num_points // refinement)
    first = (num_points - 1 - refinement * (num_nodes - 1)) // 2
    return (first + refinement * torch.arange(num_nodes)).clamp(0, num_points - 1)


def _coarsen(positions: Tensor, shape: tuple[int, int], refinement: int) -> Mesh:
    rows, columns = _every(shape[0], refinement), _every(shape[1], refinement)
    parents = (rows[:, None] * shape[1] + columns[None, :]).flatten()
    coarse = (len(rows), len(columns))
    return Mesh(positions[parents], lattice_edges(coarse), parents, coarse)


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

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
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
        assert level.shape is not None
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


def containing_cell(shape: tuple[int, int], refinement: int) -> Tensor:
    """Edges to every grid point from the corners of the mesh cell it lies in, ``(2, 4 G)``.

    Points outside all cells, at most half a cell, take the nearest one.

    Arguments:
        shape: Rows and columns of the grid.
        refinement: Of the rectangular mesh.
    """
    corners, sizes = [], []
    for count in shape:
        nodes = _every(count, refinement)
        low = torch.searchsorted(nodes, torch.arange(count), right=True) - 1
        low = low.clamp(0, len(nodes) - 2)
        corners.append(torch.stack((low, low + 1), dim=1))
        sizes.append(len(nodes))
    rows, columns = corners
    cells = rows[:, None, :, None] * sizes[1] + columns[None, :, None, :]
    source = cells.reshape(-1)
    return torch.stack((source, torch.arange(shape[0] * shape[1]).repeat_interleave(4)))


def _triangular_lattice(
    origin: Tensor, spacing: float, shape: tuple[int, int], period: int
) -> Mesh:
    """Rows of equally many nodes, shifted right for ``period`` rows and left for as many."""
    rows, columns = shape
    row = torch.arange(rows)
    place = row % (2 * period)
    left = torch.minimum(place, 2 * period - place).double() / 2
    x = left[:, None] + torch.arange(columns).double()
    y = (math.sqrt(3) / 2) * row.double()
    positions = torch.stack((x, y[:, None].expand_as(x)), -1).reshape(-1, 2) * spacing + origin
    index = torch.arange(rows * columns).reshape(shape)
    low_l, low_r, high_l, high_r = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    # Where the row above is shifted to the right, its left node is over the middle of an edge.
    to_right = (place[:-1] < period)[:, None].expand_as(low_l)
    diagonal = torch.where(to_right, low_r, low_l), torch.where(to_right, high_l, high_r)
    along = torch.stack((index[:, :-1].flatten(), index[:, 1:].flatten()))
    across = torch.stack((index[:-1].flatten(), index[1:].flatten()))
    slanted = torch.stack([end.flatten() for end in diagonal])
    lower = torch.stack((low_l, low_r, torch.where(to_right, high_l, high_r)), -1)
    upper = torch.stack((torch.where(to_right, low_r, low_l), high_r, high_l), -1)
    return Mesh(
        positions,
        both_ways(torch.cat((along, across, slanted), dim=1)),
        torch.empty(0, dtype=torch.long),
        shape,
        torch.cat((lower.reshape(-1, 3), upper.reshape(-1, 3))),
    )


def triangular_levels(
    positions: Tensor, spacing: float, *, refinement: int = 2, num_levels: int = 1
) -> list[Mesh]:
    """Levels of triangular meshes that cover points of the plane, the finest first.

    Arguments:
        positions: Points to cover, ``(G, 2)``.
        spacing: Length of the edges of the finest level.
        refinement: Edges of a level that one of the next coarser level is divided into.
        num_levels: How many levels.

    Raises:
        ValueError: Sizes that make no mesh.
    """
    if not spacing > 0:
        raise InputError(f"spacing must be positive, got {spacing}")
    if refinement < 2:
        raise InputError(f"refinement must be at least 2, got {refinement}")
    if num_levels < 1:
        raise InputError(f"num_levels must be at least 1, got {num_levels}")
    low, high = positions.double().amin(0), positions.double().amax(0)
    coarsest = spacing * refinement ** (num_levels - 1)
    width, height = (high - low).tolist()
    columns = max(1, math.ceil(width / coarsest + 0.5))
    rows = max(1, math.ceil(height / (coarsest * math.sqrt(3) / 2)))
    # The left and right edges are zigzags half a coarse edge wide; centre what is left over.
    extent = torch.tensor([columns + 0.5, rows * math.sqrt(3) / 2]).double() * coarsest
    origin = (low + high - extent) / 2
    levels = []
    for level in range(num_levels):
        period = refinement ** (num_levels - 1 - level)
        shape = (rows * period + 1, columns * period + 1)
        mesh = _triangular_lattice(origin, coarsest / period, shape, period)
        if level:
            fine_columns = columns * period * refinement + 1
            index = torch.arange(len(mesh.positions))
            row, column = index.div(shape[1], rounding_mode="floor"), index % shape[1]
            mesh = mesh._replace(parents=refinement * (row * fine_columns + column))
        levels.append(mesh)
    return levels


def sphere_points(latitude: Tensor, longitude: Tensor) -> Tensor:
    """Points of the unit sphere at coordinates in degrees, ``(N, 3)``."""
    phi, lam = torch.deg2rad(latitude.double()), torch.deg2rad(longitude.double())
    return torch.stack((phi.cos() * lam.cos(), phi.cos() * lam.sin(), phi.sin()), dim=1)


def _icosahedron() -> tuple[Tensor, Tensor]:
    """Vertices, two of them at the poles, and faces that turn to the left seen from outside."""
    ring = torch.arange(5).double() * 2 * math.pi / 5
    height = 1 / math.sqrt(5)
    radius = 2 * height
    upper = torch.stack((radius * ring.cos(), radius * ring.sin(), ring.new_full((5,), height)), 1)
    shifted = ring + math.pi / 5
    lower = torch.stack(
        (radius * shifted.cos(), radius * shifted.sin(), ring.new_full((5,), -height)), 1
    )
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]).double()
    vertices = torch.cat((poles[:1], upper, lower, poles[1:]))
    here = torch.arange(5)
    after = (here + 1) % 5
    u, v, w, x = here + 1, after + 1, here + 6, after + 6
    faces = torch.stack(
        (
            torch.stack((torch.zeros_like(u), u, v), 1),
            torch.stack((u, w, v), 1),
            torch.stack((v, w, x), 1),
            torch.stack((torch.full_like(w, 11), x, w), 1),
        )
    )
    return vertices, faces.reshape(-1, 3)


def _split(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Every face in four; old vertices keep their numbers."""
    a, b, c = faces.unbind(1)
    sides = torch.stack((torch.stack((a, b), 1), torch.stack((b, c), 1), torch.stack((c, a), 1)))
    ends, which = torch.unique(sides.reshape(-1, 2).sort(1).values, dim=0, return_inverse=True)
    middle = vertices[ends].sum(1)
    vertices = torch.cat((vertices, middle / middle.norm(dim=1, keepdim=True)))
    ab, bc, ca = (which + (len(vertices) - len(ends))).reshape(3, -1)
    parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return vertices, torch.cat([torch.stack(part, 1) for part in parts])


def icosahedral_levels(splits: int, *, num_levels: int | None = None) -> list[Mesh]:
    r"""Levels of icosahedral meshes on the unit sphere, the finest first.

    After :math:`k` splits a mesh has :math:`10 \cdot 4^k + 2` nodes, the first of which are
    the nodes of the coarser levels.

    Arguments:
        splits: Of the finest level.
        num_levels: How many levels; by default down to the icosahedron itself.

    Raises:
        ValueError: There are not so many levels.

    References:
        Baumgardner & Frederickson (1985), Icosahedral discretization of the two-sphere,
        doi.org/10.1137/0722066.
    """
    if splits < 0:
        raise InputError(f"splits must be at least 0, got {splits}")
    count = splits + 1 if num_levels is None else num_levels
    if not 1 <= count <= splits + 1:
        raise InputError(f"num_levels must be from 1 to splits + 1 = {splits + 1}, got {count}")
    vertices, faces = _icosahedron()
    levels: list[Mesh] = []
    for split in range(splits + 1):
        if split:
            vertices, faces = _split(vertices, faces)
        # Every edge belongs to two faces, once in each direction.
        edges = torch.cat([faces[:, [i, (i + 1) % 3]].T for i in range(3)], dim=1)
        levels.insert(0, Mesh(vertices, edges, torch.arange(len(vertices)), triangles=faces))
    return levels[:count]


def merge_levels(levels: list[Mesh]) -> Mesh:
    """A multiscale mesh: the nodes of the finest level, the edges of all levels.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """
    edges = [levels[0].edge_index]
    to_finest = torch.arange(len(levels[0].positions))
    for level in levels[1:]:
        to_finest = to_finest[level.parents]
        edges.append(to_finest[level.edge_index])
    return levels[0]._replace(edge_index=torch.cat(edges, dim=1))
