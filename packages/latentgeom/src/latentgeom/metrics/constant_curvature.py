r"""Spaces of constant curvature in tangent coordinates, stable in float32.

A point is stored as :math:`u = \log_0(x) \in \mathbb{R}^d`, so hyperbolic space has no
boundary to fall off.  One family covers all curvatures, continuous at
:math:`\kappa = 0`, through

.. math::

    S(r) = \frac{\sin \sqrt\kappa r}{\sqrt\kappa}, \qquad
    C(r) = \cos \sqrt\kappa r, \qquad C^2 + \kappa S^2 = 1 .

With :math:`r = |u|`, :math:`\hat u = u / r` and :math:`\theta` the angle at the origin,
every map below is solid trigonometry of the triangle (origin, u, v), arranged so that
nothing large cancels; distances by the haversine law

.. math::

    S(d/2)^2 = S\bigl((r_u - r_v)/2\bigr)^2 + S(r_u)\, S(r_v) \sin^2(\theta / 2) .

The metric tensor is :math:`G(u) = \hat u \hat u^\top + (S(r)/r)^2 (I - \hat u \hat u^\top)`.

References:
    Ungar (2008), A Gyrovector Space Approach to Hyperbolic Geometry;
    Skopek, Ganea & Becigneul (2020), Mixed-curvature Variational Autoencoders.
"""

import torch
from torch import Tensor

__all__ = [
    "ambient_to_tangent",
    "cosine",
    "dist",
    "expmap",
    "half_plane_dist",
    "half_plane_to_tangent",
    "log_volume",
    "logmap",
    "metric_tensor",
    "orthonormal_frame",
    "safe_norm",
    "safe_unit",
    "sine",
    "squash",
    "stereographic_to_tangent",
    "tangent_to_ambient",
    "tangent_to_half_plane",
    "tangent_to_stereographic",
    "transp",
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


def _sinc(x: Tensor) -> Tensor:
    r"""sin(s)/s at s² = x, sinh for negative x."""
    s = _root(x)
    sinh = torch.sinh(torch.where(x < 0, s, 1.0))
    return _piecewise(x, s.sin() / s, sinh / s, (1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880))


def _tanc(x: Tensor) -> Tensor:
    r"""tan(s)/s at s² = x, tanh for negative x."""
    s = _root(x)
    coefficients = (1, 1 / 3, 2 / 15, 17 / 315, 62 / 2835, 1382 / 155925, 21844 / 6081075)
    return _piecewise(x, s.tan() / s, s.tanh() / s, coefficients)


def _atanc(x: Tensor) -> Tensor:
    r"""atan(s)/s at s² = x, atanh for negative x > -1."""
    s = _root(x)
    atanh = torch.atanh(torch.where(x < 0, s, 0.5))
    coefficients = (1, -1 / 3, 1 / 5, -1 / 7, 1 / 9, -1 / 11, 1 / 13)
    return _piecewise(x, s.atan() / s, atanh / s, coefficients)


def _asinhc(x: Tensor) -> Tensor:
    r"""asin(s)/s at s² = x < 1, asinh for negative x."""
    s = _root(x)
    arcsine = torch.asin(torch.where(x > 0, s, 0.5).clamp(max=1.0))  # haversine rounds above 1
    coefficients = (1, 1 / 6, 3 / 40, 5 / 112, 35 / 1152, 63 / 2816, 231 / 13312)
    return _piecewise(x, arcsine / s, torch.asinh(s) / s, coefficients)


def sine(r: Tensor, curvature: Tensor) -> Tensor:
    r"""Generalised sine :math:`S(r)`, equal to :math:`r` at zero curvature."""
    return r * _sinc(curvature * r.square())


def cosine(r: Tensor, curvature: Tensor) -> Tensor:
    r"""Generalised cosine :math:`C(r) = 1 - 2 \kappa S(r/2)^2`."""
    x = curvature * r.square()
    s = _root(x)
    cosh = torch.cosh(torch.where(x < 0, s, 1.0))
    return _piecewise(x, s.cos(), cosh, (1, -1 / 2, 1 / 24, -1 / 720, 1 / 40320))


def _arcsine(s: Tensor, curvature: Tensor) -> Tensor:
    """Inverse of the generalised sine on its first branch."""
    return s * _asinhc(curvature * s.square())


def _as_curvature(curvature: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(curvature, dtype=like.dtype, device=like.device)


def _chord_of_directions(u: Tensor, v: Tensor) -> Tensor:
    """|û - v̂| in float64: S(r) multiplies its rounding by exp(r), the exact angle's by one."""
    u, v = u.double(), v.double()
    r_u, r_v = safe_norm(u), safe_norm(v)
    swap = (r_u < r_v).unsqueeze(-1)
    near, far = torch.where(swap, u, v), torch.where(swap, v, u)
    r_far = torch.maximum(r_u, r_v).unsqueeze(-1)
    r_far = torch.where(r_far > 0, r_far, 1.0)
    gap = _radius_gap(far, near)[..., None]
    return safe_norm(((far - near) - safe_unit(near) * gap) / r_far)


def _radius_gap(u: Tensor, v: Tensor) -> Tensor:
    """|u| - |v| without cancellation."""
    total = safe_norm(u) + safe_norm(v)
    return ((u - v) * (u + v)).sum(-1) / torch.where(total > 0, total, 1.0)


def _half_chord_from_origin(u: Tensor, v: Tensor, r_u: Tensor, r_v: Tensor, k: Tensor) -> Tensor:
    """S(d/2) when one point is the origin, smooth in both points there."""
    h_u, h_v = sine(r_u / 2, k).square(), sine(r_v / 2, k).square()
    dot = _sinc(k * u.square().sum(-1)) * _sinc(k * v.square().sum(-1)) * (u * v).sum(-1)
    square = h_u + h_v - 2 * k * h_u * h_v - dot / 2
    zero = square <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _half_chord(u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """S(d/2) of the haversine law."""
    r_u, r_v = safe_norm(u), safe_norm(v)
    product = sine(r_u, k) * sine(r_v, k)
    root = torch.where(product > 0, product, 1.0).sqrt()
    across = torch.where(product > 0, root, 0.0) * _chord_of_directions(u, v).to(u) / 2
    polar = safe_norm(torch.stack([sine(_radius_gap(u, v) / 2, k), across], -1))
    at_origin = (r_u == 0) | (r_v == 0)
    return torch.where(at_origin, _half_chord_from_origin(u, v, r_u, r_v, k), polar)


def _arc(half: Tensor, cohalf: Tensor, k: Tensor) -> Tensor:
    """Distance from S(d/2), and from C(d/2) too where the space is a sphere."""
    root = torch.where(k > 0, k, 1.0).sqrt()
    spherical = 2 * torch.atan2(root * half, cohalf) / root
    return torch.where(k > 0, spherical, 2 * _arcsine(torch.where(k > 0, 0.0, half), k))


def dist(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Geodesic distance.

    .. math:: S(d/2)^2 = S(\Delta r / 2)^2 + S(r_u) S(r_v) \sin^2(\theta/2)

    The gradient is zero at coincident points and exact at the origin; on a sphere the
    arc comes from sine and cosine together, so antipodes lose no digits.

    Arguments:
        u: Tangent coordinates, ``(..., d)``.
        v: Tangent coordinates, ``(..., d)``.
        curvature: Sectional curvature of either sign, or zero.

    Returns:
        Distances, ``(...,)``.
    """
    k = _as_curvature(curvature, u)
    positive = torch.where(k > 0, k, 1.0)
    toward = tangent_to_ambient(u, positive) + tangent_to_ambient(v, positive)
    scale = torch.cat([torch.ones_like(u[..., :1]), positive.sqrt().expand_as(u)], -1)
    return _arc(_half_chord(u, v, k), safe_norm(toward * scale) / 2, k)


def tangent_to_ambient(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Ambient coordinates :math:`(C(r), S(r) \hat u)`, ``(..., d + 1)``.

    On the unit sphere these are the usual ones, on hyperbolic space of curvature -1
    those of the Lorentz model, in flat space :math:`(1, u)`.
    """
    k = _as_curvature(curvature, u)
    x = k * u.square().sum(-1, keepdim=True)
    r = safe_norm(u).unsqueeze(-1)
    return torch.cat([cosine(r, k), _sinc(x) * u], -1)


def ambient_to_tangent(x: Tensor, curvature: float | Tensor) -> Tensor:
    """Tangent coordinates of ambient points ``(..., d + 1)``; inverse of the above."""
    k = _as_curvature(curvature, x)
    s = safe_norm(x[..., 1:])
    root = torch.where(k > 0, k, 1.0).sqrt()
    r = torch.where(
        k > 0, torch.atan2(root * s, x[..., 0]) / root, _arcsine(torch.where(k > 0, 0.0, s), k)
    )
    ratio = torch.where(s > 0, r / torch.where(s > 0, s, 1.0), 1.0)
    return ratio.unsqueeze(-1) * x[..., 1:]


def squash(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Radial map :math:`r \mapsto \tanh(\sqrt\kappa r) / \sqrt\kappa` into a ball."""
    k = _as_curvature(curvature, u)
    return u * _tanc(-k * u.square().sum(-1, keepdim=True))


def tangent_to_stereographic(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Stereographic coordinates :math:`\tan_\kappa(r/2)\, \hat u`, the Poincaré ball's."""
    k = _as_curvature(curvature, u)
    return u * _tanc(k * u.square().sum(-1, keepdim=True) / 4) / 2


def stereographic_to_tangent(x: Tensor, curvature: float | Tensor) -> Tensor:
    """Tangent coordinates of stereographic points; inverse of the above."""
    k = _as_curvature(curvature, x)
    return 2 * x * _atanc(k * x.square().sum(-1, keepdim=True))


def tangent_to_half_plane(u: Tensor) -> Tensor:
    r"""Upper half space of curvature -1, last coordinate positive, origin at ``(0, ..., 1)``.

    .. math:: y = \bigl(S \hat u_{<d},\, 1\bigr) / (C - S \hat u_d)

    with the denominator written as :math:`e^{-r} + S (1 - \hat u_d)`.
    """
    r = safe_norm(u)
    unit = safe_unit(u)
    scale = torch.exp(-r) + torch.sinh(r) * _one_minus_last(unit)
    spatial = _sinc(-u.square().sum(-1, keepdim=True)) * u[..., :-1]
    return torch.cat([spatial, torch.ones_like(spatial[..., :1])], -1) / scale.unsqueeze(-1)


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


def metric_tensor(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Metric tensor :math:`\sigma^2 I + (1 - \sigma^2) \hat u \hat u^\top`.

    Here :math:`\sigma = S(r)/r`.

    Smooth at the origin: :math:`(1 - \sigma^2) / r^2` is a power series there.
    """
    k = _as_curvature(curvature, u)
    x = (k * u.square().sum(-1))[..., None, None]
    square = _sinc(x).square()
    outside = (1 - square) / torch.where(x.abs() < _SERIES_BELOW, 1.0, x)
    y = torch.where(x.abs() < _SERIES_BELOW, x, 0.0)
    series = 1 / 3 - y * (2 / 45 - y * (1 / 315 - y * (2 / 14175 - y * 2 / 467775)))
    radial = k * torch.where(x.abs() < _SERIES_BELOW, series, outside)
    identity = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
    return square * identity + radial * u.unsqueeze(-1) * u.unsqueeze(-2)


def orthonormal_frame(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Inverse root of the metric tensor.

    .. math:: \hat u \hat u^\top + (I - \hat u \hat u^\top) / \sigma

    Written out, since far out in hyperbolic space the tensor itself has lost its radial part.
    """
    k = _as_curvature(curvature, u)
    inverse = 1 / _sinc((k * u.square().sum(-1))[..., None, None])
    unit = safe_unit(u)
    identity = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
    return inverse * identity + (1 - inverse) * unit.unsqueeze(-1) * unit.unsqueeze(-2)


def log_volume(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Log density :math:`(d - 1) \log (S(r)/r)` of the Riemannian volume, ``(...,)``."""
    k = _as_curvature(curvature, u)
    x = k * u.square().sum(-1)
    s = _root(x)
    log_sinhc = s + torch.log(-torch.expm1(-2 * s) / (2 * s))
    log_sinc = torch.where(x < -_SERIES_BELOW, log_sinhc, torch.log(_sinc(x.clamp(min=-1.0)).abs()))
    return (u.shape[-1] - 1) * log_sinc


def _to_frame(u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """Orthonormal polar frame components of a coordinate vector: tangentials times S(r)/r."""
    unit = safe_unit(u)
    radial = (unit * v).sum(-1, keepdim=True) * unit
    return radial + _sinc(k * u.square().sum(-1, keepdim=True)) * (v - radial)


def _from_frame(u: Tensor, a: Tensor, k: Tensor) -> Tensor:
    unit = safe_unit(u)
    radial = (unit * a).sum(-1, keepdim=True) * unit
    return radial + (a - radial) / _sinc(k * u.square().sum(-1, keepdim=True))


def expmap(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Exponential map in closed form.

    With :math:`t = |v|_G` and :math:`A` the angle of ``v`` to the outward ray, the end has
    radial part :math:`S(r+t) - 2 C(r) S(t) \sin^2(A/2)` along :math:`\hat u` (written
    as :math:`S(r-t) + 2 C(r) S(t) \cos^2(A/2)` for inward steps) and :math:`S(t) \sin A` across.

    Arguments:
        u: Tangent coordinates of the base, ``(..., d)``.
        v: Coordinate vector at ``u``, ``(..., d)``.
        curvature: Sectional curvature.

    Returns:
        Tangent coordinates of the end point, ``(..., d)``.
    """
    k = _as_curvature(curvature, u)
    a = _to_frame(u, v, k)
    r, t = safe_norm(u).unsqueeze(-1), safe_norm(a).unsqueeze(-1)
    unit, direction = safe_unit(u), safe_unit(a)
    cos_a = (unit * direction).sum(-1, keepdim=True)
    sin2_half = (direction - unit).square().sum(-1, keepdim=True) / 4
    cos2_half = (direction + unit).square().sum(-1, keepdim=True) / 4
    twist = 2 * cosine(r, k) * sine(t, k)
    outward = sine(r + t, k) - twist * sin2_half
    inward = sine(r - t, k) + twist * cos2_half
    along = torch.where(cos_a > 0, outward, inward)
    along = torch.where((r == 0) | (t == 0), sine(r, k), along)
    space = along * unit + sine(t, k) * (direction - cos_a * unit)
    height = cosine(r, k) * cosine(t, k) - k * sine(r, k) * sine(t, k) * cos_a
    return ambient_to_tangent(torch.cat([height, space], -1), k)


def logmap(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Logarithm, inverse of :func:`expmap`.

    In the polar frame at ``u`` the direction to ``v`` is

    .. math::

        \bigl(S(r_v - r_u) - 2 S(r_v) C(r_u) \sin^2(\theta/2),\; S(r_v) \sin\theta\bigr) / S(d) .

    Antipodes of a sphere have no unique logarithm; one of the minimisers is returned.

    Returns:
        Coordinate vector at ``u``, ``(..., d)``.
    """
    k = _as_curvature(curvature, u)
    r_u, r_v = safe_norm(u).unsqueeze(-1), safe_norm(v).unsqueeze(-1)
    unit_u, unit_v = safe_unit(u), safe_unit(v)
    unit_u = torch.where(r_u > 0, unit_u, unit_v)
    gap = unit_v - unit_u
    sin2_half = torch.where(r_v > 0, gap.square().sum(-1, keepdim=True) / 4, 0.0)
    along = (
        sine(-_radius_gap(u, v).unsqueeze(-1), k) - 2 * sine(r_v, k) * cosine(r_u, k) * sin2_half
    )
    across = sine(r_v, k) * (gap + 2 * sin2_half * unit_u)
    across = torch.where(r_v > 0, across, 0.0)
    direction = safe_unit(along * unit_u + across)
    return _from_frame(u, direction * dist(u, v, k).unsqueeze(-1), k)


def transp(u: Tensor, v: Tensor, w: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Parallel transport of ``w`` from ``u`` to ``v`` along their geodesic.

    The triangle (origin, u, v) turns the polar frame by its angle excess
    :math:`\epsilon = \kappa \cdot \text{area}`, in the plane of the triangle, with
    :math:`\tan(\epsilon/2) = \kappa T_u T_v \sin\theta / (1 + \kappa T_u T_v \cos\theta)`,
    :math:`T = \tan_\kappa(r/2)`; transport along the two rays leaves frame vectors as they are.

    Returns:
        Coordinate vector at ``v``, ``(..., d)``.
    """
    k = _as_curvature(curvature, u)
    p, q = tangent_to_stereographic(u, k), tangent_to_stereographic(v, k)
    a = _to_frame(u, w, k)
    return _from_frame(v, _rotate_by_excess(p, q, a, k), k)


def _rotate_by_excess(p: Tensor, q: Tensor, a: Tensor, k: Tensor) -> Tensor:
    """The gyration of curvature k applied to a: x -> z x / |z| with z = 1 + k q p* in the plane."""
    dot = (p * q).sum(-1, keepdim=True)
    real = 1 + k * dot
    wedge = q * (p * a).sum(-1, keepdim=True) - p * (q * a).sum(-1, keepdim=True)
    p2, q2 = p.square().sum(-1, keepdim=True), q.square().sum(-1, keepdim=True)
    sine2 = p2 * q2 - dot.square()
    size = real.square() + k * k * sine2
    twice = q * (p * wedge).sum(-1, keepdim=True) - p * (q * wedge).sum(-1, keepdim=True)
    return a + 2 * k * (real * wedge + k * twice) / size
