r"""Newton's step without forming the Hessian: batched conjugate gradients.

One product :math:`H v` is one backward pass through the graph of the gradient,
:math:`H v = \nabla \langle \nabla E, v \rangle`, whatever the dimension.  The preconditioner is
the energy of the same curve in a flat space, :math:`P = m\, K \otimes I` with :math:`m` the
mean square stretch of the map along the curve; the damping is :math:`\lambda P`.  Where a
direction of negative curvature is met the iteration stops at what it has (Steihaug).

References:
    Steihaug (1983), The Conjugate Gradient Method and Trust Regions in Large Scale Optimization;
    Golub & Van Loan (2013), Matrix Computations, section 10.2, for Ritz values.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion
from latentgeom.relaxation.elements import Grid

__all__ = ["Step", "smallest_ritz_value", "step"]

_PRECISION = 1e-2  # of the residual, relative to the gradient
_STEPS = 200
_LANCZOS = 40


class Step(NamedTuple):
    """A step of all inner nodes.

    Arguments:
        delta: Local coordinates, ``(B, N - 1, d)``.
        decrement: Decrease of the energy that a full step promises, relative, ``(B,)``.
        pivot: How far the Hessian is from singular, below zero where indefinite, ``(B,)``.
    """

    delta: Tensor
    decrement: Tensor
    pivot: Tensor

    def take(self, chosen: Tensor) -> "Step":
        """The same for some of the curves."""
        return Step(*(x[chosen] for x in self))


class _Quadratic(NamedTuple):
    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    precondition: Callable[[Tensor], Tensor]


def _assembled(grid: Grid) -> Tensor:
    """Stiffness between the inner nodes, ``(N - 1, N - 1)``."""
    count = len(grid.times)
    return grid.force(torch.eye(count, dtype=grid.root.dtype, device=grid.root.device)[None])[
        0, :, 1:-1
    ]


def _dot(x: Tensor, y: Tensor) -> Tensor:
    total: Tensor = (x * y).sum((-1, -2))
    return total


def _quadratic(
    immersion: Immersion, grid: Grid, inner: Tensor, image: Tensor, damping: Tensor
) -> _Quadratic:
    stiffness = _assembled(grid)
    inverse = torch.linalg.inv(stiffness)
    path = torch.linalg.vector_norm(inner.diff(dim=1), dim=-1).sum(-1)
    scale = 2 * grid.energy(image) / path.square().clamp(min=torch.finfo(path.dtype).tiny)
    scale = scale[:, None, None]
    function, origin = immersion.local(inner)
    with torch.enable_grad():
        point = origin.detach().clone().requires_grad_()
        moved = torch.cat([image[:, :1], function(point), image[:, -1:]], 1)
        energy = grid.energy(moved).sum()
        (slope,) = torch.autograd.grad(energy, point, create_graph=True)

    def product(v: Tensor) -> Tensor:
        (column,) = torch.autograd.grad(slope, point, v, retain_graph=True)
        damped: Tensor = column + damping[:, None, None] * scale * (stiffness @ v)
        return damped

    return _Quadratic(slope.detach(), product, lambda r: inverse @ r / scale)


def step(immersion: Immersion, grid: Grid, inner: Tensor, image: Tensor, damping: Tensor) -> Step:
    """Damped, truncated Newton step of all curves.

    Arguments:
        immersion: Map into Euclidean space.
        grid: Elements of the curves.
        inner: Inner nodes, ``(B, N - 1, n)``.
        image: Images of all nodes, ``(B, N + 1, D)``.
        damping: Damping of each curve, ``(B,)``.
    """
    problem = _quadratic(immersion, grid, inner, image, damping)
    residual = -problem.gradient
    delta, direction = torch.zeros_like(residual), problem.precondition(residual)
    size = first = _dot(residual, direction)
    going, positive = size > 0, torch.ones_like(size, dtype=torch.bool)
    for count in range(_STEPS):
        if not bool(going.any()):
            break
        column = problem.product(direction)
        curvature = _dot(direction, column)
        positive = positive & ((curvature > 0) | ~going)
        if count == 0:
            delta = torch.where((curvature > 0)[:, None, None], delta, direction)
        going = going & (curvature > 0)
        length = torch.where(going, size / torch.where(going, curvature, 1.0), 0.0)[:, None, None]
        delta, residual = delta + length * direction, residual - length * column
        pulled = problem.precondition(residual)
        old, size = size, torch.where(going, _dot(residual, pulled), size)
        going = going & (size > _PRECISION**2 * first)
        ratio = (size / torch.where(old > 0, old, 1.0))[:, None, None]
        direction = torch.where(going[:, None, None], pulled + ratio * direction, direction)
    decrement = -_dot(problem.gradient, delta) / grid.energy(image)
    return Step(delta, decrement, 2 * positive.to(decrement) - 1)


def smallest_ritz_value(immersion: Immersion, grid: Grid, inner: Tensor, image: Tensor) -> Tensor:
    r"""Smallest Ritz value of the preconditioned Hessian over their mean, ``(B,)``.

    Near zero between conjugate points, negative at a saddle; about one in flat space.
    """
    none = torch.zeros_like(image[:, 0, 0])
    problem = _quadratic(immersion, grid, inner, image, none)
    generator = torch.Generator(device="cpu").manual_seed(0)
    draw = torch.randn(inner.shape[1:], generator=generator, dtype=torch.float64, device="cpu")
    residual = torch.zeros_like(problem.gradient) + draw[:, : problem.gradient.shape[-1]].to(inner)
    previous = torch.zeros_like(residual)
    diagonal, off = [], []
    for _ in range(min(_LANCZOS, residual[0].numel())):
        pulled = problem.precondition(residual)
        size = _dot(residual, pulled).clamp(min=0).sqrt()
        unit = 1 / torch.where(size > 0, size, 1.0)[:, None, None]
        vector, covector = pulled * unit, residual * unit
        off.append(size)
        column = problem.product(vector)
        diagonal.append(_dot(vector, column))
        residual = column - diagonal[-1][:, None, None] * covector - size[:, None, None] * previous
        previous = covector
    tridiagonal = torch.diag_embed(torch.stack(diagonal, -1))
    side = torch.diag_embed(torch.stack(off[1:], -1), 1)
    values = torch.linalg.eigvalsh(tridiagonal + side + side.mT)
    smallest: Tensor = values[:, 0] / values.mean(-1)
    return smallest
