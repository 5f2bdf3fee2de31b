r"""Squared distances as functions of their ends and of what the metric has learnt, to any order.

A geodesic's inner nodes :math:`x` minimise an energy :math:`E(x; y)` of the ends and weights
:math:`y`.  With the block factors of its Hessian :math:`H` at the solution, held fixed,

.. math:: \tilde x(y) = x - H^{-1} \partial_x E(x; y), \qquad 2 E(\tilde x(y); y)

has the value, the gradient and the Hessian of the squared distance: :math:`\tilde x` moves as
the implicit function theorem says, and its second derivative meets :math:`\partial_x E = 0`.
The energy is that of polynomial elements, whatever solver found the curve.

References:
    Krantz & Parks (2002), The Implicit Function Theorem;
    Blondel et al. (2022), Efficient and Modular Implicit Differentiation, arXiv:2105.15183.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from latentgeom.immersions.curvature import derivative
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.relaxation.block_tridiagonal import Factorization, factorize, substitute
from latentgeom.relaxation.elements import Grid, chords, lobatto, resampled

__all__ = ["ElementEnergy", "implicit_squares"]

ElementEnergy = Callable[[Tensor, Tensor], Tensor]
_DEGREE = 8  # of the elements
_NEWTON, _STILL = 8, 1e-26  # steps from where the solver has come; relative decrease at rest
_AGREEMENT = 1e-3  # of the elements' length with the solver's, beside its estimate


def _by_element(nodes: Tensor) -> Tensor:
    """Nodes ``(B, N + 1, d)`` of each element, ``(B, E, (p + 1) d)``."""
    return nodes.unfold(1, _DEGREE + 1, _DEGREE).mT.flatten(2)


def _factors(energy: ElementEnergy, root: Tensor, nodes: Tensor) -> Factorization:
    """Block factors of the Hessian at the inner nodes; the last node gets an identity."""
    d = nodes.shape[-1]

    def of_element(flat: Tensor) -> Tensor:
        return energy(root, flat.reshape(*flat.shape[:-1], _DEGREE + 1, d))

    hessian = derivative(lambda x: derivative(of_element, x), _by_element(nodes))
    diagonal = hessian[:, :, d:, d:].clone()
    diagonal[:, :-1, -d:, -d:] += hessian[:, 1:, :d, :d]
    upper = torch.zeros_like(diagonal[:, :-1])
    upper[:, :, -d:] = hessian[:, 1:, :d, d:]
    diagonal[:, -1, -d:], diagonal[:, -1, :, -d:] = 0.0, 0.0
    diagonal[:, -1].diagonal(dim1=-2, dim2=-1)[:, -d:] = 1.0
    if upper.shape[1]:
        upper[:, -1, :, -d:] = 0.0
    return factorize(diagonal, upper)


def _solved(factors: Factorization, right: Tensor) -> Tensor:
    """Steps of the inner nodes ``(B, N - 1, d)`` for right-hand sides of that shape."""
    batch, _, d = right.shape
    padded = torch.nn.functional.pad(right, (0, 0, 0, 1)).reshape(batch, -1, _DEGREE * d)
    return substitute(factors, padded).reshape(batch, -1, d)[:, :-1]


def _total(energy: ElementEnergy, root: Tensor, nodes: Tensor) -> Tensor:
    parts = _by_element(nodes)
    shape = (*parts.shape[:-1], _DEGREE + 1, nodes.shape[-1])
    return energy(root, parts.reshape(shape)).sum(1)


def _pull(
    energy: ElementEnergy, root: Tensor, a: Tensor, inner: Tensor, b: Tensor, create: bool
) -> Tensor:
    """Derivative of the energies by the inner nodes."""
    with torch.enable_grad():
        inner = inner.detach().requires_grad_()
        nodes = torch.cat([a.unsqueeze(1), inner, b.unsqueeze(1)], 1)
        total = _total(energy, root, nodes).sum()
        return torch.autograd.grad(total, inner, create_graph=create)[0]


def _nodes(batch: GeodesicBatch, grid: Grid) -> Tensor:
    """Curves at the elements' times; straight ones where there is none."""
    points = batch.points
    ends = points[:, :1], points[:, -1:]
    line = torch.lerp(*ends, grid.times[:, None])
    read = resampled(chords(points.shape[1] - 1, 1), points, grid.times)
    good = (batch.converged & torch.isfinite(read).flatten(1).all(1))[:, None, None]
    return torch.cat([ends[0], torch.where(good, read, line)[:, 1:-1], ends[1]], 1)


def implicit_squares(
    energy: ElementEnergy, a: Tensor, b: Tensor, batch: GeodesicBatch, num_segments: int
) -> Tensor:
    """Squared lengths that may be differentiated twice, ``(B,)``; NaN where that can't be.

    Arguments:
        energy: Energy of an element, of the root of its stiffness ``(q, p + 1)`` and of its nodes
            ``(..., p + 1, d)``.
        a: Start points, ``(B, d)``.
        b: End points, ``(B, d)``.
        batch: Their geodesics, solved.
        num_segments: Segments of the elements together.
    """
    count = -(-max(num_segments, batch.points.shape[1] - 1) // _DEGREE) * _DEGREE
    grid = lobatto(count, _DEGREE).to(a)
    first, last, root = a.detach(), b.detach(), grid.root
    nodes = _nodes(batch, grid)
    for _ in range(_NEWTON):
        factors = _factors(energy, root, nodes)
        inner = nodes[:, 1:-1]
        slope = _pull(energy, root, first, inner, last, False)
        step = _solved(factors, slope)
        gain = (step * slope).sum((1, 2))
        moving = factors.positive & (gain > _STILL * _total(energy, root, nodes).detach())
        inner = torch.where(moving[:, None, None], inner - step, inner)
        nodes = torch.cat([nodes[:, :1], inner, nodes[:, -1:]], 1).detach()
        if not bool(moving.any()):
            break
    moved = inner - _solved(factors, _pull(energy, root, a, inner, b, True))
    whole = torch.cat([a.unsqueeze(1), moved, b.unsqueeze(1)], 1)
    square = 2 * _total(energy, root, whole)
    off = (square.detach().clamp(min=0).sqrt() - batch.length).abs()
    agreed = off <= batch.error_estimate + _AGREEMENT * batch.length
    agreed = agreed | (batch.length == 0)  # where all is rounding
    sound = agreed & factors.positive & batch.converged
    return torch.where(sound, 1.0, torch.nan) * square
