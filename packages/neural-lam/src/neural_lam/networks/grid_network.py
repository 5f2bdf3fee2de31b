r"""Graph networks that map the features of a grid to a field on it.

A network sees node-first tensors: features ``(G, B, F)`` to outputs ``(G, B, V)``. The
embeddings of the static graph don't depend on the state; `embed` computes them once and
every step of a rollout takes them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neural_lam.graphs.graph import EdgeSet, Graph
from neural_lam.networks.fused import Fusion
from neural_lam.networks.layers import (
    MLP,
    Edges,
    InteractionNet,
    PropagationNet,
    Static,
)
from neural_lam.networks.plain import SUMMED, EdgeRule
from neural_lam.shell.checks import counts
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "Codec",
    "Embedded",
    "GridNetwork",
    "Levels",
    "Width",
    "embedded",
    "make_width",
    "start_at_zero",
    "wide",
]


class GridNetwork(nn.Module, ABC):
    """A network from grid features to grid outputs."""

    __str__ = in_a_line

    @property
    def output_layer(self) -> nn.Module | None:
        """The last linear map, with a weight and a bias; nothing if there is no such."""
        return None

    @abstractmethod
    def embed(self) -> Any:
        """Embeddings of the static graph, for `forward`."""

    @abstractmethod
    def forward(self, features: Tensor, embedded: Any) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""


class Embedded(NamedTuple):
    """Embeddings of a static graph.

    Arguments:
        g2m: Of the edges from the grid to the mesh.
        m2g: Of the edges from the mesh to the grid.
        mesh: Of the nodes of each level, ``(N_l, D)``.
        m2m: Of the edges within each level.
        up: Of the edges from each level to the next coarser.
        down: Of the edges back.
    """

    g2m: Static
    m2g: Static
    mesh: list[Tensor]
    m2m: list[Static]
    up: list[Static]
    down: list[Static]


def start_at_zero(network: GridNetwork) -> None:
    """Make a network's output zero, so that training starts at what it corrects.

    References:
        Zhang et al. (2019), Fixup initialization: residual learning without normalization,
        arXiv:1901.09321.
    """
    layer: Any = network.output_layer
    if layer is not None:
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.zero_()


class Width(NamedTuple):
    """What all networks within a network share.

    Arguments:
        hidden_size: Features of all states.
        hidden_layers: Of each network.
        fusion: How to fuse; plain autograd without.
        propagate: Kinds of edges along which propagation networks pass messages.
    """

    hidden_size: int
    hidden_layers: int
    fusion: Fusion | None
    propagate: frozenset[str] = frozenset()

    def mlp(self, num_inputs: int, num_outputs: int | None = None) -> MLP:
        """A network to hidden states, or to outputs without normalisation."""
        d = self.hidden_size
        return MLP(
            num_inputs,
            d,
            num_outputs or d,
            hidden_layers=self.hidden_layers,
            norm=nn.LayerNorm if num_outputs is None else None,
            fusion=self.fusion,
        )

    def net(
        self,
        edges: Any,
        kind: str,
        rule: EdgeRule = SUMMED,
    ) -> InteractionNet | PropagationNet:
        """Message passing along edges of a kind: ``g2m``, ``m2m``, ``up``, ``down`` or ``m2g``."""
        options: dict[str, Any] = {
            "hidden_layers": self.hidden_layers,
            "rule": rule,
            "fusion": self.fusion,
        }
        if kind in self.propagate:
            return PropagationNet(edges, self.hidden_size, **options)
        return InteractionNet(edges, self.hidden_size, **options)


class Codec(nn.Module):
    """From grid features to the finest level of a mesh, and back to grid outputs.

    Arguments:
        graph: Grid, mesh and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        width: Of the networks.

    References:
        Battaglia et al. (2018), Relational inductive biases, deep learning, and graph networks,
        arXiv:1806.01261.
    """

    def __init__(self, graph: Graph, num_inputs: int, num_outputs: int, width: Width) -> None:
        super().__init__()
        d = width.hidden_size
        self.g2m, self.m2g = Edges(graph.g2m), Edges(graph.m2g)
        self.grid_embedder = width.mlp(num_inputs)
        self.g2m_embedder = width.mlp(graph.g2m.features.shape[1])
        self.m2g_embedder = width.mlp(graph.m2g.features.shape[1])
        self.encoder = width.net(self.g2m, "g2m", EdgeRule(update=False))
        self.grid_mlp = width.mlp(d)
        self.decoder = width.net(self.m2g, "m2g", EdgeRule(update=False))
        self.output_map = width.mlp(d, num_outputs)

    def embed(self) -> tuple[Static, Static]:
        """Embeddings of the edges to the mesh and back."""
        return (
            self.encoder.project(self.g2m_embedder(self.g2m.features)),
            self.decoder.project(self.m2g_embedder(self.m2g.features)),
        )

    def encode(self, features: Tensor, mesh: Tensor, g2m: Static) -> tuple[Tensor, Tensor]:
        """States of the grid ``(G, B, D)`` and of the mesh ``(N, B, D)``."""
        grid = self.grid_embedder(features)
        mesh, _ = self.encoder(grid, mesh, g2m)
        return self.grid_mlp(grid, residual=grid), mesh

    def decode(self, grid: Tensor, mesh: Tensor, m2g: Static) -> Tensor:
        """Outputs ``(G, B, V)`` from the states of grid and mesh."""
        grid, _ = self.decoder(mesh, grid, m2g)
        output: Tensor = self.output_map(grid)
        return output


class Levels(nn.Module):
    """Nodes and edges of a mesh, and their embeddings.

    Arguments:
        graph: Grid, mesh and edges.
        width: Of the networks.
    """

    def __init__(self, graph: Graph, width: Width) -> None:
        super().__init__()
        for level, features in enumerate(graph.mesh_features):
            self.register_buffer(f"features_{level}", features, persistent=False)
        self.m2m, self.up, self.down = (
            nn.ModuleList(Edges(edges) for edges in sets)
            for sets in (graph.m2m, graph.up, graph.down)
        )
        self.mesh_embedders = nn.ModuleList(width.mlp(f.shape[1]) for f in graph.mesh_features)
        self.m2m_embedders, self.up_embedders, self.down_embedders = (
            _embedders(sets, width) for sets in (graph.m2m, graph.up, graph.down)
        )

    def embed(
        self,
        m2m_nets: Iterable[nn.Module],
        up_nets: Iterable[nn.Module] = (),
        down_nets: Iterable[nn.Module] = (),
    ) -> tuple[list[Tensor], list[Static], list[Static], list[Static]]:
        """Embedded nodes and edges, projected for the nets that see the edges first."""
        mesh = [
            embedder(getattr(self, f"features_{level}"))
            for level, embedder in enumerate(self.mesh_embedders)
        ]
        return (
            mesh,
            _project(self.m2m_embedders, self.m2m, m2m_nets),
            _project(self.up_embedders, self.up, up_nets),
            _project(self.down_embedders, self.down, down_nets),
        )


def _embedders(sets: Iterable[EdgeSet], width: Width) -> nn.ModuleList:
    return nn.ModuleList(width.mlp(edges.features.shape[1]) for edges in sets)


def _project(
    embedders: Iterable[nn.Module], sets: Iterable[nn.Module], nets: Iterable[nn.Module]
) -> list[Static]:
    return [
        net.project(embedder(edges.features))  # type: ignore[operator]
        for embedder, edges, net in zip(embedders, sets, nets, strict=True)
    ]


def embedded(ends: tuple[Static, Static], levels: Any) -> Embedded:
    """Embeddings of a codec's edges and of the levels between."""
    return Embedded(*ends, *levels)


def wide(mesh: list[Tensor], batch: int) -> list[Tensor]:
    """States of the levels, ``(N_l, D)``, the same for each of a batch: ``(N_l, B, D)``."""
    return [state.unsqueeze(1).expand(-1, batch, -1) for state in mesh]


def make_width(
    num_layers: int,
    hidden_size: int,
    hidden_layers: int,
    how: Fusion | None,
    propagate: Sequence[str] = (),
    kinds: Sequence[str] = ("g2m", "m2g"),
) -> Width:
    """Sizes of a network of layers, checked.

    Arguments:
        num_layers: Of the network.
        hidden_size: Features of all states.
        hidden_layers: Of each network.
        how: How to fuse; plain autograd without.
        propagate: Kinds of edges with propagation networks.
        kinds: Kinds that may have them.
    """
    counts(num_layers=num_layers, hidden_size=hidden_size)
    unknown = set(propagate) - set(kinds)
    if unknown:
        raise InputError(f"propagate must be among {', '.join(kinds)}, got {unknown.pop()!r}")
    return Width(hidden_size, hidden_layers, how, frozenset(propagate))
