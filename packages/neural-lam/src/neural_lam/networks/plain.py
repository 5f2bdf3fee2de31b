r"""Row networks and message passing in plain autograd: the readable reference.

Tensors are node first, ``(N, B, D)``. The first layer of a network on a concatenation splits
into one map for each part, so that what belongs to a node is computed once a node and not once
an edge:

.. math:: W [e_{sr}, v_s, v_r] = W_e e_{sr} + (W_s v)_s + (W_r v)_r.

`neural_lam.networks.fused` computes the same functions in less time and memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

__all__ = ["EdgeIndex", "EdgeRule", "Weights", "edge_messages", "row_network"]

EPSILON = 1e-5


class Weights(NamedTuple):
    r"""Of a network :math:`\mathrm{LN}(W_n \,\mathrm{SiLU}(\dots W_1 x + b_1) + b_n)`.

    Arguments:
        matrices: ``(out, in)`` each.
        biases: ``(out,)`` each.
        scale: Of the layer normalisation, ``(D,)``; none without one.
        shift: Likewise.
    """

    matrices: Sequence[Tensor]
    biases: Sequence[Tensor]
    scale: Tensor | None
    shift: Tensor | None

    def finish(self, hidden: Tensor) -> Tensor:
        """What follows the first affine map."""
        for matrix, bias in zip(self.matrices[1:], self.biases[1:], strict=True):
            hidden = F.linear(F.silu(hidden), matrix, bias)
        if self.scale is None:
            return hidden
        return F.layer_norm(hidden, self.scale.shape, self.scale, self.shift, EPSILON)


class EdgeIndex(NamedTuple):
    """Where edges start and end, sorted by receiver.

    Arguments:
        senders: ``(E,)``.
        receivers: ``(E,)``, ascending.
        row: Row of a table of static features that belongs to each edge, ``(E,)``.
        inverse_degree: One over the number of edges of each receiver, ``(R,)``, where the
            messages are averaged and not summed; 0 for receivers without edges.
    """

    senders: Tensor
    receivers: Tensor
    row: Tensor
    inverse_degree: Tensor | None


@dataclass(frozen=True)
class EdgeRule:
    """What becomes of the messages along a set of edges.

    Arguments:
        update: Whether they are added to the edges' state, which is returned.
        average: Whether their mean and not their sum reaches the receivers.
        propagate: Whether the sender's state is added to each.

    References:
        Oskarsson et al. (2024), Probabilistic weather forecasting with hierarchical graph neural
        networks, arXiv:2406.04759.
    """

    update: bool = True
    average: bool = False
    propagate: bool = False


SUMMED = EdgeRule()


def row_network(x: Tensor, extra: Tensor | None, residual: Tensor | None, w: Weights) -> Tensor:
    """A network on every row of ``[x, extra]``, added to ``residual``.

    Arguments:
        x: ``(..., D)``.
        extra: Further features, ``(..., D')``.
        residual: ``(..., out)``.
        w: Weights of the network.

    References:
        Ba et al. (2016), Layer normalization, arXiv:1607.06450.
    """
    first, bias = w.matrices[0], w.biases[0]
    if extra is None:
        hidden = F.linear(x, first, bias)
    else:
        w_x, w_extra = first[:, : x.shape[-1]], first[:, x.shape[-1] :]
        hidden = F.linear(x, w_x, bias) + F.linear(extra, w_extra)
    output = w.finish(hidden)
    return output if residual is None else residual + output


def edge_messages(
    senders: Tensor,
    receivers: Tensor,
    edge_state: Tensor | None,
    table: Tensor | None,
    w: Weights,
    index: EdgeIndex,
    rule: EdgeRule,
) -> tuple[Tensor, Tensor | None]:
    """Messages along edges: their sum or mean at the receivers, and the edges' new state.

    Arguments:
        senders: ``(S, B, D)``.
        receivers: ``(R, B, D)``.
        edge_state: ``(E, B, D)``, or static rows ``(U, D)``; may be missing if there is a
            table and no update.
        table: For static rows, ``W_e e + b`` of each, ``(U, D)``.
        w: Weights of the message network.
        index: Where the edges start and end.
        rule: What becomes of the messages; the index says whether they are averaged.

    References:
        Battaglia et al. (2016), Interaction networks for learning about objects, relations and
        physics, arXiv:1612.00222.
    """
    w_edge, w_sender, w_receiver = w.matrices[0].chunk(3, dim=1)
    if table is None:
        assert edge_state is not None
        hidden = F.linear(edge_state, w_edge, w.biases[0])
    else:
        hidden = table.index_select(0, index.row).unsqueeze(1)
    hidden = hidden + F.linear(senders, w_sender).index_select(0, index.senders)
    hidden = hidden + F.linear(receivers, w_receiver).index_select(0, index.receivers)
    messages = w.finish(hidden)
    if rule.propagate:
        messages = messages + senders.index_select(0, index.senders)
    total = messages.new_zeros(receivers.shape).index_add(0, index.receivers, messages)
    if index.inverse_degree is not None:
        total = total * index.inverse_degree[:, None, None].to(total.dtype)
    if not rule.update:
        return total, None
    assert edge_state is not None
    if table is not None:
        edge_state = edge_state.index_select(0, index.row).unsqueeze(1)
    return total, edge_state + messages
