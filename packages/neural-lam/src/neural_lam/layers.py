r"""Layers of graph networks, node first: tensors are ``(N, B, D)``.

The first layer of an edge network acts on a concatenation, so it splits into a sum of
three maps, two of which are computed once a node instead of once an edge:

.. math:: W [e_{sr}, v_s, v_r] = W_e e_{sr} + (W_s v)_s + (W_r v)_r.

Static edge embeddings stay distinct rows until they are gathered onto the edges.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from neural_lam.graph import EdgeSet

__all__ = ["MLP", "Edges", "InteractionNet"]


class MLP(nn.Module):
    r"""Two layers, :math:`\mathrm{LN}(W_2\, \mathrm{SiLU}(W_1 x + b_1) + b_2)`.

    Arguments:
        num_inputs: Features in.
        hidden_size: Features between.
        num_outputs: Features out.
        normalise: Whether to end in a layer normalisation.
    """

    def __init__(
        self, num_inputs: int, hidden_size: int, num_outputs: int, *, normalise: bool = True
    ) -> None:
        super().__init__()
        self.first = nn.Linear(num_inputs, hidden_size)
        tail = [nn.LayerNorm(num_outputs)] if normalise else []
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, num_outputs), *tail)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., num_inputs)`` to ``(..., num_outputs)``."""
        output: Tensor = self.rest(self.first(x))
        return output


class Edges(nn.Module):
    """Index tensors of a set of edges, which move with the module but aren't weights.

    Arguments:
        edges: The set.
    """

    senders: Tensor
    receivers: Tensor
    row: Tensor
    features: Tensor

    def __init__(self, edges: EdgeSet) -> None:
        super().__init__()
        for name in ("senders", "receivers", "row", "features"):
            self.register_buffer(name, getattr(edges, name), persistent=False)
        self.num_receivers = edges.num_receivers

    def expand(self, table: Tensor) -> Tensor:
        """Distinct rows ``(U, D)`` to edges ``(E, 1, D)``; edges ``(E, B, D)`` as they are."""
        return table.index_select(0, self.row).unsqueeze(1) if table.dim() == 2 else table

    def sum_at_receivers(self, messages: Tensor) -> Tensor:
        """Sums of messages ``(E, B, D)`` over the edges of each receiver, ``(R, B, D)``."""
        shape = (self.num_receivers, *messages.shape[1:])
        return messages.new_zeros(shape).index_add(0, self.receivers, messages)


class InteractionNet(nn.Module):
    r"""Interaction network with residual connections.

    .. math::
        e'_{sr} = \mathrm{MLP}_e([e_{sr}, v_s, v_r]), \quad
        v_r \leftarrow v_r + \mathrm{MLP}_v([v_r, \textstyle\sum_s e'_{sr}]), \quad
        e_{sr} \leftarrow e_{sr} + e'_{sr}.

    Arguments:
        edges: The edges it acts on.
        hidden_size: Features of nodes and edges.
        update_edges: Whether to return the edges' new state too.

    References:
        Battaglia et al. (2016), Interaction networks.
    """

    def __init__(self, edges: Edges, hidden_size: int, *, update_edges: bool = True) -> None:
        super().__init__()
        self.edge_mlp = MLP(3 * hidden_size, hidden_size, hidden_size)
        self.node_mlp = MLP(2 * hidden_size, hidden_size, hidden_size)
        self.edges, self.update_edges = edges, update_edges

    def forward(
        self, senders: Tensor, receivers: Tensor, edge_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New states of the receivers and of the edges.

        Arguments:
            senders: ``(S, B, D)``.
            receivers: ``(R, B, D)``.
            edge_state: ``(E, B, D)``, or static rows ``(U, D)``.
        """
        messages = self._messages(senders, receivers, edge_state)
        total = self.edges.sum_at_receivers(messages)
        first = self.node_mlp.first
        w_node, w_sum = first.weight.chunk(2, dim=1)
        hidden = F.linear(receivers, w_node, first.bias) + F.linear(total, w_sum)
        updated = receivers + self.node_mlp.rest(hidden)
        if not self.update_edges:
            return updated, edge_state
        return updated, self.edges.expand(edge_state) + messages

    def _messages(self, senders: Tensor, receivers: Tensor, edge_state: Tensor) -> Tensor:
        first = self.edge_mlp.first
        w_edge, w_sender, w_receiver = first.weight.chunk(3, dim=1)
        hidden = (
            self.edges.expand(F.linear(edge_state, w_edge, first.bias))
            + F.linear(senders, w_sender).index_select(0, self.edges.senders)
            + F.linear(receivers, w_receiver).index_select(0, self.edges.receivers)
        )
        messages: Tensor = self.edge_mlp.rest(hidden)
        return messages
