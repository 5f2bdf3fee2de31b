r"""Coordinates of spaces of constant curvature: tangent, ambient, stereographic, half space.

Tangent coordinates :math:`u = \log_0(x)` are what everything else in this package takes; they
have no boundary.
"""

import torch
from torch import Tensor

from latentgeom.metrics.trigonometry import (
    arc_ratio,
    as_curvature,
    atanc,
    cosine,
    dot,
    safe_norm,
    safe_unit,
    sinc,
    tanc,
)

__all__ = [
    "ambient_to_tangent",
    "half_plane_dist",
    "half_plane_to_tangent",
    "squash",
    "stereographic_to_tangent",
    "tangent_to_ambient",
    "tangent_to_half_plane",
    "tangent_to_stereographic",
]


def tangent_to_ambient(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Ambient coordinates :math:`(C(r), S(r) \hat u)`, ``(..., d + 1)``.

    On the unit sphere these are the usual ones, on hyperbolic space of curvature -1
    those of the Lorentz model, in flat space :math:`(1, u)`.
    """
    k = as_curvature(curvature, u)
    x = k * u.square().sum(-1, keepdim=True)
    r = safe_norm(u).unsqueeze(-1)
    return torch.cat([cosine(r, k), sinc(x) * u], -1)


def ambient_to_tangent(x: Tensor, curvature: float | Tensor) -> Tensor:
    """Tangent coordinates of ambient points ``(..., d + 1)``; inverse of the above."""
    k = as_curvature(curvature, x)
    space = x[..., 1:]
    return space * arc_ratio(dot(space, space), x[..., :1], k)


def squash(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Radial map :math:`r \mapsto \tanh(\sqrt\kappa r) / \sqrt\kappa` into a ball."""
    k = as_curvature(curvature, u)
    return u * tanc(-k * u.square().sum(-1, keepdim=True))


def tangent_to_stereographic(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Stereographic coordinates :math:`\tan_\kappa(r/2)\, \hat u`, the Poincaré ball's."""
    k = as_curvature(curvature, u)
    return u * tanc(k * u.square().sum(-1, keepdim=True) / 4) / 2


def stereographic_to_tangent(x: Tensor, curvature: float | Tensor) -> Tensor:
    """Tangent coordinates of stereographic points; inverse of the above."""
    k = as_curvature(curvature, x)
    return 2 * x * atanc(k * x.square().sum(-1, keepdim=True))


def tangent_to_half_plane(u: Tensor) -> Tensor:
    r"""Upper half space of curvature -1, last coordinate positive, origin at ``(0, ..., 1)``.

    .. math:: y = \bigl(S \hat u_{<d},\, 1\bigr) / (C - S \hat u_d)

    with the denominator written as :math:`e^{-r} + S (1 - \hat u_d)`.
    """
    x = dot(u, u)
    near = x < 1.0
    smooth = cosine(torch.ones_like(x), -torch.where(near, x, 0.0)) - sinc(-x) * u[..., -1:]
    away = torch.where(near, 1.0, u)
    r, unit = safe_norm(away), safe_unit(away)
    scale = (torch.exp(-r) + torch.sinh(r) * _one_minus_last(unit)).unsqueeze(-1)
    scale = torch.where(near, smooth, scale)
    spatial = sinc(-x) * u[..., :-1]
    return torch.cat([spatial, torch.ones_like(spatial[..., :1])], -1) / scale


def _one_minus_last(unit: Tensor) -> Tensor:
    """1 - û_d without cancellation near the pole; 1 at the zero vector."""
    last = unit[..., -1]
    across = unit[..., :-1].square().sum(-1)
    return torch.where(last > 0, across / (1 + last.clamp(min=0)), 1 - last)


def half_plane_to_tangent(y: Tensor) -> Tensor:
    """Tangent coordinates of upper half space points; inverse of the above."""
    height, square = y[..., -1:], y[..., :-1].square().sum(-1, keepdim=True)
    last = (square + (height - 1) * (height + 1)) / (2 * height)
    spatial = torch.cat([y[..., :-1] / height, last], -1)
    time = (1 + spatial.square().sum(-1, keepdim=True)).sqrt()
    return ambient_to_tangent(torch.cat([time, spatial], -1), -1.0)


def half_plane_dist(x: Tensor, y: Tensor) -> Tensor:
    r"""Distance :math:`2 \sinh^{-1}\bigl(|x - y| / 2 \sqrt{x_d y_d}\bigr)` in the half space."""
    return 2 * torch.asinh(safe_norm(x - y) / (2 * (x[..., -1] * y[..., -1]).sqrt()))
