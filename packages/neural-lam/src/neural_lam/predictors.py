r"""Graph networks that map the features of a grid to a field on it.

A network sees node-first tensors: features ``(G, B, F)`` to outputs ``(G, B, V)``. The
embeddings of the static graph don't depend on the state; `embed` computes them once and
every step of a rollout takes them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from neural_lam.configuration import InputError
from neural_lam.fused import Fusion
from neural_lam.graph import EdgeSet, Graph
from neural_lam.layers import (
    MLP,
    Edges,
    InteractionNet,
    Messages,
    PropagationNet,
    Save,
    Static,
    fusion,
)

__all__ = ["Embedded", "GraphLAM", "GridNetwork", "HiLAM", "HiLAMParallel"]


class GridNetwork(nn.Module, ABC):
    """A network from grid features to grid outputs."""

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


class Width(NamedTuple):
    """What all networks within a network share.

    Arguments:
        hidden_size: Features of all states.
        hidden_layers: Of each network.
        fusion: How to fuse; plain autograd without.
    """

    hidden_size: int
    hidden_layers: int
    fusion: Fusion | None

    def mlp(self, num_inputs: int, num_outputs: int | None = None) -> MLP:
        """A network to hidden states, or to outputs without normalisation."""
        d = self.hidden_size
        return MLP(
            num_inputs,
            d,
            num_outputs or d,
            hidden_layers=self.hidden_layers,
            normalise=num_outputs is None,
            fusion=self.fusion,
        )

    def net(
        self,
        edges: Any,
        *,
        propagate: bool = False,
        update_edges: bool = True,
        average: bool = False,
    ) -> InteractionNet | PropagationNet:
        """Message passing along edges."""
        options: dict[str, Any] = {
            "hidden_layers": self.hidden_layers,
            "update_edges": update_edges,
            "fusion": self.fusion,
        }
        if propagate:
            return PropagationNet(edges, self.hidden_size, **options)
        return InteractionNet(edges, self.hidden_size, average=average, **options)


class Codec(nn.Module):
    """From grid features to the finest level of a mesh, and back to grid outputs.

    Arguments:
        graph: Grid, mesh and edges.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        width: Of the networks.
        propagate: Whether encoder and decoder are propagation networks.
    """

    def __init__(
        self, graph: Graph, num_inputs: int, num_outputs: int, width: Width, propagate: bool
    ) -> None:
        super().__init__()
        d = width.hidden_size
        self.g2m, self.m2g = Edges(graph.g2m), Edges(graph.m2g)
        self.grid_embedder = width.mlp(num_inputs)
        self.g2m_embedder = width.mlp(graph.g2m.features.shape[1])
        self.m2g_embedder = width.mlp(graph.m2g.features.shape[1])
        self.encoder = width.net(self.g2m, propagate=propagate, update_edges=False)
        self.grid_mlp = width.mlp(d)
        self.decoder = width.net(self.m2g, propagate=propagate, update_edges=False)
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


def _embedded(ends: tuple[Static, Static], levels: Any) -> Embedded:
    return Embedded(*ends, *levels)


def _wide(mesh: list[Tensor], batch: int) -> list[Tensor]:
    return [state.unsqueeze(1).expand(-1, batch, -1) for state in mesh]


def _width(num_layers: int, hidden_size: int, hidden_layers: int, fused: bool, save: Save) -> Width:
    if num_layers < 1:
        raise InputError(f"num_layers must be at least 1, got {num_layers}")
    return Width(hidden_size, hidden_layers, fusion(save) if fused else None)


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
        propagate: Whether encoder and decoder are propagation networks.
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
        propagate: bool = False,
        fused: bool = True,
        save: Save = "activations",
    ) -> None:
        super().__init__()
        width = _width(num_layers, hidden_size, hidden_layers, fused, save)
        if len(graph.m2m) != 1:
            raise InputError(
                f"GraphLAM needs a flat mesh, got one of {len(graph.m2m)} levels: use HiLAM"
            )
        self.codec = Codec(graph, num_inputs, num_outputs, width, propagate)
        self.levels = Levels(graph, width)
        # The edges' state after the last layer would never be read.
        self.processor = nn.ModuleList(
            width.net(self.levels.m2m[0], update_edges=layer < num_layers - 1, average=average)
            for layer in range(num_layers)
        )

    def embed(self) -> Embedded:
        """Embeddings of the mesh nodes and of the three sets of edges."""
        return _embedded(self.codec.embed(), self.levels.embed(self.processor[:1]))

    def forward(self, features: Tensor, embedded: Embedded) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh, edges = _wide(embedded.mesh, features.shape[1])[0], embedded.m2m[0]
        grid, mesh = self.codec.encode(features, mesh, embedded.g2m)
        for layer in self.processor:
            mesh, edges = layer(mesh, mesh, edges)
        return self.codec.decode(grid, mesh, embedded.m2g)


EdgeStates = list[Any]


class Hierarchy(nn.Module):
    """Sweeps over the levels of a mesh, up before and down after a processor.

    Arguments:
        levels: Of at least two meshes.
        width: Of the networks.
        propagate_up: Whether those up the hierarchy are propagation networks.
        propagate_down: Whether those down the hierarchy are.
    """

    def __init__(
        self, levels: Levels, width: Width, propagate_up: bool, propagate_down: bool
    ) -> None:
        super().__init__()
        self.initial = nn.ModuleList(
            width.net(edges, propagate=propagate_up) for edges in levels.up
        )
        self.read_out = nn.ModuleList(
            width.net(edges, propagate=propagate_down, update_edges=False) for edges in levels.down
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


def _check_levels(name: str, graph: Graph) -> None:
    if len(graph.m2m) < 2:
        raise InputError(f"{name} needs a mesh of at least 2 levels, got one: use GraphLAM")


class _Sweep(nn.Module):
    """One layer of Hi-LAM: down through the levels and up again, with steps within each.

    Arguments:
        levels: Of the mesh.
        width: Of the networks.
        propagate_up: Whether those up the hierarchy are propagation networks.
        propagate_down: Whether those down the hierarchy are.
        last: Whether the edges' states within levels and up are read no more.
    """

    def __init__(
        self, levels: Levels, width: Width, propagate_up: bool, propagate_down: bool, last: bool
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            width.net(edges, propagate=propagate_down) for edges in levels.down
        )
        self.within_down = nn.ModuleList(width.net(edges) for edges in levels.m2m)
        self.up = nn.ModuleList(
            width.net(edges, propagate=propagate_up, update_edges=not last) for edges in levels.up
        )
        self.within_up = nn.ModuleList(
            width.net(edges, update_edges=not last) for edges in levels.m2m
        )

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
        propagate: Whether encoder and decoder are propagation networks.
        propagate_up: Whether those up the hierarchy are.
        propagate_down: Whether those down the hierarchy are.
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
        propagate: bool = False,
        propagate_up: bool = False,
        propagate_down: bool = False,
        fused: bool = True,
        save: Save = "activations",
    ) -> None:
        super().__init__()
        width = _width(num_layers, hidden_size, hidden_layers, fused, save)
        _check_levels("HiLAM", graph)
        self.codec = Codec(graph, num_inputs, num_outputs, width, propagate)
        self.levels = Levels(graph, width)
        self.hierarchy = Hierarchy(self.levels, width, propagate_up, propagate_down)
        self.processor = nn.ModuleList(
            _Sweep(self.levels, width, propagate_up, propagate_down, last=layer == num_layers - 1)
            for layer in range(num_layers)
        )

    def embed(self) -> Embedded:
        """Embeddings of the nodes of all levels and of all sets of edges."""
        first: Any = self.processor[0]
        nets = first.within_down, self.hierarchy.initial, first.down
        return _embedded(self.codec.embed(), self.levels.embed(*nets))

    def forward(self, features: Tensor, embedded: Embedded) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh = _wide(embedded.mesh, features.shape[1])
        grid, mesh[0] = self.codec.encode(features, mesh[0], embedded.g2m)
        mesh, up = self.hierarchy.up(mesh, embedded.up)
        same: EdgeStates = [*embedded.m2m]
        down: EdgeStates = [*embedded.down]
        for sweep in self.processor:
            mesh, same, up, down = sweep(mesh, same, up, down)
        return self.codec.decode(grid, self.hierarchy.down(mesh, down), embedded.m2g)


class _ParallelLayer(nn.Module):
    """One interaction network on all levels at once, with weights for each set of edges.

    Arguments:
        levels: Of the mesh.
        width: Of the networks.
        last: Whether the edges' states within levels and up are read no more.
    """

    def __init__(self, levels: Levels, width: Width, last: bool) -> None:
        super().__init__()
        sets = [*levels.m2m, *levels.up, *levels.down]
        kept = [not last] * (len(sets) - len(levels.down)) + [True] * len(levels.down)
        self.messages = nn.ModuleList(
            Messages(
                edges,
                width.hidden_size,
                hidden_layers=width.hidden_layers,
                update_edges=update,
                fusion=width.fusion,
            )
            for edges, update in zip(sets, kept, strict=True)
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
        propagate: Whether encoder and decoder are propagation networks.
        propagate_up: Whether those of the first sweep up are.
        propagate_down: Whether those of the last sweep down are.
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
        propagate: bool = False,
        propagate_up: bool = False,
        propagate_down: bool = False,
        fused: bool = True,
        save: Save = "activations",
    ) -> None:
        super().__init__()
        width = _width(num_layers, hidden_size, hidden_layers, fused, save)
        _check_levels("HiLAMParallel", graph)
        self.codec = Codec(graph, num_inputs, num_outputs, width, propagate)
        self.levels = Levels(graph, width)
        self.hierarchy = Hierarchy(self.levels, width, propagate_up, propagate_down)
        self.processor = nn.ModuleList(
            _ParallelLayer(self.levels, width, last=layer == num_layers - 1)
            for layer in range(num_layers)
        )

    def embed(self) -> Embedded:
        """Embeddings of the nodes of all levels and of all sets of edges."""
        first: Any = self.processor[0]
        messages, count = list(first.messages), len(self.levels.m2m)
        nets = messages[:count], self.hierarchy.initial, messages[2 * count - 1 :]
        return _embedded(self.codec.embed(), self.levels.embed(*nets))

    def forward(self, features: Tensor, embedded: Embedded) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        mesh = _wide(embedded.mesh, features.shape[1])
        grid, mesh[0] = self.codec.encode(features, mesh[0], embedded.g2m)
        mesh, up = self.hierarchy.up(mesh, embedded.up)
        edges = [*embedded.m2m, *up, *embedded.down]
        for layer in self.processor:
            mesh, edges = layer(mesh, edges)
        down = edges[-len(embedded.down) :]
        return self.codec.decode(grid, self.hierarchy.down(mesh, down), embedded.m2g)
