r"""Christoffel symbols and curvature of any metric tensor, by automatic differentiation.

.. math::

    \Gamma^l_{ij} &= \tfrac12 G^{lk} (\partial_i G_{jk} + \partial_j G_{ik} - \partial_k G_{ij}), \\
    R^l{}_{kij} &= \partial_i \Gamma^l_{jk} - \partial_j \Gamma^l_{ik}
        + \Gamma^l_{im} \Gamma^m_{jk} - \Gamma^l_{jm} \Gamma^m_{ik}, \\
    K(u, v) &= \langle R(u, v) v, u \rangle / (|u|^2 |v|^2 - \langle u, v \rangle^2) .

Derivatives are taken in reverse mode alone, which every activation of torch supports twice.

References:
    Lee (2018), Introduction to Riemannian Manifolds, chapters 5, 7 and 8.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp, vmap

__all__ = [
    "christoffel",
    "derivative",
    "gaussian_curvature",
    "levi_civita",
    "riemann",
    "sectional_curvature",
]

Field = Callable[[Tensor], Tensor]
Connection = Callable[[Tensor, Tensor, Tensor], Tensor]


def derivative(field: Field, z: Tensor) -> Tensor:
    """Pointwise derivative of a tensor field.

    Arguments:
        field: Map ``(..., d) -> (..., *s)`` that treats points independently.
        z: Points, ``(..., d)``.

    Returns:
        ``(..., *s, d)``, the last axis along the direction of differentiation.
    """
    pulled = vjp(field, z)
    value, pull = pulled[0], pulled[1]
    shape = value.shape[z.ndim - 1 :]
    basis = torch.eye(shape.numel(), dtype=z.dtype, device=z.device).reshape(-1, *shape)
    rows: Tensor = vmap(lambda covector: pull(covector.expand_as(value))[0])(basis)
    return rows.movedim(0, -2).reshape(*value.shape, z.shape[-1])


def christoffel(metric_tensor: Field, z: Tensor) -> Tensor:
    r"""Christoffel symbols :math:`\Gamma^l_{ij}`, ``(..., l, i, j)``."""
    slope = derivative(metric_tensor, z)
    lowered = (slope.movedim(-1, -2) + slope - slope.movedim(-1, -3)) / 2
    d = z.shape[-1]
    flat = lowered.reshape(*z.shape[:-1], d, d * d)
    solved: Tensor = torch.linalg.solve(metric_tensor(z), flat)
    return solved.reshape(*z.shape[:-1], d, d, d)


def levi_civita(metric_tensor: Field) -> Connection:
    r"""The bilinear map :math:`\Gamma_z(u, w)` of points ``(..., d)`` and vectors.

    Arguments:
        metric_tensor: Field ``(..., d) -> (..., d, d)``.

    Returns:
        Function of ``z`` and ``u`` ``(..., d)`` and of ``w`` ``(..., k, d)``, like ``w``.
    """

    def connection(z: Tensor, u: Tensor, w: Tensor) -> Tensor:
        turn = torch.einsum("...lij,...i->...lj", christoffel(metric_tensor, z), u)
        return w @ turn.mT

    return connection


def riemann(metric_tensor: Field, z: Tensor) -> Tensor:
    r"""Curvature tensor :math:`R^l{}_{kij}`, ``(..., l, k, i, j)``.

    References:
        Lee (2018), Introduction to Riemannian Manifolds, chapter 7.
    """
    gamma = christoffel(metric_tensor, z)
    slope = derivative(lambda x: christoffel(metric_tensor, x), z)
    twisted = torch.einsum("...ljki->...lkij", slope)
    twisted = twisted + torch.einsum("...lim,...mjk->...lkij", gamma, gamma)
    return twisted - twisted.movedim(-1, -2)


def sectional_curvature(metric_tensor: Field, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Curvature of the plane of ``u`` and ``v``, ``(...,)``; NaN where they are parallel."""
    tensor = metric_tensor(z)
    turned = torch.einsum("...lkij,...i,...j,...k->...l", riemann(metric_tensor, z), u, v, v)

    def inner(x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("...i,...ij,...j->...", x, tensor, y)

    return inner(turned, u) / (inner(u, u) * inner(v, v) - inner(u, v).square())


def gaussian_curvature(metric_tensor: Field, z: Tensor) -> Tensor:
    """Curvature of a surface, ``(..., 2) -> (...,)``."""
    if z.shape[-1] != 2:
        raise ValueError(f"a surface has 2 coordinates, got {z.shape[-1]}")
    first, second = torch.eye(2, dtype=z.dtype, device=z.device)
    return sectional_curvature(metric_tensor, z, first.expand_as(z), second.expand_as(z))
