r"""Message passing fused: the reference's function in less time and memory.

The messages along a set of edges are one node of the autograd graph, as in
`neural_lam.networks.fused_rows`. Edges are worked on in chunks of whole receivers
(`neural_lam.networks.edge_plans`); another ``embedding_bag`` sums the messages at the receivers.

A second derivative, taken through the backward pass, comes from the reference.

References:
    Battaglia et al. (2016), Interaction networks for learning about objects, relations and physics,
    arXiv:1612.00222; Chen et al. (2016), Training deep nets with sublinear memory cost,
    arXiv:1604.06174.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_lam.networks import plain
from neural_lam.networks.edge_plans import Chunk, EdgePlan, bag, plan_edges
from neural_lam.networks.fused_rows import (
    Fusion,
    Kept,
    Network,
    Parameters,
    by_reference,
    flat,
    row_network,
    saved,
    stored,
)
from neural_lam.networks.plain import EdgeRule, Weights

__all__ = ["EdgePlan", "Fusion", "edge_messages", "plan_edges", "row_network"]


class _EdgeInputs(NamedTuple):
    senders: Tensor
    receivers: Tensor
    edge: Any
    table: Any


class _Gather:
    """First-layer outputs of chunks of edges, from a table of the three terms."""

    def __init__(
        self, plan: EdgePlan, net: Network, senders: Tensor, edge: Any, table: Any
    ) -> None:
        self.w_edge, self.w_sender, self.w_receiver = net.first.chunk(3, dim=1)
        self.plan, self.net, self.edge, self.table = plan, net, edge, table
        self.batch, width = senders.shape[1:]
        size = plan.num_senders + plan.num_rows + plan.most_receivers
        self.terms = senders.new_empty(size, self.batch * width)
        torch.mm(
            flat(senders), self.w_sender.t(), out=self.terms[: plan.num_senders].view(-1, width)
        )
        if plan.num_rows:
            rows = self.terms[plan.num_senders : plan.num_senders + plan.num_rows]
            rows.view(-1, self.batch, width).copy_(table.unsqueeze(1))

    def hidden(self, chunk: Chunk, receivers: Tensor) -> Tensor:
        """Of a chunk, whose receivers are ``(r * B, D)``."""
        first = self.plan.num_senders + self.plan.num_rows
        width = receivers.shape[1]
        end = first + len(receivers) // self.batch
        target = self.terms[first:end].view(-1, width)
        if self.table is None:
            torch.addmm(self.net.b1, receivers, self.w_receiver.t(), out=target)
        else:
            torch.mm(receivers, self.w_receiver.t(), out=target)
        hidden = bag(self.terms, chunk.gather, chunk.gather_offsets).view(-1, width)
        if self.table is None:
            return hidden.addmm_(flat(chunk.edges_of(self.edge)), self.w_edge.t())
        if not self.plan.num_rows:
            rows = chunk.edges_of(self.table).unsqueeze(1)
            hidden.view(-1, self.batch, width).add_(rows)
        return hidden


def _edge_rows(chunk: Chunk, plan: EdgePlan, edge: Tensor) -> Tensor:
    """State of a chunk's edges, ``(n, B, D)``, or static, ``(n, 1, D)``."""
    if edge.dim() == 3:
        return chunk.edges_of(edge)
    if not plan.num_rows:
        return chunk.edges_of(edge).unsqueeze(1)
    return edge.index_select(0, chunk.edges_of(plan.edges.row)).unsqueeze(1)


class _EdgeMessages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        *tensors, plan, rule, fusion = arguments
        inputs, parameters = _EdgeInputs(*tensors[:4]), Parameters(*tensors[4:])
        senders, receivers, edge, table = inputs
        need = any(ctx.needs_input_grad)
        net = Network(parameters.weights, fusion.save if need else 0)
        gather = _Gather(plan, net, senders, edge, table)
        width = senders.shape[-1]
        total = torch.empty_like(receivers)
        new_edge = None
        if rule.update:
            new_edge = senders.new_empty(len(plan.edges.senders), gather.batch, width)
        kept = []
        for chunk in plan.chunks:
            first, last = chunk.receivers
            if not len(chunk.local):
                total[first:last] = 0
                kept.append(Kept())
                continue
            message, row = net.forward(gather.hidden(chunk, chunk.rows_of(receivers)))
            kept.append(row)
            message = message.view(-1, gather.batch, width)
            if rule.propagate:
                message = message + senders.index_select(0, chunk.edges_of(plan.edges.senders))
            total[first:last] = bag(message.flatten(1), chunk.every, chunk.offsets).view(
                -1, gather.batch, width
            )
            if rule.update:
                torch.add(_edge_rows(chunk, plan, edge), message, out=chunk.edges_of(new_edge))
        if plan.edges.inverse_degree is not None:
            total *= plan.edges.inverse_degree[:, None, None].to(total.dtype)
        if need:
            ctx.save_for_backward(*stored(inputs, parameters, kept))
            ctx.plan, ctx.rule = plan, rule
        ctx.set_materialize_grads(False)
        return total, new_edge

    @staticmethod
    def backward(ctx: Any, g_total: Tensor | None, g_new_edge: Tensor | None) -> Any:
        # Read once: with checkpoints each reading computes everything again.
        inputs, parameters, kept = saved(ctx.saved_tensors, _EdgeInputs)
        plan, rule = ctx.plan, ctx.rule
        if torch.is_grad_enabled():

            def again(*values: Any) -> Any:
                senders, receivers, edge, table = values[:4]
                return plain.edge_messages(
                    senders,
                    receivers,
                    edge,
                    table,
                    Parameters(*values[4:]).weights,
                    plan.edges,
                    rule,
                )

            every = (*inputs, *parameters)
            return (*by_reference(again, every, (g_total, g_new_edge)), None, None, None)
        sums = _EdgeGradients(plan, inputs, parameters, (g_total, g_new_edge), rule)
        for chunk, row in zip(plan.chunks, kept, strict=True):
            sums.add(chunk, row)
        return (*sums.finish(), None, None, None)


class _EdgeGradients:
    """Gradients of `_EdgeMessages`, chunk by chunk."""

    def __init__(
        self,
        plan: EdgePlan,
        inputs: _EdgeInputs,
        parameters: Parameters,
        gradients: tuple[Tensor | None, Tensor | None],
        rule: EdgeRule,
    ) -> None:
        self.senders, self.receivers, self.edge, self.table = inputs
        g_total, self.g_new_edge = gradients
        self.plan = plan
        if g_total is None:
            g_total = torch.zeros_like(self.receivers)
        if plan.edges.inverse_degree is not None:
            g_total = g_total * plan.edges.inverse_degree[:, None, None].to(g_total.dtype)
        self.g_total = g_total.flatten(1)
        self.net = Network(parameters.weights, 0)
        self.net.start_gradients()
        self.gather = _Gather(plan, self.net, self.senders, self.edge, self.table)
        self.width = self.senders.shape[-1]
        self.g_w_edge, self.g_w_sender, self.g_w_receiver = self.net.gradients[0].chunk(3, dim=1)
        # Of the senders' terms, before they are traced back to the senders themselves.
        self.g_terms = torch.zeros_like(self.senders).flatten(1)
        self.g_senders = torch.zeros_like(self.g_terms) if rule.propagate else None
        self.g_receivers = torch.empty_like(self.receivers)
        self.g_table: Any = None if self.table is None else torch.zeros_like(self.table)
        self.g_edge: Any = None
        if self.edge is not None and self.table is None:
            self.g_edge = torch.empty_like(self.edge)
        elif self.edge is not None:
            self.g_edge = torch.zeros_like(self.edge)

    def add(self, chunk: Chunk, kept: Kept) -> None:
        """Add what a chunk contributes."""
        if not len(chunk.local):
            self.g_receivers[chunk.receivers[0] : chunk.receivers[1]] = 0
            return
        width, rows = self.width, chunk.rows_of(self.receivers)
        hidden = kept.hidden
        if hidden is None:
            hidden = self.gather.hidden(chunk, rows)
        first, last = chunk.receivers
        g_message = self.g_total[first:last].index_select(0, chunk.local).view(-1, width)
        if self.g_new_edge is not None:
            g_message += flat(chunk.edges_of(self.g_new_edge))
        if self.g_senders is not None:
            chunk.by_sender.add(g_message.view(len(chunk.every), -1), self.g_senders)
        g_hidden = self.net.backward(g_message, hidden, kept)
        by_edge = g_hidden.view(len(chunk.every), -1)
        at_receivers = bag(by_edge, chunk.every, chunk.offsets).view(-1, width)
        self.g_w_receiver.addmm_(at_receivers.t(), rows)
        torch.mm(
            at_receivers, self.gather.w_receiver, out=self.g_receivers[first:last].view(-1, width)
        )
        chunk.by_sender.add(by_edge, self.g_terms)
        if self.table is None:
            self.net.gradients[1] += at_receivers.sum(0)
            self._add_states(chunk, g_hidden)
        else:
            self._add_rows(chunk, g_hidden)

    def _add_states(self, chunk: Chunk, g_hidden: Tensor) -> None:
        self.g_w_edge.addmm_(g_hidden.t(), flat(chunk.edges_of(self.edge)))
        target = chunk.edges_of(self.g_edge).view(-1, self.width)
        if self.g_new_edge is None:
            torch.mm(g_hidden, self.gather.w_edge, out=target)
        else:
            torch.addmm(
                flat(chunk.edges_of(self.g_new_edge)), g_hidden, self.gather.w_edge, out=target
            )

    def _add_rows(self, chunk: Chunk, g_hidden: Tensor) -> None:
        shape = (-1, self.gather.batch, self.width)
        parts = [(g_hidden.view(shape).sum(1), self.g_table)]
        if self.g_new_edge is not None:
            parts.append((chunk.edges_of(self.g_new_edge).sum(1), self.g_edge))
        for values, total in parts:
            if chunk.by_row is None:
                chunk.edges_of(total).copy_(values)
            else:
                chunk.by_row.add(values, total)

    def finish(self) -> tuple[Any, ...]:
        """All gradients, in the order of the function's arguments."""
        g_terms = self.g_terms.view(-1, self.width)
        self.g_w_sender.addmm_(g_terms.t(), flat(self.senders))
        g_senders = (g_terms @ self.gather.w_sender).view_as(self.senders)
        if self.g_senders is not None:
            g_senders += self.g_senders.view_as(g_senders)
        gradients = list(self.net.gradients)
        if self.table is not None:
            gradients[1] = None
        return g_senders, self.g_receivers, self.g_edge, self.g_table, *gradients


def edge_messages(
    senders: Tensor,
    receivers: Tensor,
    edge_state: Tensor | None,
    table: Tensor | None,
    w: Weights,
    plan: EdgePlan,
    rule: EdgeRule,
    fusion: Fusion,
) -> tuple[Tensor, Tensor | None]:
    """`neural_lam.networks.plain.edge_messages` with a network of two layers.

    References:
        Battaglia et al. (2016), Interaction networks for learning about objects, relations and
        physics, arXiv:1612.00222.
    """
    output: tuple[Tensor, Tensor | None] = _EdgeMessages.apply(  # type: ignore[no-untyped-call]
        senders, receivers, edge_state, table, *Parameters.of(w), plan, rule, fusion
    )
    return output
