"""Graphs as PyTorch Geometric sees them; needs the extra ``neural-lam[pyg]``.

Node types are ``grid`` and ``mesh_0``, ``mesh_1``, ..., the finest level first; edge types are
``g2m``, ``m2g``, ``within``, ``up`` and ``down``. Nodes have ``pos``, those of the mesh their
static features ``x``; edges have ``edge_index`` and ``edge_attr``.
"""

from typing import TYPE_CHECKING, Any

import torch

from neural_lam.graphs.graph import EdgeSet, Graph, sorted_edges
from neural_lam.shell.errors import InputError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

__all__ = ["from_pyg", "to_pyg"]


def _edge_types(num_levels: int) -> dict[tuple[str, int], tuple[str, str, str]]:
    """Edge type of each field of a graph, by its name and level."""
    types = {("g2m", 0): ("grid", "g2m", "mesh_0"), ("m2g", 0): ("mesh_0", "m2g", "grid")}
    for level in range(num_levels):
        types["m2m", level] = (f"mesh_{level}", "within", f"mesh_{level}")
    for low in range(num_levels - 1):
        types["up", low] = (f"mesh_{low}", "up", f"mesh_{low + 1}")
        types["down", low] = (f"mesh_{low + 1}", "down", f"mesh_{low}")
    return types


def to_pyg(graph: Graph) -> "HeteroData":
    """A graph as a heterogeneous graph of PyTorch Geometric.

    Raises:
        ValueError: PyTorch Geometric isn't installed.

    References:
        Fey & Lenssen (2019), Fast graph representation learning with PyTorch Geometric,
        arXiv:1903.02428.
    """
    try:
        from torch_geometric.data import HeteroData
    except ImportError:
        raise InputError("to_pyg needs torch-geometric: install neural-lam[pyg]") from None
    data = HeteroData()
    data["grid"].pos = graph.grid
    for level, positions in enumerate(graph.mesh):
        data[f"mesh_{level}"].pos = positions
        data[f"mesh_{level}"].x = graph.mesh_features[level]
    for (name, level), kind in _edge_types(len(graph.mesh)).items():
        found = getattr(graph, name)
        edges = found if isinstance(found, EdgeSet) else found[level]
        data[kind].edge_index, data[kind].edge_attr = edges.edge_index, edges.edge_features
    return data


def from_pyg(data: "HeteroData") -> Graph:
    """The graph of a heterogeneous graph with the types of this module.

    Raises:
        ValueError: A type of nodes or edges is missing.
    """
    num_levels = sum(kind.startswith("mesh_") for kind in data.node_types)
    types = _edge_types(num_levels)
    missing = [kind for kind in types.values() if kind not in data.edge_types]
    if not num_levels or missing or "grid" not in data.node_types:
        wanted = missing[0] if missing and num_levels else "grid and mesh_0"
        raise InputError(f"the graph needs nodes or edges of type {wanted}")
    counts = {kind: len(data[kind].pos) for kind in data.node_types}
    sets: dict[str, list[EdgeSet]] = {"up": [], "down": []}
    for (name, _), kind in types.items():
        edges = data[kind]
        sender, _, receiver = kind
        sets.setdefault(name, []).append(
            sorted_edges(edges.edge_index, edges.edge_attr, counts[sender], counts[receiver])
        )
    levels = [data[f"mesh_{level}"] for level in range(num_levels)]
    several: dict[str, Any] = {name: tuple(sets[name]) for name in ("m2m", "up", "down")}
    return Graph(
        grid=data["grid"].pos,
        mesh=tuple(level.pos for level in levels),
        mesh_features=tuple(level.x.to(torch.get_default_dtype()) for level in levels),
        g2m=sets["g2m"][0],
        m2g=sets["m2g"][0],
        **several,
    )
