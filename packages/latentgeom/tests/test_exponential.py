import math

import pytest
import torch

from latentgeom.explicit import ConstantCurvature
from latentgeom.exponential import jacobi, refine_velocity, shoot


@pytest.fixture(params=[1.0, -1.0])
def metric(request):
    return ConstantCurvature(2, request.param)


def test_integration_is_of_fourth_order(metric, generator):
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    v = metric.logmap(a, b)
    errors = [
        (shoot(metric.metric_tensor, a, v, num_steps=n).position - b).abs().max() for n in (12, 24)
    ]
    assert math.log2(errors[0] / errors[1]) > 3.5


def test_transport_keeps_inner_products(metric, generator):
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    vectors = torch.randn(20, 2, 2, generator=generator)
    flow = shoot(metric.metric_tensor, a, metric.logmap(a, b), vectors, num_steps=192)
    before = vectors @ metric.metric_tensor(a) @ vectors.mT
    after = flow.carried @ metric.metric_tensor(flow.position) @ flow.carried.mT
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
    exact = metric.transp(a, b, vectors[:, 0])
    torch.testing.assert_close(flow.carried[:, 0], exact, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("k", [1.0, -1.0])
def test_jacobi_fields_grow_as_curvature_says(k):
    metric = ConstantCurvature(2, k)
    z, v = torch.zeros(1, 2), torch.tensor([[0.9, 0.0]])
    slope = jacobi(metric.metric_tensor, z, v)[0]
    end = shoot(metric.metric_tensor, z, v).position
    across = slope[:, 1]
    length = (across @ metric.metric_tensor(end)[0] @ across).sqrt()
    sine = math.sin(0.9) if k > 0 else math.sinh(0.9)
    assert length.item() == pytest.approx(sine / 0.9, abs=1e-8)


def test_newton_finds_the_logarithm(metric, generator):
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    rough = metric.logmap(a, b) * 1.02
    v = refine_velocity(metric.metric_tensor, a, b, rough, num_steps=32, num_corrections=6)
    assert (shoot(metric.metric_tensor, a, v, num_steps=32).position - b).abs().max() < 1e-10
