r"""The graph of an encode-process-decode forecaster.

Grid nodes send to mesh nodes (``g2m``), mesh nodes of a level to each other (``m2m``), to the
next coarser level (``up``) and back (``down``), and those of the finest level to the grid
(``m2g``). A flat or multiscale mesh has one level. In the plane, an edge from :math:`s` to
:math:`r` has the features :math:`(\lVert x_s - x_r \rVert, x_s - x_r)` in units of the longest
edge within the mesh. On a regular grid they repeat, so each set of edges keeps its distinct
rows once, with an index.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line
from neural_lam.shell.writing import whole

__all__ = [
    "EdgeSet",
    "Graph",
    "edge_set",
    "feature_rows",
    "graph_from_dict",
    "graph_to_dict",
    "read_graph",
    "sorted_edges",
    "write_graph",
]


_CHUNK = 32_768


class EdgeSet(NamedTuple):
    """Edges from one set of nodes to another, sorted by receiver.

    Arguments:
        senders: ``(E,)``.
        receivers: ``(E,)``, ascending.
        features: The distinct rows of the static features, ``(U, F)``.
        row: Row of ``features`` that belongs to each edge, ``(E,)``.
        num_senders: Number of sending nodes.
        num_receivers: Number of receiving nodes.
    """

    senders: Tensor
    receivers: Tensor
    features: Tensor
    row: Tensor
    num_senders: int
    num_receivers: int

    @property
    def edge_index(self) -> Tensor:
        """Senders and receivers, ``(2, E)``."""
        return torch.stack((self.senders, self.receivers))

    @property
    def edge_features(self) -> Tensor:
        """Features of every edge, ``(E, F)``."""
        return self.features[self.row]

    def __str__(self) -> str:
        return in_a_line(self)


class Graph(NamedTuple):
    """A grid, a mesh of one or more levels, and the edges within and between them.

    Arguments:
        grid: Positions of the grid nodes, ``(G, D)``.
        mesh: Positions of the nodes of each level, the finest first, ``(N_l, D)``.
        mesh_features: Their static features, ``(N_l, F)``.
        g2m: Edges from the grid to the finest level.
        m2g: Edges from the finest level to the grid.
        m2m: Edges within each level.
        up: Edges from each level to the next coarser.
        down: Edges back.
        shape: Rows and columns of the grid, if it has them.
        wraps: Whether the grid's last column is followed by its first.
    """

    grid: Tensor
    mesh: tuple[Tensor, ...]
    mesh_features: tuple[Tensor, ...]
    g2m: EdgeSet
    m2g: EdgeSet
    m2m: tuple[EdgeSet, ...]
    up: tuple[EdgeSet, ...]
    down: tuple[EdgeSet, ...]
    shape: tuple[int, int] | None = None
    wraps: bool = False

    def __repr__(self) -> str:
        kinds = {"g2m": [self.g2m], "m2m": self.m2m, "up": self.up, "down": self.down}
        kinds["m2g"] = [self.m2g]
        edges = [
            f"{name} {' + '.join(str(len(found.senders)) for found in sets)}"
            for name, sets in kinds.items()
            if sets
        ]
        levels = " + ".join(str(len(positions)) for positions in self.mesh)
        return f"Graph({len(self.grid)} grid nodes, {levels} mesh nodes; edges {', '.join(edges)})"


def _keys(features: Tensor) -> Tensor:
    """One integer a row: equal for rows that agree to 1e-6, different for others but by chance."""
    cells = torch.round(features.double() * 1e6).long()
    multipliers = torch.tensor([0x9E3779B97F4A7C1, 0x1F3D5B79A2C4E69, 0x2545F4914F6CDD1, 1])
    count = features.shape[1]
    return (cells * multipliers.repeat(-(-count // 4))[:count]).sum(1)


def _parts(count: int) -> list[slice]:
    """Slices of rows that stay in the cache: larger temporaries make the cost superlinear."""
    return [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]


def _numbered(features: Tensor) -> tuple[Tensor, int]:
    """Number of the key of each row, and how many keys there are."""
    found = [
        torch.unique(_keys(features[part]), return_inverse=True) for part in _parts(len(features))
    ]
    distinct = torch.unique(torch.cat([keys for keys, _ in found]))
    return torch.cat([torch.searchsorted(distinct, keys)[row] for keys, row in found]), len(
        distinct
    )


def feature_rows(features: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows of features ``(E, F)`` and the row of each edge.

    Rows equal to 1e-6 are one. Where few repeat, every edge keeps a row of its own.
    """
    every = torch.arange(len(features))
    if not len(features):
        return features.float(), every
    row, count = _numbered(features)
    if count > 0.7 * len(features):
        return features.float(), every
    first = torch.full((count,), len(features)).scatter_reduce_(0, row, every, "amin")
    distinct = features[first]
    for part in _parts(len(features)):
        if bool(((distinct[row[part]] - features[part]).abs() > 2e-6).any()):
            # Two different rows met in one key.
            return features.float(), every
    return distinct.float(), row


def sorted_edges(
    edge_index: Tensor, features: Tensor, num_senders: int, num_receivers: int
) -> EdgeSet:
    """Edges ``(2, E)`` with features ``(E, F)``, sorted by receiver, distinct rows once."""
    if not bool((edge_index[1, 1:] >= edge_index[1, :-1]).all()):
        order = torch.argsort(edge_index[1], stable=True)
        edge_index, features = edge_index[:, order], features[order]
    distinct, row = feature_rows(features)
    source, target = edge_index.contiguous()
    return EdgeSet(source, target, distinct, row, num_senders, num_receivers)


def edge_set(senders: Tensor, receivers: Tensor, edge_index: Tensor, scale: float) -> EdgeSet:
    """Edges in the plane with their features, distinct rows once.

    Arguments:
        senders: Positions, ``(S, D)``.
        receivers: Positions, ``(R, D)``.
        edge_index: Sender and receiver of each edge, ``(2, E)``, in any order.
        scale: Length by which the features are divided.
    """
    source, target = edge_index
    features = senders.new_empty(len(source), senders.shape[1] + 1)
    for part in _parts(len(source)):
        sender, receiver = senders[source[part]], receivers[target[part]]
        features[part, 1:] = (sender - receiver) / scale
        features[part, 0] = features[part, 1:].norm(dim=1)
    return sorted_edges(edge_index, features, len(senders), len(receivers))


def _take_apart(value: Any) -> Any:
    if isinstance(value, EdgeSet):
        return value._asdict()
    if isinstance(value, tuple):
        return [_take_apart(part) for part in value]
    return value


def _put_together(value: Any) -> Any:
    if isinstance(value, dict):
        return EdgeSet(**value)
    if isinstance(value, Sequence):
        return tuple(_put_together(part) for part in value)
    return value


def graph_to_dict(graph: Graph) -> dict[str, Any]:
    """A graph as plain containers of tensors, as checkpoints hold it."""
    return {name: _take_apart(value) for name, value in graph._asdict().items()}


def graph_from_dict(content: dict[str, Any]) -> Graph:
    """The graph that `graph_to_dict` took apart."""
    return Graph(**{name: _put_together(value) for name, value in content.items()})


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph, whole or not at all."""
    with whole(path) as partial:
        torch.save(graph_to_dict(graph), partial)


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
