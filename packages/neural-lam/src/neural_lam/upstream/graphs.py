r"""Graphs of the upstream project: read and written.

Upstream (neural-lam 0.7) and weather-model-graphs keep a graph as a folder of ``*.pt`` files
(specification 0.1.0): edge indices counted from 0 in each set of nodes, edge features
:math:`(\lVert x_s - x_r \rVert, x_s - x_r)` and mesh positions in the grid's units. On reading,
edge features are divided by the longest edge within the mesh and positions by the larger
extent of the grid, as upstream does, so that its weights give the same forecasts. Older
folders without ``metainfo.yaml`` count all nodes through and hold scaled positions.

Nothing in a file is executed.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from neural_lam.graphs.graph import EdgeSet, Graph, sorted_edges
from neural_lam.shell.errors import InputError
from neural_lam.shell.writing import whole

__all__ = ["read_upstream_graph", "write_upstream_graph"]

SPECIFICATION = "0.1.0"


def _load(folder: Path, name: str) -> Any:
    path = folder / f"{name}.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a graph folder needs it") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: not a file of tensors ({reason})") from None


def _is_legacy(folder: Path) -> bool:
    path = folder / "metainfo.yaml"
    if not path.exists():
        return True
    content = yaml.safe_load(path.read_text())
    version = content.get("spec_version") if isinstance(content, dict) else None
    if version != SPECIFICATION:
        raise InputError(f"{path}: spec_version must be {SPECIFICATION!r}, got {version!r}")
    return False


def _zero_based(edge_index: Tensor) -> Tensor:
    return edge_index - edge_index.min(dim=1, keepdim=True).values


def _legacy_ends(g2m: Tensor, m2g: Tensor, num_mesh: int) -> tuple[Tensor, Tensor]:
    """Edges to and from the grid of a folder that counts all nodes through."""
    if bool(m2g[0].min() < m2g[1].min()):
        grid_first, mesh_first = num_mesh, 0
    else:
        # The grid comes first: as many nodes as the edges of the other set say.
        grid_first, mesh_first = 0, int(g2m[0].max()) + 1
        m2g_mesh_first = int(m2g[1].max()) + 1
        return (
            g2m - torch.tensor([[0], [mesh_first]]),
            m2g - torch.tensor([[m2g_mesh_first], [0]]),
        )
    return (
        g2m - torch.tensor([[grid_first], [mesh_first]]),
        m2g - torch.tensor([[mesh_first], [grid_first]]),
    )


class _Reader:
    """Edges of a folder, checked against the numbers of nodes."""

    def __init__(self, folder: Path, scale: float, numbered: Callable[[Tensor], Tensor]) -> None:
        self.folder, self.scale, self.numbered = folder, scale, numbered

    def edges(
        self, name: str, index: Tensor, features: Tensor, num_senders: int, num_receivers: int
    ) -> EdgeSet:
        path = self.folder / f"{name}_edge_index.pt"
        if index.dim() != 2 or index.shape[0] != 2 or index.shape[1] != len(features):
            raise InputError(
                f"{path}: expected (2, {len(features)}) for as many features,"
                f" got {tuple(index.shape)}"
            )
        for end, ids, count in (
            ("senders", index[0], num_senders),
            ("receivers", index[1], num_receivers),
        ):
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= count:
                raise InputError(f"{path}: {end} must be 0 to {count - 1}, got {low} to {high}")
        scaled = features / self.scale
        return sorted_edges(index.long(), scaled, num_senders, num_receivers)

    def between(self, name: str, senders: list[int], receivers: list[int]) -> tuple[EdgeSet, ...]:
        """Edges between levels of as many senders and receivers; none without a second level."""
        if not senders:
            return ()
        ends = _load(self.folder, f"{name}_edge_index")
        features = _load(self.folder, f"{name}_features")
        return tuple(
            self.edges(name, self.numbered(index), feature, *counts)
            for index, feature, *counts in zip(ends, features, senders, receivers, strict=True)
        )


def read_upstream_graph(folder: str | os.PathLike[str], grid: Tensor) -> Graph:
    """Read a graph that upstream or weather-model-graphs wrote.

    Arguments:
        folder: With files ``g2m_edge_index.pt`` and so on.
        grid: Positions of the grid nodes that it was made for, ``(G, 2)``.

    Raises:
        ValueError: A file is missing or damaged, or the graph belongs to another grid.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{place}: no such folder of a graph")
    legacy = _is_legacy(place)
    positions = [level.float() for level in _load(place, "mesh_features")]
    counts = [len(level) for level in positions]
    within, m2m_features = _load(place, "m2m_edge_index"), _load(place, "m2m_features")
    g2m, m2g = _load(place, "g2m_edge_index"), _load(place, "m2g_edge_index")
    if legacy:
        within = [_zero_based(edges) for edges in within]
        g2m, m2g = _legacy_ends(g2m, m2g, sum(counts))
    scale = max(float(features[:, 0].max()) for features in m2m_features)
    reader = _Reader(place, scale, _zero_based if legacy else Tensor.long)
    span = float((grid.amax(0) - grid.amin(0)).max())
    divisor = 1.0 if legacy or span == 0 else span
    return Graph(
        grid=grid.double(),
        mesh=tuple(level[:, :2].double() for level in positions),
        mesh_features=tuple(
            torch.cat((level[:, :2] / divisor, level[:, 2:]), dim=1) for level in positions
        ),
        g2m=reader.edges("g2m", g2m, _load(place, "g2m_features"), len(grid), counts[0]),
        m2g=reader.edges("m2g", m2g, _load(place, "m2g_features"), counts[0], len(grid)),
        m2m=tuple(
            reader.edges("m2m", edges, features, count, count)
            for edges, features, count in zip(within, m2m_features, counts, strict=True)
        ),
        up=reader.between("mesh_up", counts[:-1], counts[1:]),
        down=reader.between("mesh_down", counts[1:], counts[:-1]),
    )


def write_upstream_graph(graph: Graph, folder: str | os.PathLike[str]) -> None:
    """Write a planar graph as upstream reads it: a folder, whole or not at all.

    Raises:
        ValueError: The graph lies on the sphere, which the format doesn't know.
    """
    if graph.grid.shape[1] != 2:
        raise InputError("only graphs in the plane can be written for upstream")
    length = max(
        float((nodes[e.senders] - nodes[e.receivers]).norm(dim=1).max())
        for nodes, e in zip(graph.mesh, graph.m2m, strict=True)
    )
    units = length / max(float(e.features[:, 0].max()) for e in graph.m2m)
    named: dict[str, Any] = {"m2m": graph.m2m, "g2m": graph.g2m, "m2g": graph.m2g}
    if graph.up:
        named |= {"mesh_up": graph.up, "mesh_down": graph.down}
    with whole(folder) as partial:
        partial.mkdir()
        for name, sets in named.items():
            single = isinstance(sets, EdgeSet)
            several: list[EdgeSet] = [sets] if single else list(sets)
            contents = {
                "edge_index": [edges.edge_index for edges in several],
                "features": [edges.edge_features * units for edges in several],
            }
            for kind, content in contents.items():
                torch.save(content[0] if single else content, partial / f"{name}_{kind}.pt")
        torch.save([nodes.float() for nodes in graph.mesh], partial / "mesh_features.pt")
        (partial / "metainfo.yaml").write_text(f"spec_version: {SPECIFICATION}\n")
