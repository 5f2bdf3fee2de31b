import math

import pytest
import torch

from latentgeom.metrics import constant_curvature as cc

CURVATURES = [1.0, 0.3, 1e-9, 0.0, -1e-9, -0.5, -1.0]


def points(generator, *shape, scale=0.8):
    return torch.randn(*shape, generator=generator) * scale


def exact_dist(u, v, k):
    """Law of cosines in ambient coordinates."""
    s = abs(k) ** 0.5
    x, y = cc.tangent_to_ambient(u, k), cc.tangent_to_ambient(v, k)
    inner = x[..., 0] * y[..., 0] + k * (x[..., 1:] * y[..., 1:]).sum(-1)
    return (torch.acos(inner.clamp(-1, 1)) if k > 0 else torch.acosh(inner.clamp(min=1))) / s


@pytest.mark.parametrize("k", [1.0, 0.3, -0.5, -1.0])
def test_distance_obeys_the_law_of_cosines(generator, k):
    u, v = points(generator, 2, 500, 3)
    torch.testing.assert_close(cc.dist(u, v, k), exact_dist(u, v, k), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [0.0, 1e-9, -1e-9])
def test_flat_space_is_the_limit(generator, k):
    u, v = points(generator, 2, 100, 3)
    torch.testing.assert_close(cc.dist(u, v, k), (u - v).norm(dim=-1), rtol=1e-7, atol=0)
    torch.testing.assert_close(cc.expmap(u, v, k), u + v, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(cc.logmap(u, v, k), v - u, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("k", CURVATURES)
def test_exponential_inverts_logarithm_and_keeps_the_length(generator, k):
    u, v = points(generator, 2, 500, 3)
    w = cc.logmap(u, v, k)
    torch.testing.assert_close(cc.expmap(u, w, k), v, rtol=1e-10, atol=1e-10)
    length = torch.einsum("bi,bij,bj->b", w, cc.metric_tensor(u, k), w).sqrt()
    torch.testing.assert_close(length, cc.dist(u, v, k), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("k", CURVATURES)
def test_transport_keeps_inner_products_and_turns_the_velocity(generator, k):
    u, v, a, b = points(generator, 4, 500, 3)
    here, there = cc.metric_tensor(u, k), cc.metric_tensor(v, k)
    a_moved, b_moved = cc.transp(u, v, a, k), cc.transp(u, v, b, k)
    before = torch.einsum("bi,bij,bj->b", a, here, b)
    after = torch.einsum("bi,bij,bj->b", a_moved, there, b_moved)
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
    velocity = cc.transp(u, v, cc.logmap(u, v, k), k)
    torch.testing.assert_close(velocity, -cc.logmap(v, u, k), rtol=1e-9, atol=1e-9)


def test_holonomy_of_a_spherical_triangle_is_its_area(generator):
    a, b, c = points(generator, 3, 200, 2, scale=0.6)
    w = points(generator, 200, 2)
    moved = cc.transp(c, a, cc.transp(b, c, cc.transp(a, b, w, 1.0), 1.0), 1.0)
    x, y, z = (cc.tangent_to_ambient(p, 1.0) for p in (a, b, c))
    volume = torch.linalg.det(torch.stack([x, y, z], -1)).abs()
    dots = (x * y).sum(-1) + (y * z).sum(-1) + (z * x).sum(-1)
    area = 2 * torch.atan2(volume, 1 + dots)
    frame = torch.linalg.cholesky(cc.metric_tensor(a, 1.0)).mT
    before, after = ((frame @ q.unsqueeze(-1)).squeeze(-1) for q in (w, moved))
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    angle = torch.atan2(cross.abs(), (before * after).sum(-1))
    area = torch.minimum(area, 2 * torch.pi - area)  # angles are known up to a full turn
    torch.testing.assert_close(angle, area, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("k", [1.0, 0.3, -0.5, -1.0])
def test_metric_tensor_is_the_pullback_of_the_ambient_form(generator, k):
    u = points(generator, 100, 3)
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda q: cc.tangent_to_ambient(q, k)))(u)
    form = torch.diag(torch.tensor([1 / k, 1.0, 1.0, 1.0]))
    tensor = cc.metric_tensor(u, k)
    torch.testing.assert_close(tensor, jacobian.mT @ form @ jacobian, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(cc.log_volume(u, k), torch.logdet(tensor) / 2)


@pytest.mark.parametrize("k", [1.0, -1.0])
def test_charts_are_inverse_to_each_other(generator, k):
    u = points(generator, 200, 3)
    for there, back in (
        (cc.tangent_to_ambient, cc.ambient_to_tangent),
        (cc.tangent_to_stereographic, cc.stereographic_to_tangent),
    ):
        torch.testing.assert_close(back(there(u, k), k), u, rtol=1e-12, atol=1e-12)


def test_half_space_and_ball_carry_the_same_distance(generator):
    u, v = points(generator, 2, 200, 3)
    x, y = cc.tangent_to_half_plane(u), cc.tangent_to_half_plane(v)
    torch.testing.assert_close(cc.half_plane_to_tangent(x), u)
    expected = cc.dist(u, v, -1.0)
    torch.testing.assert_close(cc.half_plane_dist(x, y), expected)
    p, q = cc.tangent_to_stereographic(u, -1.0), cc.tangent_to_stereographic(v, -1.0)
    p2, q2 = 1 - p.square().sum(-1), 1 - q.square().sum(-1)
    ball = torch.acosh(1 + 2 * (p - q).square().sum(-1) / (p2 * q2))
    torch.testing.assert_close(ball, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("radius", [0.0, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("separation", [1e-4, 1e-2, 1.0, 20.0])
def test_float32_hyperbolic_distance_is_accurate(generator, radius, separation):
    u = cc.safe_unit(points(generator, 300, 2)) * radius
    direction = cc.safe_unit(points(generator, 300, 2))
    shrink = radius / math.sinh(radius) if radius else 1.0
    outward = cc.safe_unit(u)
    radial = (direction * outward).sum(-1, keepdim=True) * outward
    v = cc.expmap(u, (radial + shrink * (direction - radial)) * separation, -1.0)
    u, v = u.float(), v.float()
    exact = cc.dist(u.double(), v.double(), -1.0)
    apart = exact > 0
    assert apart.sum() > 100
    got = cc.dist(u, v, -1.0)
    assert got.dtype == torch.float32
    assert ((got - exact).abs()[apart] / exact[apart]).max() < 1e-5
    leaf = u.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cc.dist(leaf, v, -1.0).sum(), leaf)
    assert torch.isfinite(gradient).all()
    (at_same,) = torch.autograd.grad(cc.dist(leaf, u, -1.0).sum(), leaf)
    assert torch.equal(at_same, torch.zeros_like(u))


@pytest.mark.parametrize("k", [1.0, 0.0, -1.0])
def test_gradients_are_right_and_vanish_at_coincident_points(generator, k):
    u, v = points(generator, 2, 5, 2)
    curvature = torch.tensor(k, requires_grad=True)
    inputs = (u.requires_grad_(), v.requires_grad_(), curvature)
    assert torch.autograd.gradcheck(cc.dist, inputs)
    (at_same,) = torch.autograd.grad(cc.dist(u, u.detach(), k).sum(), u)
    assert torch.equal(at_same, torch.zeros_like(u))
    origin = torch.zeros(5, 2, requires_grad=True)
    (at_origin,) = torch.autograd.grad(cc.dist(origin, v.detach(), k).sum(), origin)
    torch.testing.assert_close(at_origin, -cc.safe_unit(v.detach()))


def test_antipodes_are_half_a_circle_apart(generator):
    u = cc.safe_unit(points(generator, 50, 2)) * 0.7
    antipode = cc.safe_unit(u) * (0.7 - math.pi)
    torch.testing.assert_close(cc.dist(u, antipode, 1.0), torch.full((50,), math.pi))
