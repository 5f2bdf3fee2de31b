r"""Message passing between the points of the grid itself, before and after a mesh.

A mesh has one node for several grid points, so that a network on it alone can't form what depends
on neighbouring points: gradients, and with them advection. Here gated blocks work on the grid
before the mesh and after it,

.. math:: h \leftarrow \mathrm{blocks}(A * x), \qquad h \leftarrow h + \mathrm{mesh}(h), \qquad
    y = C * \mathrm{blocks}(h),

where :math:`*` passes messages along same-grid edges, from the eight neighbours and the node
itself, with weights by the edge's offset: a 3 x 3 convolution on rows and columns
(`neural_lam.networks.convolutional`), sums over edges on points in any order
(`neural_lam.networks.point_stencil`). The weights are the same in both.

References:
    Lam et al. (2023), GraphCast, arXiv:2212.12794; Dauphin et al. (2017), Language modeling with
    gated convolutional networks, arXiv:1612.08083.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from neural_lam.graphs.graph import Graph
from neural_lam.networks.convolutional import (
    Convolution,
    GatedBlock,
    Padding,
    bounded,
    from_image,
    to_image,
)
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.networks.grid_network import GridNetwork, start_at_zero
from neural_lam.networks.point_stencil import PointStencil
from neural_lam.shell.checks import counts

__all__ = ["FullResolution"]


class FullResolution(GridNetwork):
    """Gated blocks at the grid's own resolution around a network on a mesh.

    Arguments:
        graph: Grid, mesh and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        network: On the mesh, made from the graph and its numbers of inputs and outputs.
        hidden_size: Features of a grid node within.
        num_blocks: Blocks on the grid, before the mesh and again after it.

    References:
        Pfaff et al. (2021), Learning mesh-based simulation with graph networks, arXiv:2010.03409.
    """

    def __init__(
        self,
        graph: Graph,
        num_inputs: int,
        num_outputs: int,
        network: Callable[[Graph, int, int], GridNetwork] = GraphLAM,
        hidden_size: int = 24,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        counts(hidden_size=hidden_size, num_blocks=num_blocks)
        self.shape = graph.shape or (len(graph.grid), 1)
        near = PointStencil(graph.grid) if graph.shape is None else Padding(graph.wraps)
        self.stem = Convolution(num_inputs, hidden_size, near)
        self.before, self.after = (
            nn.Sequential(*(GatedBlock(hidden_size, near) for _ in range(num_blocks)))
            for _ in range(2)
        )
        self.mesh = network(graph, hidden_size, hidden_size)
        start_at_zero(self.mesh)
        self.head = Convolution(hidden_size, num_outputs, near)

    @property
    def output_layer(self) -> nn.Module:
        """The last convolution."""
        return self.head.convolution

    def embed(self) -> Any:
        """What the network on the mesh embeds."""
        return self.mesh.embed()

    def forward(self, features: Tensor, embedded: Any) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        hidden = self.before(self.stem(to_image(features, self.shape)))
        from_mesh = self.mesh(from_image(hidden), embedded)
        hidden = self.after(hidden + to_image(from_mesh, self.shape))
        return from_image(bounded(self.head(hidden)))
