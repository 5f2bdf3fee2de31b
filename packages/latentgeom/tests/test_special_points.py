"""Derivatives at the points where formulas like to break, and values far out."""

import math
import pickle

import pytest
import torch

from latentgeom import (
    ConstantCurvature,
    Euclidean,
    PositiveDefinite,
    Product,
    Scaled,
    half_plane,
    poincare_ball,
    poincare_ellipsoid,
)
from latentgeom.metrics import constant_curvature as cc

SHAPE = torch.tensor([[1.5, 0.3], [0.3, 0.8]], dtype=torch.float64)
METRICS = {
    "euclidean": lambda: Euclidean(2),
    "flat": lambda: ConstantCurvature(2, 0.0),
    "sphere": lambda: ConstantCurvature(2, 0.9),
    "hyperbolic": lambda: ConstantCurvature(2, -1.3),
    "barely round": lambda: ConstantCurvature(2, 1e-14),
    "barely hyperbolic": lambda: ConstantCurvature(2, -1e-14),
    "scaled": lambda: Scaled(ConstantCurvature(2, -1.0), 2.5),
    "product": lambda: Product([ConstantCurvature(2, -1.0), ConstantCurvature(1, 1.0)]),
    "ball": lambda: poincare_ball(2, -0.7),
    "half plane": lambda: half_plane(2),
    "ellipsoid": lambda: poincare_ellipsoid(SHAPE),
    "positive definite": lambda: PositiveDefinite(2),
}
PLACES = {
    "generic": (0.3, 0.7, 0.4),
    "at the origin": (0.0, 0.7, 0.4),
    "to the origin": (0.3, 0.0, 0.4),
    "coincident": (0.3, 0.3, 0.4),
    "both at the origin": (0.0, 0.0, 0.4),
    "zero vector": (0.3, 0.7, 0.0),
    "all at zero": (0.0, 0.0, 0.0),
}
DIRECTIONS = torch.tensor([[0.8, -0.5, 0.3], [0.4, 0.9, -0.6], [-0.7, 0.6, 0.5]])


def at(metric, place):
    """Two points and a vector: on one ray where their factors say so."""
    first, second, third = PLACES[place]
    u, v, w = (DIRECTIONS[i, : metric.dim].double() for i in range(3))
    v = u if place == "coincident" else v
    shift = metric.origin.double()
    return [shift + first * u, shift + second * v, third * w]


def functions(metric):
    return {
        "exp": lambda a, b, w: metric.expmap(a, w),
        "log": lambda a, b, w: metric.logmap(a, b),
        "transport": lambda a, b, w: metric.transp(a, b, w),
        "squared distance": lambda a, b, w: metric.squared_dist(a, b),
        "tensor": lambda a, b, w: metric.metric_tensor(a),
        "exp frame": lambda a, b, w: metric.exp_frame(a, w),
        "log frame": lambda a, b, w: metric.log_frame(a, b),
        "to frame": lambda a, b, w: metric.to_frame(a, w),
        "from frame": lambda a, b, w: metric.from_frame(a, w),
        "transport of frames": lambda a, b, w: metric.transp_frame(a, b, w),
        "geodesic": lambda a, b, w: metric.geodesic(a, b, torch.tensor([0.3])),
    }


@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", METRICS)
def test_first_derivatives_are_those_of_differences(name, place, fast):
    metric = METRICS[name]()
    inputs = [x.clone().requires_grad_() for x in at(metric, place)]
    for what, function in functions(metric).items():
        used = lambda *x, f=function: f(*x) + 0 * sum(y.sum() for y in x)  # noqa: E731
        assert torch.autograd.gradcheck(used, inputs, atol=2e-6, rtol=1e-4, fast_mode=fast), what


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", METRICS)
def test_second_derivatives_are_those_of_differences(name, place):
    metric = METRICS[name]()
    inputs = [x.clone().requires_grad_() for x in at(metric, place)]
    for what in ("exp", "log", "squared distance", "transport"):
        function = functions(metric)[what]
        used = lambda *x, f=function: f(*x) + sum(0 * y.square().sum() for y in x)  # noqa: E731
        assert torch.autograd.gradgradcheck(used, inputs, atol=1e-4, rtol=1e-3), what


@pytest.mark.parametrize("name", METRICS)
def test_norms_have_no_gradient_at_zero_and_the_right_one_elsewhere(name):
    metric = METRICS[name]()
    a, _, w = at(metric, "generic")
    zero = torch.zeros_like(w).requires_grad_()
    (gradient,) = torch.autograd.grad(metric.norm(a, zero), zero)
    assert torch.equal(gradient, torch.zeros_like(w))
    assert torch.autograd.gradcheck(metric.norm, (a.requires_grad_(), w.requires_grad_()))


@pytest.mark.parametrize("place", ["generic", "at the origin"])
@pytest.mark.parametrize("name", METRICS)
def test_squared_distances_have_twice_the_metric_as_hessian(name, place):
    metric = METRICS[name]()
    a = at(metric, place)[0]
    hessian = torch.autograd.functional.hessian(lambda x: metric.squared_dist(x, a), a.clone())
    torch.testing.assert_close(hessian, 2 * metric.metric_tensor(a), rtol=1e-8, atol=1e-8)


def test_matrices_with_equal_eigenvalues_are_differentiable(generator):
    metric = PositiveDefinite(3)
    identity = metric.from_matrix(torch.eye(3))
    a, b = (0.4 * identity).requires_grad_(), (-0.3 * identity).requires_grad_()
    w = torch.randn(6, generator=generator).requires_grad_()
    for function in (metric.logmap, metric.squared_dist, metric.expmap):
        assert torch.autograd.gradcheck(function, (a, b))
        assert torch.autograd.gradgradcheck(function, (a, b), atol=1e-4)
    assert torch.autograd.gradcheck(metric.expmap, (a, w))
    assert torch.autograd.gradcheck(metric.dist, (a, b))


@pytest.mark.parametrize("k", [1e-6, 1e-10, 1e-14, 1e-20, 0.0, -1e-14, -1e-10, -1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_in_the_curvature_is_finite_through_zero(k, dtype):
    u, v = torch.tensor([0.7, 0.2], dtype=dtype), torch.tensor([-0.3, 0.9], dtype=dtype)
    curvature = torch.tensor(k, dtype=dtype, requires_grad=True)
    cc.dist(u, v, curvature).backward()
    slope = (cc.dist(u.double(), v.double(), 1e-4) - cc.dist(u.double(), v.double(), -1e-4)) / 2e-4
    assert abs(float(curvature.grad) - float(slope)) < 1e-6


def test_curvature_is_kept_in_double_precision():
    radius = 0.3
    metric = ConstantCurvature(2, 1 / radius**2)
    half = torch.tensor([radius * math.pi / 2, 0.0])
    error = metric.dist(half, -half) / (math.pi * radius) - 1
    assert abs(float(error)) < 1e-14


def hyperbolic_dist(u, v):
    """Distance by the law of cosines in many digits."""
    import mpmath

    mpmath.mp.dps = 400
    out = []
    for a, b in zip(u.double().tolist(), v.double().tolist(), strict=True):
        a, b = [mpmath.mpf(x) for x in a], [mpmath.mpf(x) for x in b]
        r, s = (mpmath.sqrt(sum(x * x for x in p)) for p in (a, b))
        cos = sum(x * y for x, y in zip(a, b, strict=True)) / (r * s)
        inner = mpmath.cosh(r) * mpmath.cosh(s) - mpmath.sinh(r) * mpmath.sinh(s) * cos
        out.append(float(mpmath.acosh(inner)))
    return torch.tensor(out)


FAR = [
    (torch.float32, 12.0, 1e-4), (torch.float32, 30.0, 1e-4), (torch.float32, 60.0, 1e-4),
    (torch.float64, 20.0, 1e-10), (torch.float64, 100.0, 1e-10), (torch.float64, 300.0, 1e-10),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "radius", "bound"), FAR)
@pytest.mark.parametrize("make", [
    lambda: ConstantCurvature(3, -1.0), lambda: Scaled(ConstantCurvature(3, -1.0), 2.0),
    lambda: Product([ConstantCurvature(3, -1.0), Euclidean(1)]),
], ids=["plain", "scaled", "product"])  # fmt: skip
def test_far_out_distances_midpoints_and_frames_keep_their_digits(
    generator, make, dtype, radius, bound
):
    metric = make()
    scale = 2.0 if isinstance(metric, Scaled) else 1.0
    u, v = (cc.safe_unit(torch.randn(40, 3, generator=generator)) * radius for _ in range(2))
    near = u + 0.1 * torch.randn(40, 3, generator=generator)
    u, v = torch.cat([u, u]).to(dtype), torch.cat([v, near]).to(dtype)
    exact = scale * hyperbolic_dist(u, v)
    pad = (0, metric.dim - 3)
    u, v = (torch.nn.functional.pad(x, pad) for x in (u, v))

    def off(value):
        return ((value.double() - exact) / exact).abs().max()

    assert off(metric.dist(u, v)) < bound
    middle = metric.geodesic(u, v, torch.tensor([0.5], dtype=dtype)).squeeze(-2)
    for end in (u, v):
        half = scale * hyperbolic_dist(end[:, :3], middle[:, :3])
        # The middle itself is rounded to its precision, by which it may miss.
        slack = torch.finfo(dtype).eps * 16 * middle.double().norm(dim=-1) / exact
        assert (((2 * half - exact) / exact).abs() <= bound + slack).all()
    logs = metric.log_frame(u, v)
    assert off(logs.norm(dim=-1)) < bound
    assert torch.isfinite(logs).all()
    carried = metric.transp_frame(u, v, logs)
    torch.testing.assert_close(carried, -metric.log_frame(v, u), rtol=100 * bound, atol=bound)
    assert off(metric.norm(u, metric.from_frame(u, logs))) < 1e-2 or radius > 12


@pytest.mark.parametrize("radius", [1.0, 12.0])
def test_frames_are_inverse_to_themselves_far_out(generator, radius):
    metric = ConstantCurvature(3, -1.0)
    u = cc.safe_unit(torch.randn(40, 3, generator=generator)) * radius
    a = 2 * radius * torch.randn(40, 3, generator=generator)
    v = metric.exp_frame(u, a)
    torch.testing.assert_close(metric.dist(u, v), a.norm(dim=-1), rtol=1e-9, atol=0)
    close = a.norm(dim=-1) < 15  # beyond, v has lost its direction as seen from u
    torch.testing.assert_close(metric.log_frame(u, v)[close], a[close], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_pickles_and_broadcasts(name):
    metric = pickle.loads(pickle.dumps(METRICS[name]()))
    a, b, w = at(metric, "generic")
    many = a.expand(4, 1, -1), b.expand(3, -1), w.expand(4, 3, -1)
    close = torch.testing.assert_close
    close(metric.expmap(a, many[2])[1, 2], metric.expmap(a, w))
    close(metric.logmap(*many[:2])[1, 2], metric.logmap(a, b))
    close(metric.transp(*many)[1, 2], metric.transp(a, b, w))
    t = torch.tensor([0.2, 0.9])
    close(metric.geodesic(*many[:2], t)[1, 2], metric.geodesic(a, b, t))


@pytest.mark.parametrize("name", METRICS)
def test_every_chosen_metric_connects_and_has_means(name, generator):
    metric = METRICS[name]()
    z = metric.projx(0.5 * torch.randn(9, metric.dim, generator=generator))
    weights = 0.2 + torch.rand(9, generator=generator)
    batch = metric.connect(z[:4], z[4:8], num_segments=8)
    torch.testing.assert_close(batch.length, metric.dist(z[:4], z[4:8]))
    assert batch.converged.all()
    found = metric.mean(z, weights)
    assert found.converged
    logs = metric.log_frame(found.mean.expand_as(z), z)
    assert (weights[:, None] * logs).sum(0).norm() < 1e-9
    torch.testing.assert_close(
        found.variance, (weights * metric.squared_dist(found.mean, z)).sum() / weights.sum()
    )
    with pytest.raises(ValueError, match="one positive number a point"):
        metric.mean(z, weights[:3])
