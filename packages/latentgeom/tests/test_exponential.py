import math

import pytest
import torch

from latentgeom.immersions.curvature import levi_civita
from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.solvers.exponential import jacobi, refine_velocity, shoot


@pytest.fixture(params=[1.0, -1.0])
def metric(request):
    return ConstantCurvature(2, request.param)


def test_error_follows_the_tolerance(metric, generator):
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    v = metric.logmap(a, b)
    connection = levi_civita(metric.metric_tensor)
    for tolerance in (1e-6, 1e-9):
        end = shoot(connection, a, v, tolerance=tolerance).position
        assert (end - b).abs().max() < 30 * tolerance


def test_stiff_curves_take_their_own_steps(generator):
    metric = ConstantCurvature(2, 1.0)
    z = torch.zeros(2, 3, 2)
    v = torch.tensor([1e-3, 1.0, 3.0])[:, None] * torch.ones(2, 3, 2) / math.sqrt(2)
    end = shoot(levi_civita(metric.metric_tensor), z, v).position
    torch.testing.assert_close(end, v, rtol=1e-8, atol=1e-8)


def test_a_geodesic_that_leaves_the_domain_is_not_a_number():
    half_plane = lambda z: torch.eye(2) / (1 - z[..., 1:, None]).square()  # noqa: E731
    cliff = lambda z: half_plane(z) / (z[..., 1:, None] < 0.5)  # noqa: E731
    v = torch.tensor([[0.0, 2.0], [0.3, 0.0]])
    flow = shoot(levi_civita(cliff), torch.zeros(2, 2), v)
    assert flow.position[0].isnan().all()
    assert flow.position[1].isfinite().all()


def test_transport_keeps_inner_products(metric, generator):
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    vectors = torch.randn(20, 2, 2, generator=generator)
    connection = levi_civita(metric.metric_tensor)
    flow = shoot(connection, a, metric.logmap(a, b), vectors, tolerance=1e-12)
    before = vectors @ metric.metric_tensor(a) @ vectors.mT
    after = flow.carried @ metric.metric_tensor(flow.position) @ flow.carried.mT
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
    exact = metric.transp(a, b, vectors[:, 0])
    torch.testing.assert_close(flow.carried[:, 0], exact, rtol=1e-9, atol=1e-9)


def test_integrated_holonomy_of_a_spherical_triangle_is_its_area(generator):
    sphere = ConstantCurvature(2, 1.0)
    corners = torch.randn(3, 10, 2, generator=generator) * 0.6
    w = torch.randn(10, 2, generator=generator)
    connection = levi_civita(sphere.metric_tensor)
    moved = w.unsqueeze(1)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        velocity = sphere.logmap(corners[a], corners[b])
        moved = shoot(connection, corners[a], velocity, moved, tolerance=1e-11).carried
    x, y, z = (cc.tangent_to_ambient(p, 1.0) for p in corners)
    volume = torch.linalg.det(torch.stack([x, y, z], -1)).abs()
    area = 2 * torch.atan2(volume, 1 + (x * y).sum(-1) + (y * z).sum(-1) + (z * x).sum(-1))
    cosine = sphere.inner(corners[0], w, moved[:, 0]) / sphere.inner(corners[0], w, w)
    turned = torch.linalg.det(sphere.metric_tensor(corners[0])).sqrt() * (
        w[:, 0] * moved[:, 0, 1] - w[:, 1] * moved[:, 0, 0]
    )
    sine = turned.abs() / sphere.inner(corners[0], w, w)
    angle = torch.atan2(sine, cosine)
    area = torch.minimum(area, 2 * torch.pi - area)
    torch.testing.assert_close(angle, area, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("k", [1.0, -1.0])
def test_jacobi_fields_grow_as_curvature_says(k):
    metric = ConstantCurvature(2, k)
    z, v = torch.zeros(1, 2), torch.tensor([[0.9, 0.0]])
    connection = levi_civita(metric.metric_tensor)
    slope = jacobi(connection, z, v)[0]
    end = shoot(connection, z, v).position
    across = slope[:, 1]
    length = (across @ metric.metric_tensor(end)[0] @ across).sqrt()
    sine = math.sin(0.9) if k > 0 else math.sinh(0.9)
    assert length.item() == pytest.approx(sine / 0.9, abs=1e-8)


def test_newton_finds_the_logarithm(metric, generator):
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    rough = metric.logmap(a, b) * 1.02
    connection = levi_civita(metric.metric_tensor)
    v = refine_velocity(connection, a, b, rough, num_corrections=6)
    assert (shoot(connection, a, v).position - b).abs().max() < 1e-8
