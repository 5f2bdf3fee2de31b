"""Encode-process-decode on a flat or multiscale mesh."""

from torch import Tensor, nn

from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import (
    Codec,
    Embedded,
    GridNetwork,
    Levels,
    embedded,
    make_width,
    wide,
)
from neural_lam.networks.layers import Save, fusion
from neural_lam.networks.plain import EdgeRule
from neural_lam.shell.errors import InputError

__all__ = ["GraphLAM"]


class GraphLAM(GridNetwork):
    """Encode-process-decode on a flat or multiscale mesh.

    Arguments:
        graph: Grid, mesh and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        hidden_size: Features of all states within.
        num_layers: Interaction networks on the mesh, each with its own weights.
        hidden_layers: Of all networks within.
        average: Whether messages on the mesh are averaged and not summed.
        propagate: Edges along which propagation networks pass messages: ``g2m``, ``m2g``.
        fused: Whether layers are fused; the same function in plain autograd if not.
        save: What fused layers keep for the backward pass: ``nothing`` needs the least memory.

    References:
        Lam et al. (2023), GraphCast; Oskarsson et al. (2023), Graph-based neural weather
        prediction for limited area modeling.
    """

    def __init__(
        self,
        graph: Graph,
        num_inputs: int,
        num_outputs: int,
        hidden_size: int = 64,
        num_layers: int = 4,
        hidden_layers: int = 1,
        average: bool = False,
        propagate: list[str] | None = None,
        fused: bool = True,
        save: Save = "activations",
    ) -> None:
        super().__init__()
        how = fusion(save) if fused else None
        width = make_width(num_layers, hidden_size, hidden_layers, how, propagate or ())
        if len(graph.m2m) != 1:
            raise InputError(
                f"GraphLAM needs a flat mesh, got one of {len(graph.m2m)} levels: use HiLAM"
            )
        self.codec = Codec(graph, num_inputs, num_outputs, width)
        self.levels = Levels(graph, width)
        # The edges' state after the last layer would never be read.
        self.processor = nn.ModuleList(
            width.net(
                self.levels.m2m[0], "m2m", EdgeRule(update=layer < num_layers - 1, average=average)
            )
            for layer in range(num_layers)
        )

    @property
    def output_layer(self) -> nn.Module:
        """The last linear map."""
        return self.codec.output_map.linear[-1]

    def embed(self) -> Embedded:
        """Embeddings of the mesh nodes and of the three sets of edges."""
        return embedded(self.codec.embed(), self.levels.embed(self.processor[:1]))

    def forward(self, features: Tensor, static: Embedded) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh, edges = wide(static.mesh, features.shape[1])[0], static.m2m[0]
        grid, mesh = self.codec.encode(features, mesh, static.g2m)
        for layer in self.processor:
            mesh, edges = layer(mesh, mesh, edges)
        return self.codec.decode(grid, mesh, static.m2g)
