r"""Row networks and message passing fused: the reference's functions in less time and memory.

Each function is one node of the autograd graph. Rows are worked on in chunks that stay in the
cache, edges in chunks of whole receivers, and the backward pass recomputes what the forward
pass did not save. Three gathered terms of an edge's first layer, those of its sender, of its
static row and of its receiver, lie in one table, so that one ``embedding_bag`` both gathers and
adds them; another sums the messages at the receivers.

A second derivative, taken through the backward pass, comes from the reference.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_lam.networks import plain
from neural_lam.networks.plain import EPSILON, EdgeIndex, Weights

__all__ = ["Chunk", "EdgePlan", "Fusion", "Groups", "edge_messages", "plan_edges", "row_network"]

aten = torch.ops.aten


_CPU_ROWS, _EVERYTHING = 8192, 2**62


class Fusion(NamedTuple):
    """How to fuse.

    Arguments:
        save: Of the intermediates, for the backward pass: 0 none, 1 the inputs of
            non-linear functions, 2 their outputs too.
        rows: In a chunk; by default what stays in the cache of a CPU, and everything at once on an
            accelerator, where starting a kernel costs more than memory.
    """

    save: int = 1
    rows: int | None = None

    def chunk_rows(self, like: Tensor) -> int:
        """Rows of a chunk on a tensor's device."""
        if self.rows is not None:
            return self.rows
        return _CPU_ROWS if like.device.type == "cpu" else _EVERYTHING


class Groups(NamedTuple):
    """Rows of a chunk that are added to the same target.

    Arguments:
        order: Rows sorted by target.
        offsets: Where each target's rows begin, and the end.
        targets: The distinct targets.
    """

    order: Tensor
    offsets: Tensor
    targets: Tensor

    def add(self, values: Tensor, total: Tensor) -> None:
        """Add rows ``(n, D)`` to the rows of ``total`` that they belong to."""
        total.index_add_(0, self.targets, _bag(values, self.order, self.offsets))


class Chunk(NamedTuple):
    """Some receivers and all of their edges.

    Arguments:
        receivers: The first receiver and the one past the last.
        edges: Likewise.
        gather: Rows of the table that are added up for each edge, ``(n * terms,)``.
        gather_offsets: Where each edge's rows begin, and the end.
        offsets: Where each receiver's edges begin, and the end.
        local: Receiver of each edge within the chunk.
        every: ``0 .. n - 1``.
        by_sender: Edges of the same sender.
        by_row: Edges of the same static row.
    """

    receivers: tuple[int, int]
    edges: tuple[int, int]
    gather: Tensor
    gather_offsets: Tensor
    offsets: Tensor
    local: Tensor
    every: Tensor
    by_sender: Groups
    by_row: Groups | None

    def rows_of(self, x: Tensor) -> Tensor:
        """Rows of the chunk's receivers, batch and nodes as one, ``(r * B, D)``."""
        first, last = self.receivers
        return x[first:last].reshape(-1, x.shape[-1])

    def edges_of(self, x: Tensor) -> Tensor:
        """Rows of the chunk's edges, ``(n, ...)``."""
        return x[self.edges[0] : self.edges[1]]


class EdgePlan(NamedTuple):
    """Chunks of a set of edges, for one kind of edge state.

    Arguments:
        edges: Where they start and end.
        chunks: In order of receivers.
        num_senders: Rows of the table that belong to senders.
        num_rows: Rows of the table that belong to distinct static rows; 0 if every edge has
            its own, or edges have states.
        most_receivers: In a chunk.
    """

    edges: EdgeIndex
    chunks: list[Chunk]
    num_senders: int
    num_rows: int
    most_receivers: int


def _bag(table: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
    return torch.embedding_bag(table, index, offsets, False, 0, False, None, True)[0]


def _group(targets: Tensor) -> Groups:
    order = torch.argsort(targets, stable=True)
    distinct, counts = torch.unique_consecutive(targets[order], return_counts=True)
    return Groups(order, F.pad(counts.cumsum(0), (1, 0)), distinct)


def _boundaries(offsets: Tensor, most_edges: int) -> list[int]:
    """Receivers at which chunks begin, and the end."""
    bounds, last, ends = [0], len(offsets) - 1, offsets.tolist()
    while bounds[-1] < last:
        first = bounds[-1]
        reach = torch.searchsorted(offsets, ends[first] + most_edges, right=True)
        bounds.append(max(first + 1, min(last, int(reach) - 1)))
    return bounds


def plan_edges(
    index: EdgeIndex, num_senders: int, num_receivers: int, num_rows: int, most_edges: int
) -> EdgePlan:
    """Chunks of at most ``most_edges`` edges, or of one receiver.

    Arguments:
        index: Where the edges start and end.
        num_senders: Number of sending nodes.
        num_receivers: Number of receiving nodes.
        num_rows: Distinct static rows that the edges share; 0 if they share none.
        most_edges: In a chunk.
    """
    degree = torch.bincount(index.receivers, minlength=num_receivers)
    offsets = F.pad(degree.cumsum(0), (1, 0))
    bounds = _boundaries(offsets, max(1, most_edges))
    ends = offsets[bounds].tolist()
    receivers, edges = list(pairwise(bounds)), list(pairwise(ends))
    chunks = []
    for (first, last), (start, stop) in zip(receivers, edges, strict=True):
        senders, local = index.senders[start:stop], index.receivers[start:stop] - first
        parts = [senders, local + num_senders + num_rows]
        if num_rows:
            parts.insert(1, index.row[start:stop] + num_senders)
        every = torch.arange(stop - start + 1, device=senders.device)
        chunk = Chunk(
            (first, last),
            (start, stop),
            torch.stack(parts, dim=1).flatten(),
            every * len(parts),
            offsets[first : last + 1] - start,
            local,
            every[:-1],
            _group(senders),
            _group(index.row[start:stop]) if num_rows else None,
        )
        chunks.append(chunk)
    most = max(last - first for first, last in receivers)
    return EdgePlan(index, chunks, num_senders, num_rows, most)


class _Row(NamedTuple):
    """What a chunk of rows keeps between the passes; statistics are of the normalisation."""

    mean: Tensor | None = None
    inverse_std: Tensor | None = None
    hidden: Tensor | None = None
    activated: Tensor | None = None
    output: Tensor | None = None


class _Network:
    """The two-layer network of a function, and the gradients of its weights."""

    def __init__(self, w: Weights, save: int) -> None:
        (self.first, self.second), (self.b1, self.b2) = w.matrices, w.biases
        self.scale, self.shift, self.save = w.scale, w.shift, save
        self.shape = (self.second.shape[0],)

    def start_gradients(self) -> None:
        self.gradients: list[Any] = [
            None if p is None else torch.zeros_like(p)
            for p in (self.first, self.b1, self.second, self.b2, self.scale, self.shift)
        ]

    def forward(self, hidden: Tensor) -> tuple[Tensor, _Row]:
        """Output of rows, and what the backward pass takes."""
        activated = F.silu(hidden)
        output = torch.addmm(self.b2, activated, self.second.t())
        mean = inverse_std = None
        result = output
        if self.scale is not None:
            result, mean, inverse_std = torch.native_layer_norm(
                output, self.shape, self.scale, self.shift, EPSILON
            )
        kept = _Row(
            mean,
            inverse_std,
            hidden if self.save >= 1 else None,
            activated if self.save >= 2 else None,
            output if self.save >= 1 and self.scale is not None else None,
        )
        return result, kept

    def backward(self, gradient: Tensor, hidden: Tensor, kept: _Row) -> Tensor:
        """Gradient of the first layer's output; adds to those of the later weights."""
        _, _, g_second, g_b2, g_scale, g_shift = self.gradients
        activated = F.silu(hidden) if kept.activated is None else kept.activated
        if self.scale is not None:
            output = kept.output
            if output is None:
                output = torch.addmm(self.b2, activated, self.second.t())
            gradient, d_scale, d_shift = aten.native_layer_norm_backward(
                gradient,
                output,
                self.shape,
                kept.mean,
                kept.inverse_std,
                self.scale,
                self.shift,
                (True, True, True),
            )
            g_scale += d_scale
            g_shift += d_shift
        g_second.addmm_(gradient.t(), activated)
        g_b2 += gradient.sum(0)
        g_hidden: Tensor = aten.silu_backward(gradient @ self.second, hidden)
        return g_hidden


def _flatten(rows: list[_Row]) -> list[Tensor | None]:
    return [tensor for row in rows for tensor in row]


def _unflatten(tensors: tuple[Tensor | None, ...]) -> Iterator[_Row]:
    width = len(_Row._fields)
    return (_Row(*tensors[i : i + width]) for i in range(0, len(tensors), width))


def _weights(first: Tensor, b1: Tensor, second: Tensor, b2: Tensor, *norm: Any) -> Weights:
    return Weights((first, second), (b1, b2), *norm)


def _by_reference(
    function: Any, inputs: tuple[Tensor | None, ...], gradients: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again."""
    # Views: where an input was made from another, each must get its own part alone.
    views = [None if x is None else x.view_as(x) for x in inputs]
    outputs = function(*views)
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None]
    wanted = [x for x in views if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            wanted,
            [g for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if x is not None and x.requires_grad else None for x in views]


# Tensors saved before what chunks keep: the function's inputs and the six parameters.
_ROW_INPUTS, _EDGE_INPUTS = 3 + 6, 4 + 6


class _RowNetwork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        x, extra, residual, *parameters, fusion = arguments
        net = _Network(_weights(*parameters), fusion.save if any(ctx.needs_input_grad) else 0)
        parts = [net.first[:, : x.shape[-1]].t(), net.first[:, x.shape[-1] :].t()]
        out: Tensor = x.new_empty(*x.shape[:-1], *net.shape)
        flat = out.view(-1, *net.shape)
        kept = []
        for rows in _slices(len(flat), fusion.chunk_rows(x)):
            hidden = torch.addmm(net.b1, _flat(x)[rows], parts[0])
            if extra is not None:
                hidden.addmm_(_flat(extra)[rows], parts[1])
            result, row = net.forward(hidden)
            kept.append(row)
            if residual is None:
                flat[rows] = result
            else:
                torch.add(_flat(residual)[rows], result, out=flat[rows])
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x, extra, residual, *parameters, *_flatten(kept))
            ctx.fusion = fusion
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # Read once: with checkpoints each reading computes everything again.
        saved = ctx.saved_tensors
        inputs, kept = saved[:_ROW_INPUTS], _unflatten(saved[_ROW_INPUTS:])
        if torch.is_grad_enabled():
            return (*_by_reference(_reference_row_network, inputs, (gradient,)), None)
        x, extra, residual, *parameters = inputs
        net = _Network(_weights(*parameters), 0)
        net.start_gradients()
        split = x.shape[-1]
        w_x, w_extra = net.first[:, :split], net.first[:, split:]
        g_x = torch.empty_like(_flat(x)) if ctx.needs_input_grad[0] else None
        g_extra: Any = None if extra is None else torch.empty_like(_flat(extra))
        g_first, g_b1 = net.gradients[:2]
        slices = _slices(_flat(x).shape[0], ctx.fusion.chunk_rows(x))
        for rows, row in zip(slices, kept, strict=True):
            part, hidden = _flat(x)[rows], row.hidden
            if hidden is None:
                hidden = torch.addmm(net.b1, part, w_x.t())
                if extra is not None:
                    hidden.addmm_(_flat(extra)[rows], w_extra.t())
            g_hidden = net.backward(_flat(gradient)[rows], hidden, row)
            g_b1 += g_hidden.sum(0)
            g_first[:, :split].addmm_(g_hidden.t(), part)
            if g_x is not None:
                torch.mm(g_hidden, w_x, out=g_x[rows])
            if g_extra is not None:
                g_first[:, split:].addmm_(g_hidden.t(), _flat(extra)[rows])
                torch.mm(g_hidden, w_extra, out=g_extra[rows])
        return (
            None if g_x is None else g_x.view(x.shape),
            None if extra is None else g_extra.view(extra.shape),
            None if residual is None else gradient,
            *net.gradients,
            None,
        )


def _slices(length: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, length, rows)]


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _reference_row_network(x: Any, extra: Any, residual: Any, *parameters: Any) -> tuple[Tensor]:
    return (plain.row_network(x, extra, residual, _weights(*parameters)),)


def row_network(
    x: Tensor, extra: Tensor | None, residual: Tensor | None, w: Weights, fusion: Fusion
) -> Tensor:
    """`neural_lam.networks.plain.row_network` of a network of two layers."""
    parameters = (w.matrices[0], w.biases[0], w.matrices[1], w.biases[1], w.scale, w.shift)
    output: Tensor = _RowNetwork.apply(  # type: ignore[no-untyped-call]
        x, extra, residual, *parameters, fusion
    )
    return output


class _Gather:
    """First-layer outputs of chunks of edges, from a table of the three terms."""

    def __init__(
        self, plan: EdgePlan, net: _Network, senders: Tensor, edge: Any, table: Any
    ) -> None:
        self.w_edge, self.w_sender, self.w_receiver = net.first.chunk(3, dim=1)
        self.plan, self.net, self.edge, self.table = plan, net, edge, table
        self.batch, width = senders.shape[1:]
        size = plan.num_senders + plan.num_rows + plan.most_receivers
        self.terms = senders.new_empty(size, self.batch * width)
        torch.mm(
            _flat(senders), self.w_sender.t(), out=self.terms[: plan.num_senders].view(-1, width)
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
        hidden = _bag(self.terms, chunk.gather, chunk.gather_offsets).view(-1, width)
        if self.table is None:
            return hidden.addmm_(_flat(chunk.edges_of(self.edge)), self.w_edge.t())
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
        senders, receivers, edge, table, *parameters, plan, settings = arguments
        update, propagate, fusion = settings
        need = any(ctx.needs_input_grad)
        net = _Network(_weights(*parameters), fusion.save if need else 0)
        gather = _Gather(plan, net, senders, edge, table)
        width = senders.shape[-1]
        total = torch.empty_like(receivers)
        new_edge = None
        if update:
            new_edge = senders.new_empty(len(plan.edges.senders), gather.batch, width)
        kept = []
        for chunk in plan.chunks:
            first, last = chunk.receivers
            if not len(chunk.local):
                total[first:last] = 0
                kept.append(_Row())
                continue
            message, row = net.forward(gather.hidden(chunk, chunk.rows_of(receivers)))
            kept.append(row)
            message = message.view(-1, gather.batch, width)
            if propagate:
                message = message + senders.index_select(0, chunk.edges_of(plan.edges.senders))
            total[first:last] = _bag(message.flatten(1), chunk.every, chunk.offsets).view(
                -1, gather.batch, width
            )
            if update:
                torch.add(_edge_rows(chunk, plan, edge), message, out=chunk.edges_of(new_edge))
        if plan.edges.inverse_degree is not None:
            total *= plan.edges.inverse_degree[:, None, None].to(total.dtype)
        if need:
            ctx.save_for_backward(senders, receivers, edge, table, *parameters, *_flatten(kept))
            ctx.plan, ctx.settings = plan, settings
        ctx.set_materialize_grads(False)
        return total, new_edge

    @staticmethod
    def backward(ctx: Any, g_total: Tensor | None, g_new_edge: Tensor | None) -> Any:
        # Read once: with checkpoints each reading computes everything again.
        saved = ctx.saved_tensors
        inputs, kept = saved[:_EDGE_INPUTS], _unflatten(saved[_EDGE_INPUTS:])
        plan, (update, propagate, _) = ctx.plan, ctx.settings
        if torch.is_grad_enabled():

            def again(*values: Any) -> Any:
                senders, receivers, edge, table, *parameters = values
                return plain.edge_messages(
                    senders,
                    receivers,
                    edge,
                    table,
                    _weights(*parameters),
                    plan.edges,
                    update=update,
                    propagate=propagate,
                )

            return (*_by_reference(again, inputs, (g_total, g_new_edge)), None, None)
        sums = _EdgeGradients(plan, inputs, g_total, g_new_edge, propagate)
        for chunk, row in zip(plan.chunks, kept, strict=True):
            sums.add(chunk, row)
        return (*sums.finish(), None, None)


class _EdgeGradients:
    """Gradients of `_EdgeMessages`, chunk by chunk."""

    def __init__(
        self,
        plan: EdgePlan,
        inputs: Any,
        g_total: Tensor | None,
        g_new_edge: Tensor | None,
        propagate: bool,
    ) -> None:
        self.senders, self.receivers, self.edge, self.table, *parameters = inputs
        self.plan, self.g_new_edge, self.propagate = plan, g_new_edge, propagate
        if g_total is None:
            g_total = torch.zeros_like(self.receivers)
        if plan.edges.inverse_degree is not None:
            g_total = g_total * plan.edges.inverse_degree[:, None, None].to(g_total.dtype)
        self.g_total = g_total.flatten(1)
        self.net = _Network(_weights(*parameters), 0)
        self.net.start_gradients()
        self.gather = _Gather(plan, self.net, self.senders, self.edge, self.table)
        self.width = self.senders.shape[-1]
        self.g_w_edge, self.g_w_sender, self.g_w_receiver = self.net.gradients[0].chunk(3, dim=1)
        # Of the senders' terms, before they are traced back to the senders themselves.
        self.g_terms = torch.zeros_like(self.senders).flatten(1)
        self.g_senders = torch.zeros_like(self.g_terms) if propagate else None
        self.g_receivers = torch.empty_like(self.receivers)
        self.g_table: Any = None if self.table is None else torch.zeros_like(self.table)
        self.g_edge: Any = None
        if self.edge is not None and self.table is None:
            self.g_edge = torch.empty_like(self.edge)
        elif self.edge is not None:
            self.g_edge = torch.zeros_like(self.edge)

    def add(self, chunk: Chunk, kept: _Row) -> None:
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
            g_message += _flat(chunk.edges_of(self.g_new_edge))
        if self.g_senders is not None:
            chunk.by_sender.add(g_message.view(len(chunk.every), -1), self.g_senders)
        g_hidden = self.net.backward(g_message, hidden, kept)
        by_edge = g_hidden.view(len(chunk.every), -1)
        at_receivers = _bag(by_edge, chunk.every, chunk.offsets).view(-1, width)
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
        self.g_w_edge.addmm_(g_hidden.t(), _flat(chunk.edges_of(self.edge)))
        target = chunk.edges_of(self.g_edge).view(-1, self.width)
        if self.g_new_edge is None:
            torch.mm(g_hidden, self.gather.w_edge, out=target)
        else:
            torch.addmm(
                _flat(chunk.edges_of(self.g_new_edge)), g_hidden, self.gather.w_edge, out=target
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
        self.g_w_sender.addmm_(g_terms.t(), _flat(self.senders))
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
    *,
    update: bool,
    propagate: bool,
    fusion: Fusion,
) -> tuple[Tensor, Tensor | None]:
    """`neural_lam.networks.plain.edge_messages` with a network of two layers."""
    parameters = (w.matrices[0], w.biases[0], w.matrices[1], w.biases[1], w.scale, w.shift)
    output: tuple[Tensor, Tensor | None] = _EdgeMessages.apply(  # type: ignore[no-untyped-call]
        senders, receivers, edge_state, table, *parameters, plan, (update, propagate, fusion)
    )
    return output
