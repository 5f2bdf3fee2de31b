r"""Layers of graph networks, node first: tensors are ``(N, B, D)``.

Static edge embeddings stay distinct rows until they are gathered onto the edges, and what the
first layer of an edge network makes of them is computed once a rollout (`Messages.project`).
Every layer runs fused (`neural_lam.networks.fused`) where that is possible and in plain autograd
(`neural_lam.networks.plain`) elsewhere: for few edges, under autocast, ``torch.compile`` or
``torch.func``, and with more than one hidden layer.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neural_lam.graphs.graph import EdgeSet
from neural_lam.networks import fused, plain
from neural_lam.networks.fused import EdgePlan, Fusion
from neural_lam.networks.plain import SUMMED, EdgeIndex, EdgeRule, Weights
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "MLP",
    "Edges",
    "InteractionNet",
    "Messages",
    "PropagationNet",
    "Save",
    "Static",
    "fusion",
]

Save = Literal["everything", "activations", "nothing"]
_SAVE = {"nothing": 0, "activations": 1, "everything": 2}


def fusion(save: Save = "activations", chunk_rows: int | None = None) -> Fusion:
    """How layers are fused.

    Arguments:
        save: What the forward pass keeps for the backward pass; the rest is computed again.
        chunk_rows: Rows that are worked on at once; by default by the device.

    Raises:
        ValueError: An unknown ``save``, or no rows.
    """
    if save not in _SAVE:
        raise InputError(f"save must be one of {', '.join(_SAVE)}, got {save!r}")
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows must be at least 1, got {chunk_rows}")
    return Fusion(_SAVE[save], chunk_rows)


# Below, the few operations of plain autograd take less time than those of a chunk.
FEW_EDGES, FEW_ROWS = 2048, 1024


def _may_fuse(x: Tensor) -> bool:
    return not (
        torch.compiler.is_compiling()
        or torch.is_autocast_enabled(x.device.type)
        or torch._C._are_functorch_transforms_active()
        # Within a level of forward-mode differentiation, for which the fused layers have no rule.
        or torch.autograd.forward_ad._current_level >= 0
    )


class MLP(nn.Module):
    r"""Layers on every row, :math:`\mathrm{LN}(W_n\, \mathrm{SiLU}(\dots W_1 x + b_1) + b_n)`.

    Arguments:
        num_inputs: Features in.
        hidden_size: Features between.
        num_outputs: Features out.
        hidden_layers: Layers before the last.
        norm: Makes the layer that ends it from the number of outputs.
        fusion: How to fuse; plain autograd without.

    References:
        Ba et al. (2016), Layer normalization, arXiv:1607.06450; Elfwing et al. (2018),
        Sigmoid-weighted linear units, arXiv:1702.03118.
    """

    __str__ = in_a_line

    def __init__(
        self,
        num_inputs: int,
        hidden_size: int,
        num_outputs: int,
        *,
        hidden_layers: int = 1,
        norm: Callable[[int], nn.LayerNorm] | None = nn.LayerNorm,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        if hidden_layers < 1:
            raise InputError(f"hidden_layers must be at least 1, got {hidden_layers}")
        sizes = [num_inputs, *[hidden_size] * hidden_layers, num_outputs]
        self.linear = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)
        )
        self.norm = None if norm is None else norm(num_outputs)
        self.fusion = fusion if hidden_layers == 1 else None

    @property
    def weights(self) -> Weights:
        """Weights as `neural_lam.networks.plain` takes them."""
        layers: Any = self.linear
        matrices = [layer.weight for layer in layers]
        biases = [layer.bias for layer in layers]
        if self.norm is None:
            return Weights(matrices, biases, None, None)
        return Weights(matrices, biases, self.norm.weight, self.norm.bias)

    def forward(
        self, x: Tensor, extra: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """The network of ``[x, extra]``, added to ``residual``.

        Arguments:
            x: ``(..., D)``.
            extra: ``(..., D')``, with ``D + D' = num_inputs``.
            residual: ``(..., num_outputs)``.
        """
        few = x.shape[:-1].numel() < FEW_ROWS
        if self.fusion is not None and not few and _may_fuse(x):
            return fused.row_network(x, extra, residual, self.weights, self.fusion)
        return plain.row_network(x, extra, residual, self.weights)


class Edges(nn.Module):
    """Index tensors of a set of edges, which move with the module but aren't weights.

    Arguments:
        edges: The set.
    """

    __str__ = in_a_line

    senders: Tensor
    receivers: Tensor
    row: Tensor
    features: Tensor
    inverse_degree: Tensor

    def __init__(self, edges: EdgeSet) -> None:
        super().__init__()
        for name in ("senders", "receivers", "row", "features"):
            self.register_buffer(name, getattr(edges, name), persistent=False)
        degree = torch.bincount(edges.receivers, minlength=edges.num_receivers)
        inverse = degree.clamp(min=1).double().reciprocal() * (degree > 0)
        self.register_buffer("inverse_degree", inverse, persistent=False)
        self.num_senders, self.num_receivers = edges.num_senders, edges.num_receivers
        self._plans: dict[tuple[int, bool, bool, torch.device], EdgePlan] = {}

    def index(self, rule: EdgeRule) -> EdgeIndex:
        """Where the edges start and end."""
        inverse = self.inverse_degree if rule.average else None
        return EdgeIndex(self.senders, self.receivers, self.row, inverse)

    def plan(self, most_edges: int, table: Tensor | None, rule: EdgeRule) -> EdgePlan:
        """Chunks for the fused layers, made once.

        Arguments:
            most_edges: In a chunk.
            table: The edges' first-layer terms, if they come from static rows.
            rule: What becomes of the messages.
        """
        shared = table is not None and len(self.features) < len(self.senders)
        key = (most_edges, shared, rule.average, self.senders.device)
        if key not in self._plans:
            self._plans[key] = fused.plan_edges(
                self.index(rule),
                self.num_senders,
                self.num_receivers,
                len(self.features) if shared else 0,
                most_edges,
            )
        return self._plans[key]


class Static(NamedTuple):
    """Static edges: their embedded rows, and what a first layer makes of them.

    Arguments:
        rows: ``(U, D)``; may be missing where edges aren't updated.
        table: ``W_e e + b``, ``(U, D)``.
    """

    rows: Tensor | None
    table: Tensor


class Messages(nn.Module):
    r"""Messages along edges and their sum at the receivers.

    .. math:: e'_{sr} = \mathrm{MLP}_e([e_{sr}, v_s, v_r]), \quad a_r = \textstyle\sum_s e'_{sr}.

    Arguments:
        edges: The edges it acts on.
        hidden_size: Features of nodes and edges.
        hidden_layers: Of the network.
        rule: What becomes of the messages :math:`e'`: whether the edges' new state
            :math:`e + e'` is returned too, and whether :math:`a` is their mean.
        fusion: How to fuse; plain autograd without.
    """

    def __init__(
        self,
        edges: Edges,
        hidden_size: int,
        *,
        hidden_layers: int = 1,
        rule: EdgeRule = SUMMED,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        d = hidden_size
        self.mlp = MLP(3 * d, d, d, hidden_layers=hidden_layers, fusion=fusion)
        self.edges, self.rule = edges, rule

    def project(self, rows: Tensor) -> Static:
        """What the network's first layer makes of static rows ``(U, D)``."""
        weights = self.mlp.weights
        table = F.linear(rows, weights.matrices[0][:, : rows.shape[1]], weights.biases[0])
        return Static(rows if self.rule.update else None, table)

    def forward(
        self, senders: Tensor, receivers: Tensor, edge_state: Tensor | Static
    ) -> tuple[Tensor, Tensor | None]:
        """Sums at the receivers ``(R, B, D)``, and the edges' new state if it is updated.

        Arguments:
            senders: ``(S, B, D)``.
            receivers: ``(R, B, D)``.
            edge_state: ``(E, B, D)``, or static.
        """
        rows, table = edge_state if isinstance(edge_state, Static) else (edge_state, None)
        fusion = self.mlp.fusion
        few = len(self.edges.senders) * senders.shape[1] < FEW_EDGES
        if fusion is None or few or not _may_fuse(senders):
            return plain.edge_messages(
                senders,
                receivers,
                rows,
                table,
                self.mlp.weights,
                self.edges.index(self.rule),
                self.rule,
            )
        most = fusion.chunk_rows(senders) // senders.shape[1]
        plan = self.edges.plan(most, table, self.rule)
        return fused.edge_messages(
            senders,
            receivers,
            rows,
            table,
            self.mlp.weights,
            plan,
            self.rule,
            fusion,
        )


class InteractionNet(nn.Module):
    r"""Interaction network with residual connections.

    .. math::
        e'_{sr} = \mathrm{MLP}_e([e_{sr}, v_s, v_r]), \quad
        v_r \leftarrow v_r + \mathrm{MLP}_v([v_r, \textstyle\sum_s e'_{sr}]), \quad
        e_{sr} \leftarrow e_{sr} + e'_{sr}.

    Arguments:
        edges: The edges it acts on.
        hidden_size: Features of nodes and edges.
        hidden_layers: Of both networks.
        rule: What becomes of the messages.
        fusion: How to fuse; plain autograd without.

    References:
        Battaglia et al. (2016), Interaction networks.
    """

    __str__ = in_a_line

    def __init__(
        self,
        edges: Edges,
        hidden_size: int,
        *,
        hidden_layers: int = 1,
        rule: EdgeRule = SUMMED,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        d = hidden_size
        self.messages = Messages(
            edges,
            d,
            hidden_layers=hidden_layers,
            rule=rule,
            fusion=fusion,
        )
        self.node_mlp = MLP(2 * d, d, d, hidden_layers=hidden_layers, fusion=fusion)

    def project(self, rows: Tensor) -> Static:
        """See `Messages.project`."""
        return self.messages.project(rows)

    def forward(
        self, senders: Tensor, receivers: Tensor, edge_state: Tensor | Static
    ) -> tuple[Tensor, Tensor | None]:
        """New states of the receivers, and of the edges if they are updated.

        Arguments:
            senders: ``(S, B, D)``.
            receivers: ``(R, B, D)``.
            edge_state: ``(E, B, D)``, or static.
        """
        total, new_edges = self.messages(senders, receivers, edge_state)
        return self.node_mlp(receivers, total, receivers), new_edges


class PropagationNet(nn.Module):
    r"""Interaction network that carries the senders' states to the receivers.

    .. math::
        m_{sr} = v_s + \mathrm{MLP}_e([e_{sr}, v_s, v_r]), \quad
        a_r = \mathrm{mean}_s\, m_{sr}, \quad
        v_r \leftarrow a_r + \mathrm{MLP}_v([v_r, a_r]), \quad
        e_{sr} \leftarrow e_{sr} + m_{sr}.

    Arguments:
        edges: The edges it acts on.
        hidden_size: Features of nodes and edges.
        hidden_layers: Of both networks.
        rule: What becomes of the messages; they are averaged and carry the senders' states.
        fusion: How to fuse; plain autograd without.

    References:
        Oskarsson et al. (2024), Probabilistic weather forecasting with hierarchical graph
        neural networks.
    """

    __str__ = in_a_line

    def __init__(
        self,
        edges: Edges,
        hidden_size: int,
        *,
        hidden_layers: int = 1,
        rule: EdgeRule = SUMMED,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        d = hidden_size
        self.messages = Messages(
            edges,
            d,
            hidden_layers=hidden_layers,
            rule=replace(rule, average=True, propagate=True),
            fusion=fusion,
        )
        self.node_mlp = MLP(2 * d, d, d, hidden_layers=hidden_layers, fusion=fusion)

    def project(self, rows: Tensor) -> Static:
        """See `Messages.project`."""
        return self.messages.project(rows)

    def forward(
        self, senders: Tensor, receivers: Tensor, edge_state: Tensor | Static
    ) -> tuple[Tensor, Tensor | None]:
        """New states of the receivers, and of the edges if they are updated.

        Arguments:
            senders: ``(S, B, D)``.
            receivers: ``(R, B, D)``.
            edge_state: ``(E, B, D)``, or static.
        """
        mean, new_edges = self.messages(senders, receivers, edge_state)
        return self.node_mlp(receivers, mean, mean), new_edges
