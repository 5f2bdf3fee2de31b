r"""Spaces of constant curvature in tangent coordinates, right at the origin and far out.

A point is stored as :math:`u = \log_0(x) \in \mathbb{R}^d`, so hyperbolic space has no
boundary to fall off.  One family covers all curvatures, smooth through :math:`\kappa = 0`
(:mod:`latentgeom.metrics.trigonometry`).  Distances follow the haversine law

.. math::

    S(d/2)^2 = S\bigl((r_u - r_v)/2\bigr)^2 + S(r_u)\, S(r_v) \sin^2(\theta / 2) .

The metric tensor is :math:`G(u) = \hat u \hat u^\top + (S(r)/r)^2 (I - \hat u \hat u^\top)`.
Vectors have components in the **polar frame** at :math:`u` too, the parallel transport of the
origin's axes along the ray: orthonormal, so that lengths are plain norms.  With
:math:`s = s(\kappa r^2)` and :math:`q = (1 - s) / \kappa r^2`

.. math::

    a = s\, v + \kappa q\, u \langle u, v \rangle , \qquad
    v = a / s - \kappa (q / s)\, u \langle u, a \rangle .

Far out in hyperbolic space coordinate vectors have lost their tangential digits by
:math:`e^r`; frames have not.  All maps work in double precision, whatever they are given, and
with logarithms where :math:`\sinh` would overflow.

References:
    Ungar (2008), A Gyrovector Space Approach to Hyperbolic Geometry;
    Skopek, Ganea & Becigneul (2020), Mixed-curvature Variational Autoencoders.
"""

import torch
from torch import Tensor

from latentgeom.metrics.coordinates import (
    ambient_to_tangent,
    half_plane_dist,
    half_plane_to_tangent,
    squash,
    stereographic_to_tangent,
    tangent_to_ambient,
    tangent_to_half_plane,
    tangent_to_stereographic,
)
from latentgeom.metrics.far_out import far_dist, far_exp, far_geodesic, far_log, far_turn, nowhere
from latentgeom.metrics.trigonometry import (
    arc_ratio,
    as_curvature,
    asinhc,
    cosine,
    direction_gap,
    dot,
    half_versine,
    one_minus_sinc,
    radius_gap,
    safe_norm,
    safe_unit,
    sinc,
    sine,
)

__all__ = [
    "ambient_to_tangent",
    "cosine",
    "dist",
    "exp_frame",
    "expmap",
    "from_frame",
    "geodesic",
    "half_plane_dist",
    "half_plane_to_tangent",
    "log_frame",
    "log_volume",
    "logmap",
    "metric_tensor",
    "orthonormal_frame",
    "safe_norm",
    "safe_unit",
    "sine",
    "squared_dist",
    "squash",
    "stereographic_to_tangent",
    "tangent_to_ambient",
    "tangent_to_half_plane",
    "tangent_to_stereographic",
    "to_frame",
    "transp",
    "transp_frame",
]

_NEAR = 1e-2  # |curvature| r² below which a point counts as the origin's neighbour
_SERIES_BELOW = 1e-2
_FAR = 30.0  # radius, in units of the curvature, beyond which sines are logarithms


def _half_chord_from_origin(u: Tensor, v: Tensor, r_u: Tensor, r_v: Tensor, k: Tensor) -> Tensor:
    """S(d/2) when one point is the origin, smooth in both points there."""
    h_u, h_v = sine(r_u / 2, k).square(), sine(r_v / 2, k).square()
    dot = sinc(k * u.square().sum(-1)) * sinc(k * v.square().sum(-1)) * (u * v).sum(-1)
    square = h_u + h_v - 2 * k * h_u * h_v - dot / 2
    zero = square <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _half_chord(u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """S(d/2) of the haversine law."""
    r_u, r_v = safe_norm(u), safe_norm(v)
    product = sine(r_u, k) * sine(r_v, k)
    root = torch.where(product > 0, product, 1.0).sqrt()
    across = torch.where(product > 0, root, 0.0) * safe_norm(direction_gap(u, v)) / 2
    polar = safe_norm(torch.stack([sine(radius_gap(u, v) / 2, k), across], -1))
    at_origin = (r_u == 0) | (r_v == 0)
    return torch.where(at_origin, _half_chord_from_origin(u, v, r_u, r_v, k), polar)


def _is_far(u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """Where squares of sines could overflow."""
    size = torch.maximum(u.square().sum(-1), v.square().sum(-1))
    return -k * size > _FAR**2


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
    u, v, k, dtype = _in_double(u, v, curvature)
    far = _is_far(u, v, k)
    near_u, near_v = (torch.where(far.unsqueeze(-1), 0.0, x) for x in (u, v))
    half = _half_chord(near_u, near_v, k)
    x = k * half.square()
    series = x < 0.25
    positive = torch.where(k > 0, k, 1.0)
    toward = tangent_to_ambient(near_u, positive) + tangent_to_ambient(near_v, positive)
    scale = torch.cat([torch.ones_like(toward[..., :1]), positive.sqrt().expand_as(u)], -1)
    root = positive.sqrt()
    arc = (
        2 * torch.atan2(root * torch.where(series, 1.0, half), safe_norm(toward * scale) / 2) / root
    )
    near = torch.where(series, 2 * half * asinhc(torch.where(series, x, 0.0)), arc)
    if nowhere(far):
        return near.to(dtype)
    return torch.where(far, far_dist(u, v, k, far), near).to(dtype)


def squared_dist(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    """Squared distance, smooth at coincident points, where its Hessian is ``2 G``."""
    return log_frame(u, v, curvature).square().sum(-1)


def _in_double(
    u: Tensor, v: Tensor, curvature: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    """Points of one shape and the curvature in double precision, and the precision to answer in."""
    dtype = torch.promote_types(u.dtype, v.dtype)
    u, v = torch.broadcast_tensors(u.double(), v.double())  # type: ignore[no-untyped-call]
    return u, v, as_curvature(curvature, u), dtype


def metric_tensor(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Metric tensor :math:`\sigma^2 I + (1 - \sigma^2) \hat u \hat u^\top`.

    Here :math:`\sigma = S(r)/r`.

    Smooth at the origin: :math:`(1 - \sigma^2) / r^2` is a power series there.
    """
    k = as_curvature(curvature, u)
    x = (k * u.square().sum(-1))[..., None, None]
    square = sinc(x).square()
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
    k = as_curvature(curvature, u)
    inverse = 1 / sinc((k * u.square().sum(-1))[..., None, None])
    unit = safe_unit(u)
    identity = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
    return inverse * identity + (1 - inverse) * unit.unsqueeze(-1) * unit.unsqueeze(-2)


def log_volume(u: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Log density :math:`(d - 1) \log (S(r)/r)` of the Riemannian volume, ``(...,)``."""
    k = as_curvature(curvature, u)
    x = k * u.square().sum(-1)
    s = torch.where(x.abs() < _SERIES_BELOW, 1.0, x).abs().sqrt()
    log_sinhc = s + torch.log(-torch.expm1(-2 * s) / (2 * s))
    log_sinc = torch.where(x < -_SERIES_BELOW, log_sinhc, torch.log(sinc(x.clamp(min=-1.0)).abs()))
    return (u.shape[-1] - 1) * log_sinc


def to_frame(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    """Components in the polar frame at ``u`` of a coordinate vector, ``(..., d)``."""
    u, v, k, dtype = _in_double(u, v, curvature)
    x = k * dot(u, u)
    near = x.abs() < _NEAR
    smooth = sinc(x) * v + k * one_minus_sinc(x) * u * dot(u, v)
    unit = u / torch.where(near, 1.0, dot(u, u)).sqrt()
    radial = unit * dot(unit, v)
    return torch.where(near, smooth, radial + sinc(x) * (v - radial)).to(dtype)


def from_frame(u: Tensor, a: Tensor, curvature: float | Tensor) -> Tensor:
    """The coordinate vector with given components in the polar frame, ``(..., d)``."""
    u, a, k, dtype = _in_double(u, a, curvature)
    x = k * dot(u, u)
    near = x.abs() < _NEAR
    inside = torch.where(near, x, 0.0)
    smooth = (a - k * one_minus_sinc(inside) * u * dot(u, a)) / sinc(inside)
    unit = u / torch.where(near, 1.0, dot(u, u)).sqrt()
    radial = unit * dot(unit, a)
    return torch.where(near, smooth, radial + (a - radial) / sinc(x)).to(dtype)


def expmap(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Exponential map in closed form.

    Arguments:
        u: Tangent coordinates of the base, ``(..., d)``.
        v: Coordinate vector at ``u``, ``(..., d)``.
        curvature: Sectional curvature.

    Returns:
        Tangent coordinates of the end point, ``(..., d)``.
    """
    dtype = torch.promote_types(u.dtype, v.dtype)
    u, v = u.double(), v.double()
    return exp_frame(u, to_frame(u, v, curvature), curvature).to(dtype)


def exp_frame(u: Tensor, a: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Exponential map of frame components, in the ambient model.

    With :math:`t = |a|`, :math:`h = (1 - \cos \sqrt{\kappa} r) / \kappa r^2`

    .. math::

        C(t)\, s(\kappa r^2)\, u + s(\kappa t^2)
            \bigl(a - \kappa h\, u \langle u, a \rangle\bigr), \qquad
        C(t)\, C(r) - \kappa\, s(\kappa t^2)\, s(\kappa r^2) \langle u, a \rangle

    are the space and height of the end point.
    """
    u, a, k, dtype = _in_double(u, a, curvature)
    x, y = k * dot(u, u), k * dot(a, a)
    far = (torch.minimum(-x, -y) > 1.0) | (torch.maximum(-x, -y) > _FAR**2)
    u_near, a_near = (torch.where(far, 0.0, z) for z in (u, a))
    x, y = k * dot(u_near, u_near), k * dot(a_near, a_near)
    one = torch.ones_like(x)
    cos_r, cos_t = cosine(one, x), cosine(one, y)
    toward = dot(u_near, a_near)
    space = cos_t * sinc(x) * u_near
    space = space + sinc(y) * (a_near - k * half_versine(x) * u_near * toward)
    height = cos_t * cos_r - k * sinc(y) * sinc(x) * toward
    near = space * arc_ratio(dot(space, space), height, k)
    if nowhere(far):
        return near.to(dtype)
    return torch.where(far, far_exp(u, a, k, far), near).to(dtype)


def logmap(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Logarithm, inverse of :func:`expmap`.

    Antipodes of a sphere have no unique logarithm; one of the minimisers is returned.

    Returns:
        Coordinate vector at ``u``, ``(..., d)``.
    """
    dtype = torch.promote_types(u.dtype, v.dtype)
    u, v = u.double(), v.double()
    return from_frame(u, log_frame(u, v, curvature), curvature).to(dtype)


def log_frame(u: Tensor, v: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Components of the logarithm in the polar frame at ``u``, ``(..., d)``.

    With :math:`y = s(\kappa r_v^2)\, v`

    .. math:: p = y - \kappa h\, u \langle u, y \rangle - s(\kappa r_u^2)\, C(r_v)\, u

    has the direction and the length :math:`S(d)`; it is multiplied by :math:`d / S(d)`.
    """
    u, v, k, dtype = _in_double(u, v, curvature)
    x_u, x_v = k * dot(u, u), k * dot(v, v)
    far = torch.minimum(-x_u, -x_v) > _NEAR
    u_near, v_near = (torch.where(far, 0.0, z) for z in (u, v))
    x_u, x_v = k * dot(u_near, u_near), k * dot(v_near, v_near)
    one = torch.ones_like(x_u)
    cos_u, cos_v = cosine(one, x_u), cosine(one, x_v)
    y = sinc(x_v) * v_near
    p = y - k * half_versine(x_u) * u_near * dot(u_near, y) - sinc(x_u) * cos_v * u_near
    cos = cos_u * cos_v + k * sinc(x_u) * dot(u_near, y)
    near = p * arc_ratio(dot(p, p), cos, k)
    if nowhere(far):
        return near.to(dtype)
    with torch.no_grad():
        close = -k * dist(u, v, k).square() < 1.0
    # Close points need no distance, whose second derivatives are none where they coincide.
    apart = far & ~close.unsqueeze(-1)
    length = dist(torch.where(apart, u, 1.0), torch.where(apart, v, 2.0), k)
    length = torch.where(apart, length.unsqueeze(-1), 0.0)
    return torch.where(far, far_log(u, v, length, k, far), near).to(dtype)


def geodesic(u: Tensor, v: Tensor, t: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Points at times ``t`` of the geodesic from ``u`` to ``v``, in the ambient model.

    .. math:: \bigl(S((1 - t) d)\, X + S(t d)\, Y\bigr) / S(d)

    Hyperbolic weights are logarithms; no vector in coordinates is made on the way.

    Arguments:
        u: Start points, ``(..., d)``.
        v: End points, ``(..., d)``.
        t: Times, ``(T,)``.
        curvature: Sectional curvature.

    Returns:
        Points, ``(..., T, d)``.
    """
    u, v, k, dtype = _in_double(u, v, curvature)
    u, v, t = u.unsqueeze(-2), v.unsqueeze(-2), t.double().unsqueeze(-1)
    length = dist(u, v, k).unsqueeze(-1)
    far = _is_far(u, v, k).unsqueeze(-1) | (-k * length.square() > 1.0)
    far = far & (torch.minimum(-k * dot(u, u), -k * dot(v, v)) > _NEAR)
    near_u, near_v = (torch.where(far, 0.0, x) for x in (u, v))
    step = log_frame(near_u, near_v, k)
    near = exp_frame(near_u.expand_as(t * step), t * step, k)
    if nowhere(far):
        return near.to(dtype)
    return torch.where(far, far_geodesic(u, v, t, length, k, far), near).to(dtype)


def transp(u: Tensor, v: Tensor, w: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Parallel transport of ``w`` from ``u`` to ``v`` along their geodesic.

    Returns:
        Coordinate vector at ``v``, ``(..., d)``.
    """
    dtype = torch.promote_types(torch.promote_types(u.dtype, v.dtype), w.dtype)
    u, v, w = u.double(), v.double(), w.double()
    moved = transp_frame(u, v, to_frame(u, w, curvature), curvature)
    return from_frame(v, moved, curvature).to(dtype)


def transp_frame(u: Tensor, v: Tensor, a: Tensor, curvature: float | Tensor) -> Tensor:
    r"""Parallel transport of frame components from ``u`` to ``v``, ``(..., d)``.

    Along the two rays frames stay as they are, so the triangle (origin, u, v) turns them by its
    angle excess :math:`\epsilon = \kappa \cdot \text{area}` in its plane, with

    .. math:: \tan(\epsilon/2) = \frac{\kappa T_u T_v \sin\theta}{1 + \kappa T_u T_v \cos\theta},
        \qquad T = \tan_\kappa(r/2) ;

    far out in hyperbolic space, where :math:`T` is one to all digits, with numerator and
    denominator multiplied by :math:`\cosh(r_u/2) \cosh(r_v/2)` and divided by their growth.
    """
    u, v, k, dtype = _in_double(u, v, curvature)
    a = a.double()
    far = torch.minimum(-k * dot(u, u), -k * dot(v, v)) > 1.0
    near_u, near_v = (torch.where(far, 0.0, x) for x in (u, v))
    p, q = tangent_to_stereographic(near_u, k), tangent_to_stereographic(near_v, k)
    near = _rotate_by_excess(p, q, a, k)
    if nowhere(far):
        return near.to(dtype)
    return torch.where(far, far_turn(u, v, a, k, far), near).to(dtype)


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
