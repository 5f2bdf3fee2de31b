import math

import pytest
import torch

from latentgeom.data_metrics import LocalAverage, LocalVariance, RadialCost


def ring(generator, count=200):
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    return torch.stack([angle.cos(), angle.sin()], -1)


def test_local_variance_is_the_inverse_weighted_variance(generator):
    data, x = ring(generator), torch.tensor([0.3, -0.2])
    expected = []
    for d in range(2):
        total = sum(
            math.exp(-((p - x).square().sum().item()) / (2 * 0.4**2)) * (p[d] - x[d]).item() ** 2
            for p in data
        )
        expected.append(1 / (total + 1e-2))
    tensor = LocalVariance(data, 0.4).metric_tensor(x)
    torch.testing.assert_close(tensor, torch.diag(torch.tensor(expected)))


def test_geodesics_keep_to_the_data(generator):
    metric = LocalVariance(ring(generator), bandwidth=0.25, floor=0.05)
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.6, 0.8]])
    batch = metric.connect(a, b)
    assert batch.converged.all()
    assert batch.points[0].norm(dim=-1).min() > 0.7
    assert torch.lerp(a, b, 0.5).norm() < 0.5


def test_a_uniform_cost_is_a_scaled_plane():
    metric = RadialCost(torch.zeros(1, 2), torch.zeros(1), 1.0, floor=4.0)
    a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, -3.0]])
    torch.testing.assert_close(metric.dist(a, b), torch.tensor([10.0]))


def test_average_meets_its_tensors(generator):
    tensors = torch.diag_embed(torch.tensor([[1.0, 2.0], [5.0, 3.0]]))
    metric = LocalAverage(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), tensors, bandwidth=1.0)
    found = metric.metric_tensor(torch.tensor([[0.0, 0.0], [9.0, 0.0], [4.5, 1.0]]))
    torch.testing.assert_close(found[:2], tensors)
    torch.testing.assert_close(found[2], tensors.mean(0))


def test_unusable_settings_are_refused():
    with pytest.raises(ValueError, match="bandwidth must be positive, got 0"):
        LocalVariance(torch.zeros(3, 2), 0.0)
    with pytest.raises(ValueError, match="weights must not be negative"):
        RadialCost(torch.zeros(1, 2), -torch.ones(1), 1.0)
    with pytest.raises(ValueError, match="symmetric positive definite"):
        LocalAverage(torch.zeros(1, 2), -torch.eye(2)[None], 1.0)
