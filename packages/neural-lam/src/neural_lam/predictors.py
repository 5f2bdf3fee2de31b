r"""Graph networks that map the features of a grid to a field on it.

A network sees node-first tensors: features ``(G, B, F)`` to outputs ``(G, B, V)``. The
embeddings of the static graph don't depend on the state; `embed` computes them once and
every step of a rollout takes them.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from neural_lam.graph import Graph
from neural_lam.layers import MLP, Edges, InteractionNet

__all__ = ["GraphLAM", "GridNetwork"]


class GridNetwork(nn.Module, ABC):
    """A network from grid features to grid outputs."""

    @abstractmethod
    def embed(self) -> Any:
        """Embeddings of the static graph, for `forward`."""

    @abstractmethod
    def forward(self, features: Tensor, embedded: Any) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""


class GraphLAM(GridNetwork):
    """Encode-process-decode on a flat or multiscale mesh.

    Arguments:
        graph: Grid, mesh and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        hidden_size: Features of all states within.
        num_layers: Interaction networks on the mesh, each with its own weights.

    References:
        Lam et al. (2023), GraphCast; Oskarsson et al. (2023), Graph-based neural weather
        prediction for limited area modeling.
    """

    mesh_features: Tensor

    def __init__(
        self,
        graph: Graph,
        num_inputs: int,
        num_outputs: int,
        hidden_size: int = 64,
        num_layers: int = 4,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.register_buffer("mesh_features", graph.mesh_features, persistent=False)
        self.g2m, self.m2m, self.m2g = Edges(graph.g2m), Edges(graph.m2m), Edges(graph.m2g)
        num_edge_features = graph.m2m.features.shape[1]
        d = hidden_size
        self.grid_embedder = MLP(num_inputs, d, d)
        self.mesh_embedder = MLP(graph.mesh_features.shape[1], d, d)
        self.g2m_embedder = MLP(num_edge_features, d, d)
        self.m2m_embedder = MLP(num_edge_features, d, d)
        self.m2g_embedder = MLP(num_edge_features, d, d)
        self.encoder = InteractionNet(self.g2m, d, update_edges=False)
        self.grid_mlp = MLP(d, d, d)
        # The edges' state after the last layer would never be read.
        self.processor = nn.ModuleList(
            InteractionNet(self.m2m, d, update_edges=layer < num_layers - 1)
            for layer in range(num_layers)
        )
        self.decoder = InteractionNet(self.m2g, d, update_edges=False)
        self.output_map = MLP(d, d, num_outputs, normalise=False)

    def embed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings of the mesh nodes and of the three sets of edges."""
        return (
            self.mesh_embedder(self.mesh_features),
            self.g2m_embedder(self.g2m.features),
            self.m2m_embedder(self.m2m.features),
            self.m2g_embedder(self.m2g.features),
        )

    def forward(self, features: Tensor, embedded: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh, g2m, edges, m2g = embedded
        grid = self.grid_embedder(features)
        mesh = mesh.unsqueeze(1).expand(-1, features.shape[1], -1)
        mesh, _ = self.encoder(grid, mesh, g2m)
        grid = grid + self.grid_mlp(grid)
        for layer in self.processor:
            mesh, edges = layer(mesh, mesh, edges)
        grid, _ = self.decoder(mesh, grid, m2g)
        output: Tensor = self.output_map(grid)
        return output
