r"""The graph of an encode-process-decode forecaster.

Grid nodes send to mesh nodes (``g2m``), mesh nodes to each other (``m2m``) and back to the
grid (``m2g``). An edge from :math:`s` to :math:`r` has the features
:math:`(\lVert x_s - x_r \rVert, x_s - x_r)` in units of the longest mesh edge. On a regular
grid they repeat, so each set of edges keeps its distinct rows once, with an index.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_lam.configuration import InputError
from neural_lam.connectivity import connected, k_nearest, within_radius
from neural_lam.mesh import merge_levels, rectangular_levels

__all__ = ["EdgeSet", "Graph", "edge_set", "read_graph", "rectangular_graph", "write_graph"]


class EdgeSet(NamedTuple):
    """Edges from one set of nodes to another, sorted by receiver.

    Arguments:
        senders: ``(E,)``.
        receivers: ``(E,)``, ascending.
        features: The distinct rows of the static features, ``(U, F)``.
        row: Row of ``features`` that belongs to each edge, ``(E,)``.
        num_receivers: Number of receiving nodes.
    """

    senders: Tensor
    receivers: Tensor
    features: Tensor
    row: Tensor
    num_receivers: int


class Graph(NamedTuple):
    """A grid, a mesh, and the edges within and between them.

    Arguments:
        grid: Positions of the grid nodes, ``(G, D)``.
        mesh: Positions of the mesh nodes, ``(N, D)``.
        g2m: Edges from the grid to the mesh.
        m2m: Edges within the mesh.
        m2g: Edges from the mesh to the grid.
    """

    grid: Tensor
    mesh: Tensor
    g2m: EdgeSet
    m2m: EdgeSet
    m2g: EdgeSet

    @property
    def mesh_features(self) -> Tensor:
        """Positions of the mesh nodes, centred and divided by the largest, ``(N, D)``."""
        centred = self.mesh - self.grid.mean(0)
        return (centred / centred.abs().max()).float()


def edge_set(senders: Tensor, receivers: Tensor, edge_index: Tensor, scale: float) -> EdgeSet:
    """Edges with their features, distinct rows once.

    Arguments:
        senders: Positions, ``(S, D)``.
        receivers: Positions, ``(R, D)``.
        edge_index: Sender and receiver of each edge, ``(2, E)``, in any order.
        scale: Length by which the features are divided.
    """
    source, target = edge_index[:, torch.argsort(edge_index[1], stable=True)]
    difference = (senders[source] - receivers[target]) / scale
    features = torch.cat((difference.norm(dim=1, keepdim=True), difference), dim=1)
    # Distances equal up to rounding are one row: 1e-6 of the longest mesh edge.
    distinct, row = torch.unique(torch.round(features * 1e6), dim=0, return_inverse=True)
    return EdgeSet(source, target, (distinct * 1e-6).float(), row, len(receivers))


def rectangular_graph(
    positions: Tensor,
    shape: tuple[int, int],
    *,
    refinement: int = 3,
    num_levels: int | None = None,
    radius: float = 0.67,
    num_nearest: int = 4,
) -> Graph:
    """Graph of a multiscale rectangular mesh over a regular grid.

    Arguments:
        positions: Of the grid nodes, row by row, ``(shape[0] * shape[1], 2)``.
        shape: Rows and columns of the grid.
        refinement: Grid points a side of the block that one mesh node stands for.
        num_levels: Levels of the mesh; by default as many as fit.
        radius: Grid nodes within it send to a mesh node, in mesh spacings.
        num_nearest: How many mesh nodes send to a grid node.

    Raises:
        ValueError: A grid node is left out, or the sizes don't fit.
    """
    positions = positions.double()
    levels = rectangular_levels(positions, shape, refinement=refinement, num_levels=num_levels)
    mesh = merge_levels(levels)
    nodes = mesh.positions
    spacing = max(
        float((nodes[1] - nodes[0]).norm()), float((nodes[levels[0].shape[1]] - nodes[0]).norm())
    )
    longest = float((nodes[mesh.edge_index[0]] - nodes[mesh.edge_index[1]]).norm(dim=1).max())
    g2m = within_radius(positions, nodes, radius * spacing)
    m2g = k_nearest(nodes, positions, min(num_nearest, len(nodes)))
    return Graph(
        grid=positions,
        mesh=nodes,
        g2m=edge_set(positions, nodes, connected(g2m, len(positions), len(nodes)), longest),
        m2m=edge_set(nodes, nodes, mesh.edge_index, longest),
        m2g=edge_set(nodes, positions, m2g, longest),
    )


def graph_to_dict(graph: Graph) -> dict[str, Any]:
    """A graph as plain containers of tensors, as checkpoints hold it."""
    return {
        name: value._asdict() if isinstance(value, EdgeSet) else value
        for name, value in graph._asdict().items()
    }


def graph_from_dict(content: dict[str, Any]) -> Graph:
    """The graph that `graph_to_dict` took apart."""
    fields: dict[str, Any] = {
        name: EdgeSet(**value) if isinstance(value, dict) else value
        for name, value in content.items()
    }
    return Graph(**fields)


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph, whole or not at all."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    partial = f"{os.fspath(path)}.part"
    torch.save(graph_to_dict(graph), partial)
    os.replace(partial, path)


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a graph; nothing in the file is executed.

    Raises:
        ValueError: The file is no graph.
    """
    try:
        return graph_from_dict(torch.load(path, weights_only=True))
    except FileNotFoundError:
        raise InputError(f"{os.fspath(path)}: no such graph file") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{os.fspath(path)}: not a graph file ({reason})") from None
