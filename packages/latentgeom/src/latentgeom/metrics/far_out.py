r"""Hyperbolic space far from the origin, where sines overflow and coordinates lose digits.

Everything here divides by the growth :math:`e^r` before it adds up, or works with logarithms.
Each function answers where ``far`` says so; elsewhere its value is harmless and meaningless.

References:
    Mishne, Wan, Wang & Yang (2023), The Numerical Stability of Hyperbolic Representation
    Learning, arXiv:2211.00181.
"""

import torch
from torch import Tensor

from latentgeom.metrics.trigonometry import (
    asinhc,
    direction_gap,
    dot,
    log_sinh,
    radius_from_log,
    radius_gap,
    safe_norm,
    safe_unit,
)

__all__ = ["far_dist", "far_exp", "far_geodesic", "far_log", "far_turn", "nowhere"]


def _log_half_chord(u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """Logarithm of S(d/2) times the root of -k, in hyperbolic space: it can't overflow."""
    root = (-k).sqrt()
    tiny = torch.finfo(u.dtype).tiny
    gap = (root * radius_gap(u, v).abs() / 2).clamp(min=tiny)
    across = (safe_norm(direction_gap(u, v)) / 2).clamp(min=tiny)
    r_u, r_v = ((root * safe_norm(x)).clamp(min=tiny) for x in (u, v))
    sides = log_sinh(r_u) + log_sinh(r_v) + 2 * across.log()
    return torch.logaddexp(2 * log_sinh(gap), sides) / 2


def far_dist(u: Tensor, v: Tensor, k: Tensor, far: Tensor) -> Tensor:
    """Distance, ``(...,)``."""
    negative = torch.where(k < 0, k, -1.0)
    one, two = (torch.where(far.unsqueeze(-1), x, y) for x, y in ((u, 1.0), (v, 2.0)))
    same = far & (u == v).all(-1)
    two = torch.where(same.unsqueeze(-1), 2.0, two)
    length = 2 * radius_from_log(_log_half_chord(one, two, negative)) / (-negative).sqrt()
    return torch.where(same, 0.0, length)


def far_exp(u: Tensor, a: Tensor, k: Tensor, far: Tensor) -> Tensor:
    r"""End of the geodesic with frame components ``a``, all lengths divided by :math:`e^{r + t}`.

    The part along the ray is :math:`\sinh(r+t) - 2 \cosh r \sinh t \sin^2(A/2)` outwards and
    :math:`\sinh(r-t) + 2 \cosh r \sinh t \cos^2(A/2)` inwards: nothing large cancels.
    """
    root = torch.where(k < 0, -k, 1.0).sqrt()
    u, a = torch.where(far, u, 1.0), torch.where(far, a, 1.0)
    r, t = root * safe_norm(u).unsqueeze(-1), root * safe_norm(a).unsqueeze(-1)
    unit, way = safe_unit(u), safe_unit(a)
    ahead = dot(unit, way)
    back, forth = (way - unit).square(), (way + unit).square()
    back, forth = back.sum(-1, keepdim=True) / 4, forth.sum(-1, keepdim=True) / 4
    twist = (1 + (-2 * r).exp()) * -torch.expm1(-2 * t) / 2
    outward = -torch.expm1(-2 * (r + t)) / 2 - twist * back
    inward = ((-2 * t).exp() - (-2 * r).exp()) / 2 + twist * forth
    across = (-r).exp() * -torch.expm1(-2 * t) / 2
    space = torch.where(ahead > 0, outward, inward) * unit + across * (way - ahead * unit)
    size = safe_norm(space).unsqueeze(-1).clamp(min=torch.finfo(space.dtype).tiny)
    return space / size * radius_from_log(size.log() + r + t) / root


def far_log(u: Tensor, v: Tensor, length: Tensor, k: Tensor, far: Tensor) -> Tensor:
    r"""Frame components of the logarithm, given their distance, zero where below one.

    .. math::

        p = \bigl(S(r_v - r_u) - 2 S(r_v) C(r_u) \sin^2(\theta/2)\bigr) \hat u
            + S(r_v)\, (\hat v - \hat u + 2 \sin^2(\theta/2)\, \hat u)

    as it stands while :math:`S(d)` is small, divided by :math:`e^{r_u + r_v}` otherwise.
    """
    root = torch.where(k < 0, -k, 1.0).sqrt()
    u, v = torch.where(far, u, 1.0), torch.where(far, v, 2.0)
    r_u, r_v = root * safe_norm(u).unsqueeze(-1), root * safe_norm(v).unsqueeze(-1)
    unit, gap = safe_unit(u), direction_gap(u, v)
    sin2 = dot(gap, gap) / 4
    rise = -root * radius_gap(u, v).unsqueeze(-1)
    close = length == 0
    length = length * root
    # While the points are close their radii are alike, and e^r is held down for the other branch.
    top = torch.where(close, 0.0, r_u + r_v)
    along = ((rise - top).exp() - (-rise - top).exp()) / 2
    sinh_v = -torch.expm1(-2 * r_v) / 2
    twist = sinh_v * (1 + (-2 * r_u).exp()) * (r_u + r_v - top).exp()
    across = sinh_v * (r_v - top).exp()
    p = (along - twist * sin2) * unit + across * (gap + 2 * sin2 * unit)
    square = dot(p, p)
    product = asinhc(-torch.where(close, square, 0.0)) * p
    way = safe_unit(torch.where(close, 1.0, p))
    return torch.where(close, product, way * length) / root


def far_geodesic(u: Tensor, v: Tensor, t: Tensor, length: Tensor, k: Tensor, far: Tensor) -> Tensor:
    """Points at times ``t`` ``(T, 1)``, given the distance ``length`` ``(..., 1, 1)``."""
    root = torch.where(k < 0, -k, 1.0).sqrt()
    u, v = torch.where(far, u, 1.0), torch.where(far, v, -2.0)
    tiny = torch.finfo(u.dtype).tiny
    length = root * torch.where(far, length, 1.0)
    r_u, r_v = (root * safe_norm(x).unsqueeze(-1) for x in (u, v))

    def logs(x: Tensor) -> Tensor:
        return log_sinh(x.abs().clamp(min=tiny))

    first = logs((1 - t) * length) - logs(length) + logs(r_u)
    second = logs(t * length) - logs(length) + logs(r_v)
    top = torch.maximum(first, second)
    sign = 1 - 2 * (torch.cat([1 - t, t], -1) < 0).to(u)
    point = sign[..., :1] * (first - top).exp() * safe_unit(u)
    point = point + sign[..., 1:] * (second - top).exp() * safe_unit(v)
    size = safe_norm(point).unsqueeze(-1).clamp(min=tiny)
    return point / size * radius_from_log(top + size.log()) / root


def far_turn(u: Tensor, v: Tensor, a: Tensor, k: Tensor, far: Tensor) -> Tensor:
    """Frame components after parallel transport, turned by the triangle's angle excess."""
    root = torch.where(k < 0, -k, 1.0).sqrt()
    u, v = torch.where(far, u, 1.0), torch.where(far, v, 2.0)
    n, gap = safe_unit(u), direction_gap(u, v)
    r_u, r_v = root * safe_norm(u).unsqueeze(-1), root * safe_norm(v).unsqueeze(-1)
    rise = root * radius_gap(u, v).unsqueeze(-1) / 2
    mean = (r_u + r_v) / 2
    cosh = ((rise - mean).exp() + (-rise - mean).exp()) / 2
    sinh2 = torch.expm1(-r_u) * torch.expm1(-r_v) / 4
    half = dot(gap, gap) / 2
    real = cosh + sinh2 * half
    across = gap + half * n  # sin(θ) times the unit vector across: it is not divided by
    size = real.square() + sinh2.square() * dot(across, across)
    x, y = dot(n, a), dot(across, a)
    turn = -2 * real * sinh2 * (x * across - y * n) / size
    twice = -2 * sinh2.square() * (dot(across, across) * x * n + y * across) / size
    return a + turn + twice


def nowhere(mask: Tensor) -> bool:
    """Whether a mask is known to be empty, so that what it is for needn't be computed.

    Asked on the CPU only: an accelerator would be waited for.
    """
    return mask.device.type == "cpu" and not bool(mask.any())
