"""Encode-process-decode on a hierarchy of meshes, level by level."""

from collections.abc import Sequence
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
from neural_lam.networks.layers import Save, fusion
from neural_lam.networks.plain import EdgeRule
from neural_lam.shell.errors import InputError

__all__ = ["KINDS", "EdgeStates", "HiLAM", "Hierarchy", "check_levels"]

EdgeStates = list[Any]
# Edges that may have propagation networks.
KINDS = ("g2m", "up", "down", "m2g")


class Hierarchy(nn.Module):
    """Sweeps over the levels of a mesh, up before and down after a processor.

    Arguments:
        levels: Of at least two meshes.
        width: Of the networks.
    """

    def __init__(self, levels: Levels, width: Width) -> None:
        super().__init__()
        self.initial = nn.ModuleList(width.net(edges, "up") for edges in levels.up)
        self.read_out = nn.ModuleList(
            width.net(edges, "down", EdgeRule(update=False)) for edges in levels.down
        )

    def up(self, mesh: list[Tensor], up: Sequence[Any]) -> tuple[list[Tensor], EdgeStates]:
        """States of all levels and of the edges up, from the encoded finest level."""
        states, edges = [mesh[0]], []
        for net, level, edge_state in zip(self.initial, mesh[1:], up, strict=True):
            state, new_edges = net(states[-1], level, edge_state)
            states.append(state)
            edges.append(new_edges)
        return states, edges

    def down(self, mesh: list[Tensor], down: Sequence[Any]) -> Tensor:
        """State of the finest level, from all."""
        state = mesh[-1]
        nets = zip(reversed(list(self.read_out)), mesh[-2::-1], reversed(down), strict=True)
        for net, level, edge_state in nets:
            state, _ = net(state, level, edge_state)
        return state


def check_levels(name: str, graph: Graph) -> None:
    """Refuse a mesh of one level."""
    if len(graph.m2m) < 2:
        raise InputError(f"{name} needs a mesh of at least 2 levels, got one: use GraphLAM")


class _Sweep(nn.Module):
    """One layer of Hi-LAM: down through the levels and up again, with steps within each.

    Arguments:
        levels: Of the mesh.
        width: Of the networks.
        rule: For edges within levels and up, whose states nothing reads after the last layer.
    """

    def __init__(self, levels: Levels, width: Width, rule: EdgeRule) -> None:
        super().__init__()
        self.down = nn.ModuleList(width.net(edges, "down") for edges in levels.down)
        self.within_down = nn.ModuleList(width.net(edges, "m2m") for edges in levels.m2m)
        self.up = nn.ModuleList(width.net(edges, "up", rule) for edges in levels.up)
        self.within_up = nn.ModuleList(width.net(edges, "m2m", rule) for edges in levels.m2m)

    def forward(
        self, mesh: list[Tensor], same: EdgeStates, up: EdgeStates, down: EdgeStates
    ) -> tuple[list[Tensor], EdgeStates, EdgeStates, EdgeStates]:
        """New states of the levels and of the edges within, up and down."""
        mesh, same, up, down = list(mesh), list(same), list(up), list(down)
        levels = range(len(mesh))
        for level in reversed(levels):
            if level + 1 < len(mesh):
                mesh[level], down[level] = self.down[level](
                    mesh[level + 1], mesh[level], down[level]
                )
            mesh[level], same[level] = self.within_down[level](
                mesh[level], mesh[level], same[level]
            )
        for level in levels:
            if level:
                mesh[level], up[level - 1] = self.up[level - 1](
                    mesh[level - 1], mesh[level], up[level - 1]
                )
            mesh[level], same[level] = self.within_up[level](mesh[level], mesh[level], same[level])
        return mesh, same, up, down


class HiLAM(GridNetwork):
    """Encode-process-decode on a hierarchy of meshes, sweeping down and up.

    A sweep up brings the encoded state to all levels. Every layer then sweeps down and up,
    with a step within each level, and a last sweep down brings the result to the finest
    level. Weights are separate by level, direction and layer.

    Arguments:
        graph: Grid, hierarchy of meshes and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        hidden_size: Features of all states within.
        num_layers: Sweeps down and up.
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
        check_levels("HiLAM", graph)
        self.codec = Codec(graph, num_inputs, num_outputs, width)
        self.levels = Levels(graph, width)
        self.hierarchy = Hierarchy(self.levels, width)
        self.processor = nn.ModuleList(
            _Sweep(self.levels, width, EdgeRule(update=layer < num_layers - 1))
            for layer in range(num_layers)
        )

    @property
    def output_layer(self) -> nn.Module:
        """The last linear map."""
        return self.codec.output_map.linear[-1]

    def embed(self) -> Embedded:
        """Embeddings of the nodes of all levels and of all sets of edges."""
        first: Any = self.processor[0]
        nets = first.within_down, self.hierarchy.initial, first.down
        return embedded(self.codec.embed(), self.levels.embed(*nets))

    def forward(self, features: Tensor, static: Embedded) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh = wide(static.mesh, features.shape[1])
        grid, mesh[0] = self.codec.encode(features, mesh[0], static.g2m)
        mesh, up = self.hierarchy.up(mesh, static.up)
        same: EdgeStates = [*static.m2m]
        down: EdgeStates = [*static.down]
        for sweep in self.processor:
            mesh, same, up, down = sweep(mesh, same, up, down)
        return self.codec.decode(grid, self.hierarchy.down(mesh, down), static.m2g)
