r"""Graphs of rectangular, triangular and icosahedral meshes over a grid.

In the plane, edges have the features of `neural_lam.graphs.graph`. On the sphere, its features
are its length and the sender's position in a frame turned so that the receiver lies at
latitude and longitude 0 (Lam et al. 2023), in units of the longest edge of the mesh, and a
node's are the cosine of its latitude and the sine and cosine of its longitude.
"""

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neural_lam.graphs.connectivity import connected, containing_triangle, k_nearest, within_radius
from neural_lam.graphs.graph import EdgeSet, Graph, edge_set, sorted_edges
from neural_lam.graphs.mesh import (
    Mesh,
    containing_cell,
    icosahedral_levels,
    merge_levels,
    rectangular_levels,
    sphere_points,
    triangular_levels,
)
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = ["Grid", "Icosahedral", "MeshBuilder", "Rectangular", "Triangular", "sphere_edge_set"]


class Grid(NamedTuple):
    """Where the grid nodes are.

    Arguments:
        positions: In a plane, ``(G, 2)``, row by row.
        shape: Rows and columns.
        latitude: In degrees, ``(G,)``.
        longitude: Likewise.
    """

    positions: Tensor
    shape: tuple[int, int] | None = None
    latitude: Tensor | None = None
    longitude: Tensor | None = None

    def __str__(self) -> str:
        return in_a_line(self)


class MeshBuilder(ABC):
    """Makes the graph of a grid."""

    __str__ = in_a_line

    @abstractmethod
    def build(self, grid: Grid) -> Graph:
        """The graph of a grid.

        Raises:
            ValueError: A grid node would be left out, or sizes don't fit.
        """


def _reverse(edge_index: Tensor) -> Tensor:
    return edge_index.flip(0)


def _centred(nodes: Tensor, grid: Tensor) -> Tensor:
    """Positions from the grid's centre, in units of the grid's largest distance from it."""
    centre = grid.mean(0)
    return ((nodes - centre) / (grid - centre).abs().max()).float()


def _planar(grid: Tensor, levels: list[Mesh], g2m: Tensor, m2g: Tensor, up: list[Tensor]) -> Graph:
    scale = max(float(level.edge_lengths.max()) for level in levels)
    nodes = [level.positions for level in levels]
    pairs = list(zip(nodes[:-1], nodes[1:], up, strict=True))
    return Graph(
        grid=grid,
        mesh=tuple(nodes),
        mesh_features=tuple(_centred(positions, grid) for positions in nodes),
        g2m=edge_set(grid, nodes[0], g2m, scale),
        m2g=edge_set(nodes[0], grid, m2g, scale),
        m2m=tuple(
            edge_set(level.positions, level.positions, level.edge_index, scale) for level in levels
        ),
        up=tuple(edge_set(fine, coarse, edges, scale) for fine, coarse, edges in pairs),
        down=tuple(edge_set(coarse, fine, _reverse(edges), scale) for fine, coarse, edges in pairs),
    )


def _hierarchy(levels: list[Mesh]) -> tuple[list[Mesh], list[Tensor]]:
    """Levels of the graph, and edges up from each to the nearest node of the next."""
    if len(levels) < 2:
        raise InputError("a hierarchical mesh needs at least 2 levels, got 1")
    fine_and_coarse = itertools.pairwise(levels)
    return levels, [
        _reverse(k_nearest(coarse.positions, fine.positions, 1)) for fine, coarse in fine_and_coarse
    ]


@dataclass(frozen=True)
class Rectangular(MeshBuilder):
    """Rectangular meshes over a regular grid, multiscale or hierarchical.

    Arguments:
        refinement: Grid points a side of the block that one mesh node stands for.
        num_levels: Levels of the mesh; by default as many as fit.
        hierarchical: Whether levels stay separate, for Hi-LAM, and aren't merged into one.
        radius: Grid nodes within it send to a mesh node, in mesh spacings.
        num_nearest: How many mesh nodes send to a grid node; 0 for the corners of the mesh
            cell it lies in.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """

    refinement: int = 3
    num_levels: int | None = None
    hierarchical: bool = False
    radius: float = 0.67
    num_nearest: int = 4

    def build(self, grid: Grid) -> Graph:
        """The graph of a grid with rows and columns."""
        if grid.shape is None:
            raise InputError("a rectangular mesh needs a grid with rows and columns")
        if self.num_nearest < 0:
            raise InputError(f"num_nearest must be at least 0, got {self.num_nearest}")
        positions = grid.positions.double()
        found = rectangular_levels(
            positions, grid.shape, refinement=self.refinement, num_levels=self.num_levels
        )
        levels, up = _hierarchy(found) if self.hierarchical else ([merge_levels(found)], [])
        nodes, shape = levels[0].positions, found[0].shape
        assert shape is not None
        spacing = max(float((nodes[i] - nodes[0]).norm()) for i in (1, shape[1]))
        g2m = within_radius(positions, nodes, self.radius * spacing)
        if self.num_nearest:
            m2g = k_nearest(nodes, positions, min(self.num_nearest, len(nodes)))
        else:
            m2g = containing_cell(grid.shape, self.refinement)
        return _planar(positions, levels, connected(g2m, len(positions), len(nodes)), m2g, up)


@dataclass(frozen=True)
class Triangular(MeshBuilder):
    """Triangular meshes in the plane, multiscale or hierarchical.

    Arguments:
        spacing: Length of the edges of the finest level, in the grid's units.
        refinement: Edges of a level that one of the next coarser level is divided into.
        num_levels: Levels of the mesh.
        hierarchical: Whether levels stay separate, for Hi-LAM, and aren't merged into one.
        radius: Grid nodes within it send to a mesh node, in mesh spacings.
    """

    spacing: float
    refinement: int = 2
    num_levels: int = 1
    hierarchical: bool = False
    radius: float = 0.6

    def build(self, grid: Grid) -> Graph:
        """The graph of a grid of any form; grid nodes hear the triangle they lie in."""
        positions = grid.positions.double()
        found = triangular_levels(
            positions, self.spacing, refinement=self.refinement, num_levels=self.num_levels
        )
        levels, up = _hierarchy(found) if self.hierarchical else ([merge_levels(found)], [])
        nodes, triangles = levels[0].positions, found[0].triangles
        assert triangles is not None
        g2m = within_radius(positions, nodes, self.radius * self.spacing)
        m2g = containing_triangle(nodes, triangles, positions)
        return _planar(positions, levels, connected(g2m, len(positions)), m2g, up)


def _local_frame(points: Tensor, origins: Tensor) -> Tensor:
    """Points in frames that are turned so that each origin is at latitude and longitude 0."""
    x, y, z = origins.unbind(1)
    level = (x * x + y * y).sqrt()
    # At a pole the longitude is free; 0 is as good as any.
    safe = level.clamp(min=1e-300)
    cosine = torch.where(level > 0, x / safe, torch.ones_like(x))
    sine = torch.where(level > 0, y / safe, torch.zeros_like(y))
    px, py, pz = points.unbind(1)
    qx, qy = cosine * px + sine * py, cosine * py - sine * px
    return torch.stack((level * qx + z * pz, qy, level * pz - z * qx), dim=1)


def sphere_edge_set(
    senders: Tensor, receivers: Tensor, edge_index: Tensor, scale: float
) -> EdgeSet:
    """Edges on the sphere: length and sender in the receiver's frame, in units of ``scale``.

    Arguments:
        senders: Unit vectors, ``(S, 3)``.
        receivers: Unit vectors, ``(R, 3)``.
        edge_index: Sender and receiver of each edge, ``(2, E)``, in any order.
        scale: Length by which the features are divided.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """
    source, target = senders[edge_index[0]], receivers[edge_index[1]]
    relative = _local_frame(source, target) - _local_frame(target, target)
    features = torch.cat((relative.norm(dim=1, keepdim=True), relative), dim=1) / scale
    return sorted_edges(edge_index, features, len(senders), len(receivers))


def _sphere_features(points: Tensor) -> Tensor:
    level = points[:, :2].norm(dim=1)
    east = points[:, :2] / level.clamp(min=1e-12)[:, None]
    return torch.stack((level, east[:, 1], east[:, 0]), dim=1).float()


def _up_edges(fine: Mesh, coarse: Mesh) -> Tensor:
    """Edges up from every node to the ends of the coarse edge it halves, or to itself."""
    own = torch.stack((coarse.parents, torch.arange(len(coarse.positions))))
    inner = fine.edge_index[:, fine.edge_index[1] < len(coarse.positions)]
    return torch.cat((own, inner), dim=1)


def _needed(levels: list[Mesh], used: Tensor) -> list[Tensor]:
    """Which nodes of each level a grid needs, ``(N_l,)``.

    A level keeps what the finer one sends to; a finer level keeps all nodes of a coarser.

    Arguments:
        levels: Nested, the finest first; nodes of a level are the first of the finer one.
        used: Whether each node of the finest level has an edge to the grid, ``(N,)``.
    """
    keeps = [used.clone()]
    for fine, coarse in itertools.pairwise(levels):
        sender, receiver = _up_edges(fine, coarse)
        needed = torch.zeros(len(coarse.positions), dtype=torch.bool)
        needed[receiver[keeps[-1][sender]]] = True
        keeps.append(needed)
    for fine_keep, coarse_keep in reversed(list(itertools.pairwise(keeps))):
        fine_keep[: len(coarse_keep)] |= coarse_keep
    return keeps


def _restrict(level: Mesh, keep: Tensor) -> Mesh:
    number = keep.cumsum(0) - 1
    edges = level.edge_index[:, keep[level.edge_index].all(0)]
    assert level.triangles is not None
    triangles = level.triangles[keep[level.triangles].all(1)]
    return Mesh(
        level.positions[keep],
        number[edges],
        # Kept nodes of a level are the first of the kept nodes of the finer one.
        torch.arange(int(keep.sum())),
        triangles=number[triangles],
    )


@dataclass(frozen=True)
class Icosahedral(MeshBuilder):
    """Icosahedral meshes on the sphere, multiscale or hierarchical.

    The grid may be global or limited; of the mesh, what the grid doesn't need is left away.

    Arguments:
        splits: Of the finest level: ``10 * 4**splits + 2`` nodes on the whole sphere.
        num_levels: Levels of the mesh; by default down to the icosahedron itself.
        hierarchical: Whether levels stay separate, for Hi-LAM, and aren't merged into one.
        radius: Grid nodes within it send to a mesh node, in lengths of the longest edge of
            the finest level.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794. Keisler (2022), Forecasting global weather with graph neural networks,
        arXiv:2202.07575.
    """

    splits: int
    num_levels: int | None = None
    hierarchical: bool = False
    radius: float = 0.6

    def build(self, grid: Grid) -> Graph:
        """The graph of a grid with latitudes and longitudes."""
        if grid.latitude is None or grid.longitude is None:
            raise InputError("an icosahedral mesh needs a grid with latitudes and longitudes")
        points = sphere_points(grid.latitude, grid.longitude)
        levels = icosahedral_levels(self.splits, num_levels=self.num_levels)
        finest = levels[0]
        reach = self.radius * float(finest.edge_lengths.max())
        g2m = connected(within_radius(points, finest.positions, reach), len(points))
        assert finest.triangles is not None
        m2g = containing_triangle(finest.positions, finest.triangles, points)
        used = torch.zeros(len(finest.positions), dtype=torch.bool)
        used[g2m[1]] = used[m2g[0]] = True
        keeps = _needed(levels, used)
        levels = [_restrict(level, keep) for level, keep in zip(levels, keeps, strict=True)]
        number = keeps[0].cumsum(0) - 1
        g2m, m2g = torch.stack((g2m[0], number[g2m[1]])), torch.stack((number[m2g[0]], m2g[1]))
        return self._assemble(points, levels, g2m, m2g)

    def _assemble(self, points: Tensor, levels: list[Mesh], g2m: Tensor, m2g: Tensor) -> Graph:
        up = [_up_edges(*pair) for pair in itertools.pairwise(levels)]
        if not self.hierarchical:
            levels, up = [merge_levels(levels)], []
        elif not up:
            raise InputError("a hierarchical mesh needs at least 2 levels, got 1")
        nodes = [level.positions for level in levels]
        scale = max(float(level.edge_lengths.max()) for level in levels)
        pairs = list(zip(nodes[:-1], nodes[1:], up, strict=True))
        return Graph(
            grid=points,
            mesh=tuple(nodes),
            mesh_features=tuple(_sphere_features(positions) for positions in nodes),
            g2m=sphere_edge_set(points, nodes[0], g2m, scale),
            m2g=sphere_edge_set(nodes[0], points, m2g, scale),
            m2m=tuple(
                sphere_edge_set(at, at, level.edge_index, scale)
                for at, level in zip(nodes, levels, strict=True)
            ),
            up=tuple(sphere_edge_set(fine, coarse, edges, scale) for fine, coarse, edges in pairs),
            down=tuple(
                sphere_edge_set(coarse, fine, _reverse(edges), scale)
                for fine, coarse, edges in pairs
            ),
        )
