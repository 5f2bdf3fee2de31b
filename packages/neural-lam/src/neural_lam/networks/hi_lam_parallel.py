"""Encode-process-decode on a hierarchy of meshes, all levels at once."""

from typing import Any

from torch import Tensor, nn

from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import (
    Codec,
    Embedded,
    GridNetwork,
    Levels,
    Width,
    embedded,
    make_width,
    wide,
)
from neural_lam.networks.hi_lam import KINDS, EdgeStates, Hierarchy, check_levels
from neural_lam.networks.layers import Messages, Save, fusion
from neural_lam.networks.plain import EdgeRule

__all__ = ["HiLAMParallel"]


class _ParallelLayer(nn.Module):
    """One interaction network on all levels at once, with weights for each set of edges.

    Arguments:
        levels: Of the mesh.
        width: Of the networks.
        rule: For edges within levels and up, whose states nothing reads after the last layer.
    """

    def __init__(self, levels: Levels, width: Width, rule: EdgeRule) -> None:
        super().__init__()
        sets = [*levels.m2m, *levels.up, *levels.down]
        rules = [rule] * (len(sets) - len(levels.down)) + [EdgeRule()] * len(levels.down)
        self.messages = nn.ModuleList(
            Messages(
                edges,
                width.hidden_size,
                hidden_layers=width.hidden_layers,
                rule=one,
                fusion=width.fusion,
            )
            for edges, one in zip(sets, rules, strict=True)
        )
        self.node_mlps = nn.ModuleList(width.mlp(2 * width.hidden_size) for _ in levels.m2m)
        count = len(levels.m2m)
        within = [(level, level) for level in range(count)]
        up = [(level, level + 1) for level in range(count - 1)]
        self.ends = [*within, *up, *[(coarse, fine) for fine, coarse in up]]

    def forward(self, mesh: list[Tensor], edges: EdgeStates) -> tuple[list[Tensor], EdgeStates]:
        """New states of all levels and of all sets of edges."""
        totals: list[Any] = [0] * len(mesh)
        updated = []
        for net, state, (sender, receiver) in zip(self.messages, edges, self.ends, strict=True):
            total, new_state = net(mesh[sender], mesh[receiver], state)
            totals[receiver] = totals[receiver] + total
            updated.append(new_state)
        nodes = [
            mlp(state, total, state)
            for mlp, state, total in zip(self.node_mlps, mesh, totals, strict=True)
        ]
        return nodes, updated


class HiLAMParallel(GridNetwork):
    """Encode-process-decode on a hierarchy of meshes, all sets of edges at once.

    As Hi-LAM, but every layer passes messages within all levels, up and down together.

    Arguments:
        graph: Grid, hierarchy of meshes and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        hidden_size: Features of all states within.
        num_layers: Layers on the hierarchy.
        hidden_layers: Of all networks within.
        propagate: Edges along which propagation networks pass messages: ``g2m``, ``up``,
            ``down``, ``m2g``.
        fused: Whether layers are fused; the same function in plain autograd if not.
        save: What fused layers keep for the backward pass: ``nothing`` needs the least memory.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area
        modeling.
    """

    def __init__(
        self,
        graph: Graph,
        num_inputs: int,
        num_outputs: int,
        hidden_size: int = 64,
        num_layers: int = 4,
        hidden_layers: int = 1,
        propagate: list[str] | None = None,
        fused: bool = True,
        save: Save = "activations",
    ) -> None:
        super().__init__()
        how = fusion(save) if fused else None
        width = make_width(num_layers, hidden_size, hidden_layers, how, propagate or (), KINDS)
        check_levels("HiLAMParallel", graph)
        self.codec = Codec(graph, num_inputs, num_outputs, width)
        self.levels = Levels(graph, width)
        self.hierarchy = Hierarchy(self.levels, width)
        self.processor = nn.ModuleList(
            _ParallelLayer(self.levels, width, EdgeRule(update=layer < num_layers - 1))
            for layer in range(num_layers)
        )

    @property
    def output_layer(self) -> nn.Module:
        """The last linear map."""
        return self.codec.output_map.linear[-1]

    def embed(self) -> Embedded:
        """Embeddings of the nodes of all levels and of all sets of edges."""
        first: Any = self.processor[0]
        messages, count = list(first.messages), len(self.levels.m2m)
        nets = messages[:count], self.hierarchy.initial, messages[2 * count - 1 :]
        return embedded(self.codec.embed(), self.levels.embed(*nets))

    def forward(self, features: Tensor, static: Embedded) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh = wide(static.mesh, features.shape[1])
        grid, mesh[0] = self.codec.encode(features, mesh[0], static.g2m)
        mesh, up = self.hierarchy.up(mesh, static.up)
        edges = [*static.m2m, *up, *static.down]
        for layer in self.processor:
            mesh, edges = layer(mesh, edges)
        down = edges[-len(static.down) :]
        return self.codec.decode(grid, self.hierarchy.down(mesh, down), static.m2g)
