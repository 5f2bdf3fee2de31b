"""Sweeps over the levels of a hierarchy of meshes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import Levels, Width
from neural_lam.shell.errors import InputError

__all__ = ["KINDS", "EdgeStates", "Hierarchy", "check_levels"]

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
            width.net(edges, "down", update_edges=False) for edges in levels.down
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
