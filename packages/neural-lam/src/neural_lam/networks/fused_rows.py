r"""Row networks fused: the reference's function in less time and memory.

The network of rows is one node of the autograd graph. Rows are worked on in chunks that stay in the
cache, and the backward pass recomputes what the forward pass did not save. A second derivative,
taken through the backward pass, comes from the reference.

References:
    Chen et al. (2016), Training deep nets with sublinear memory cost, arXiv:1604.06174.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_lam.networks import plain
from neural_lam.networks.plain import EPSILON, Weights

__all__ = [
    "Fusion",
    "Kept",
    "Network",
    "Parameters",
    "by_reference",
    "flat",
    "row_network",
    "saved",
    "stored",
]

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
        return _CPU_ROWS if like.is_cpu else _EVERYTHING


class Kept(NamedTuple):
    """What a chunk of rows keeps between the passes; statistics are of the normalisation."""

    mean: Tensor | None = None
    inverse_std: Tensor | None = None
    hidden: Tensor | None = None
    activated: Tensor | None = None
    output: Tensor | None = None


class Network:
    """The two-layer network of a function, and the gradients of its weights."""

    def __init__(self, w: Weights, save: int) -> None:
        (self.first, self.second), (self.b1, self.b2) = w.matrices, w.biases
        self.scale, self.shift, self.save = w.scale, w.shift, save
        self.shape = (self.second.shape[0],)

    def start_gradients(self) -> None:
        """Zero for every weight there is."""
        self.gradients: list[Any] = [
            None if p is None else torch.zeros_like(p)
            for p in (self.first, self.b1, self.second, self.b2, self.scale, self.shift)
        ]

    def forward(self, hidden: Tensor) -> tuple[Tensor, Kept]:
        """Output of rows, and what the backward pass takes."""
        activated = F.silu(hidden)
        output = torch.addmm(self.b2, activated, self.second.t())
        mean = inverse_std = None
        result = output
        if self.scale is not None:
            result, mean, inverse_std = torch.native_layer_norm(
                output, self.shape, self.scale, self.shift, EPSILON
            )
        kept = Kept(
            mean,
            inverse_std,
            hidden if self.save >= 1 else None,
            activated if self.save >= 2 else None,
            output if self.save >= 1 and self.scale is not None else None,
        )
        return result, kept

    def backward(self, gradient: Tensor, hidden: Tensor, kept: Kept) -> Tensor:
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


class Parameters(NamedTuple):
    """Weights of a network of two layers, as an autograd function takes and saves them."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    scale: Tensor | None
    shift: Tensor | None

    @classmethod
    def of(cls, w: Weights) -> "Parameters":
        """Those of a network of two layers."""
        return cls(w.matrices[0], w.biases[0], w.matrices[1], w.biases[1], w.scale, w.shift)

    @property
    def weights(self) -> Weights:
        """As the reference takes them."""
        matrices, biases = (self.first, self.second), (self.first_bias, self.second_bias)
        return Weights(matrices, biases, self.scale, self.shift)


Inputs = TypeVar("Inputs", bound=tuple[Any, ...])


def stored(inputs: tuple[Any, ...], parameters: Parameters, kept: list[Kept]) -> list[Any]:
    """What the backward pass takes, in a row of tensors."""
    return [*inputs, *parameters, *(tensor for row in kept for tensor in row)]


def saved(
    tensors: tuple[Any, ...], kind: type[Inputs]
) -> tuple[Inputs, Parameters, Iterator[Kept]]:
    """What was `stored`: inputs of a kind, parameters, and what each chunk kept."""
    rest = iter(tensors)

    def take(wanted: Any) -> Any:
        return wanted(*(next(rest) for _ in wanted._fields))

    inputs, parameters = take(kind), take(Parameters)
    remaining = list(rest)
    width = len(Kept._fields)
    chunks = (Kept(*remaining[i : i + width]) for i in range(0, len(remaining), width))
    return inputs, parameters, chunks


def by_reference(
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


class _RowInputs(NamedTuple):
    x: Tensor
    extra: Any
    residual: Any


class _RowNetwork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, fusion = arguments
        inputs, parameters = _RowInputs(*tensors[:3]), Parameters(*tensors[3:])
        x, extra, residual = inputs
        net = Network(parameters.weights, fusion.save if any(ctx.needs_input_grad) else 0)
        parts = [net.first[:, : x.shape[-1]].t(), net.first[:, x.shape[-1] :].t()]
        out: Tensor = x.new_empty(*x.shape[:-1], *net.shape)
        results = out.view(-1, *net.shape)
        kept = []
        for rows in _slices(len(results), fusion.chunk_rows(x)):
            hidden = torch.addmm(net.b1, flat(x)[rows], parts[0])
            if extra is not None:
                hidden.addmm_(flat(extra)[rows], parts[1])
            result, row = net.forward(hidden)
            kept.append(row)
            if residual is None:
                results[rows] = result
            else:
                torch.add(flat(residual)[rows], result, out=results[rows])
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*stored(inputs, parameters, kept))
            ctx.fusion = fusion
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # Read once: with checkpoints each reading computes everything again.
        inputs, parameters, kept = saved(ctx.saved_tensors, _RowInputs)
        if torch.is_grad_enabled():
            every = (*inputs, *parameters)
            return (*by_reference(_reference_row_network, every, (gradient,)), None)
        x, extra, residual = inputs
        net = Network(parameters.weights, 0)
        net.start_gradients()
        split = x.shape[-1]
        w_x, w_extra = net.first[:, :split], net.first[:, split:]
        g_x = torch.empty_like(flat(x)) if ctx.needs_input_grad[0] else None
        g_extra: Any = None if extra is None else torch.empty_like(flat(extra))
        g_first, g_b1 = net.gradients[:2]
        slices = _slices(flat(x).shape[0], ctx.fusion.chunk_rows(x))
        for rows, row in zip(slices, kept, strict=True):
            part, hidden = flat(x)[rows], row.hidden
            if hidden is None:
                hidden = torch.addmm(net.b1, part, w_x.t())
                if extra is not None:
                    hidden.addmm_(flat(extra)[rows], w_extra.t())
            g_hidden = net.backward(flat(gradient)[rows], hidden, row)
            g_b1 += g_hidden.sum(0)
            g_first[:, :split].addmm_(g_hidden.t(), part)
            if g_x is not None:
                torch.mm(g_hidden, w_x, out=g_x[rows])
            if g_extra is not None:
                g_first[:, split:].addmm_(g_hidden.t(), flat(extra)[rows])
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


def flat(x: Tensor) -> Tensor:
    """All rows of a tensor, ``(n, D)``."""
    return x.reshape(-1, x.shape[-1])


def _reference_row_network(x: Any, extra: Any, residual: Any, *parameters: Any) -> tuple[Tensor]:
    return (plain.row_network(x, extra, residual, Parameters(*parameters).weights),)


def row_network(
    x: Tensor, extra: Tensor | None, residual: Tensor | None, w: Weights, fusion: Fusion
) -> Tensor:
    """`neural_lam.networks.plain.row_network` of a network of two layers.

    References:
        Chen et al. (2016), Training deep nets with sublinear memory cost, arXiv:1604.06174.
    """
    output: Tensor = _RowNetwork.apply(  # type: ignore[no-untyped-call]
        x, extra, residual, *Parameters.of(w), fusion
    )
    return output
