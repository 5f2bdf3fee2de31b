r"""Trigonometry of one family of spaces, through zero curvature, with its derivatives.

.. math::

    S(r) = \frac{\sin \sqrt\kappa r}{\sqrt\kappa}, \qquad C(r) = \cos \sqrt\kappa r, \qquad
    s(x) = \frac{\sin \sqrt x}{\sqrt x} \quad (S(r) = r\, s(\kappa r^2)),

and the other quotients that are smooth at zero: a function of a vector is written as
:math:`s(\kappa |v|^2)\, v`, never as a number times a unit vector, whose derivative at
:math:`v = 0` would be wrong.  Series take over where a quotient has no digits left.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "arc_ratio",
    "as_curvature",
    "asinhc",
    "atanc",
    "cosine",
    "direction_gap",
    "dot",
    "half_versine",
    "log_sinh",
    "one_minus_sinc",
    "radius_from_log",
    "radius_gap",
    "safe_norm",
    "safe_unit",
    "sinc",
    "sine",
    "tanc",
]

_SERIES_BELOW = 1e-2  # the five-term series below is exact to 1e-16 there


def safe_norm(u: Tensor) -> Tensor:
    """Euclidean norm over the last axis with zero gradient at zero, ``(...,)``."""
    scale = u.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    square = (u / scale).square().sum(-1, keepdim=True)
    zero = square == 0
    root = torch.where(zero, 1.0, square).sqrt() * scale
    return torch.where(zero, 0.0, root).squeeze(-1)


def safe_unit(u: Tensor) -> Tensor:
    """Direction ``u / |u|``, the zero vector at zero, ``(..., d)``."""
    r = safe_norm(u).unsqueeze(-1)
    return u / torch.where(r > 0, r, 1.0)


def _piecewise(
    x: Tensor, positive: Tensor, negative: Tensor, coefficients: tuple[float, ...]
) -> Tensor:
    small = x.abs() < _SERIES_BELOW
    x_small = torch.where(small, x, 0.0)  # powers of a large x would overflow in the gradient
    series = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        series = series * x_small + coefficient
    return torch.where(small, series, torch.where(x > 0, positive, negative))


def _root(x: Tensor) -> Tensor:
    """sqrt|x|, with a harmless value where the series takes over."""
    return torch.where(x.abs() < _SERIES_BELOW, 1.0, x).abs().sqrt()


def sinc(x: Tensor) -> Tensor:
    r"""sin(s)/s at s² = x, sinh for negative x."""
    s = _root(x)
    sinh = torch.sinh(torch.where(x < 0, s, 1.0))
    return _piecewise(x, s.sin() / s, sinh / s, (1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880))


def tanc(x: Tensor) -> Tensor:
    r"""tan(s)/s at s² = x, tanh for negative x."""
    s = _root(x)
    coefficients = (1, 1 / 3, 2 / 15, 17 / 315, 62 / 2835, 1382 / 155925, 21844 / 6081075)
    return _piecewise(x, s.tan() / s, s.tanh() / s, coefficients)


def atanc(x: Tensor) -> Tensor:
    r"""atan(s)/s at s² = x, atanh for negative x > -1."""
    s = _root(x)
    atanh = torch.atanh(torch.where(x < 0, s, 0.5))
    coefficients = (1, -1 / 3, 1 / 5, -1 / 7, 1 / 9, -1 / 11, 1 / 13)
    return _piecewise(x, s.atan() / s, atanh / s, coefficients)


def asinhc(x: Tensor) -> Tensor:
    r"""asin(s)/s at s² = x < 1, asinh for negative x."""
    s = _root(x)
    arcsine = torch.asin(torch.where(x > 0, s, 0.5).clamp(max=1.0))  # haversine rounds above 1
    coefficients = (1, 1 / 6, 3 / 40, 5 / 112, 35 / 1152, 63 / 2816, 231 / 13312)
    return _piecewise(x, arcsine / s, torch.asinh(s) / s, coefficients)


def sine(r: Tensor, curvature: Tensor) -> Tensor:
    r"""Generalised sine :math:`S(r)`, equal to :math:`r` at zero curvature."""
    return r * sinc(curvature * r.square())


def cosine(r: Tensor, curvature: Tensor) -> Tensor:
    r"""Generalised cosine :math:`C(r) = 1 - 2 \kappa S(r/2)^2`."""
    x = curvature * r.square()
    s = _root(x)
    cosh = torch.cosh(torch.where(x < 0, s, 1.0))
    return _piecewise(x, s.cos(), cosh, (1, -1 / 2, 1 / 24, -1 / 720, 1 / 40320))


def as_curvature(curvature: float | Tensor, like: Tensor) -> Tensor:
    """The curvature in the precision and on the device of some points."""
    return torch.as_tensor(curvature, dtype=like.dtype, device=like.device)


def direction_gap(u: Tensor, v: Tensor) -> Tensor:
    """The difference v̂ - û of directions without cancellation, ``(..., d)``.

    Sines multiply its rounding by exp(r), the exact angle's by one.
    """
    r_u, r_v = safe_norm(u), safe_norm(v)
    swap = (r_u < r_v).unsqueeze(-1)
    near, far = torch.where(swap, u, v), torch.where(swap, v, u)
    r_far = torch.where(swap, r_v.unsqueeze(-1), r_u.unsqueeze(-1))
    r_far = torch.where(r_far > 0, r_far, 1.0)
    gap = radius_gap(far, near)[..., None]
    outward = ((far - near) - safe_unit(near) * gap) / r_far
    return torch.where(swap, outward, -outward)


def radius_gap(u: Tensor, v: Tensor) -> Tensor:
    """``|u| - |v|`` without cancellation."""
    total = safe_norm(u) + safe_norm(v)
    return ((u - v) * (u + v)).sum(-1) / torch.where(total > 0, total, 1.0)


def dot(u: Tensor, v: Tensor) -> Tensor:
    """Euclidean inner product, ``(..., 1)``."""
    return (u * v).sum(-1, keepdim=True)


def one_minus_sinc(x: Tensor) -> Tensor:
    """The quotient (1 - s(x)) / x, one sixth at zero."""
    outside = (1 - sinc(x)) / torch.where(x.abs() < _SERIES_BELOW, 1.0, x)
    coefficients = (1 / 6, -1 / 120, 1 / 5040, -1 / 362880, 1 / 39916800)
    return _piecewise(x, outside, outside, coefficients)


def half_versine(x: Tensor) -> Tensor:
    """The quotient (1 - cos sqrt(x)) / x, one half at zero."""
    return sinc(x / 4).square() / 2


def arc_ratio(square: Tensor, cos: Tensor, curvature: Tensor) -> Tensor:
    """Distance over its sine, d / S(d), from S(d)² and, on spheres, C(d).

    The series of the arcsine serves on both sides of zero curvature and at d = 0; beyond a
    sixth of a turn the arc comes from sine and cosine.
    """
    x = curvature * square
    near = (x < 0.25) & ((curvature <= 0) | (cos > 0))
    safe = torch.where(near, 1.0, square.clamp(min=torch.finfo(square.dtype).tiny)).sqrt()
    root = torch.where(curvature > 0, curvature, 1.0).sqrt()
    far = torch.atan2(root * safe, torch.where(near, 1.0, cos)) / (root * safe)
    return torch.where(near, asinhc(torch.where(near, x, 0.0)), far)


def log_sinh(r: Tensor) -> Tensor:
    """Logarithm of the hyperbolic sine of positive numbers of any size."""
    return r + torch.log(-torch.expm1(-2 * r)) - math.log(2)


def radius_from_log(m: Tensor) -> Tensor:
    """The radius whose hyperbolic sine has the logarithm ``m``."""
    large = m + torch.log1p((1 + (-2 * m.clamp(min=0)).exp()).sqrt())
    return torch.where(m > 0, large, torch.asinh(m.clamp(max=0).exp()))
