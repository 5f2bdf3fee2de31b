import math

import pytest
import torch

from latentgeom.pullback.data_metrics import (
    LocalAverage,
    LocalVariance,
    RadialCost,
    local_discriminants,
    local_mahalanobis,
)


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


def two_classes(generator, count=4000):
    labels = torch.arange(2).repeat_interleave(count)
    scale = torch.tensor([[1.0, 0.5], [0.2, 2.0]])
    data = scale[labels] * torch.randn(2 * count, 2, generator=generator)
    return data + torch.tensor([[0.0, 0.0], [8.0, 0.0]])[labels], labels


def test_mahalanobis_metric_whitens_each_group(generator):
    data, labels = two_classes(generator)
    metric = local_mahalanobis(data, labels, bandwidth=1.0, floor=1e-6)
    found = metric.metric_tensor(torch.tensor([[0.0, 0.0], [8.0, 0.0]]))
    exact = torch.diag_embed(torch.tensor([[1.0, 4.0], [25.0, 0.25]]))
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.3)
    a, b = torch.tensor([[0.0, -0.1], [8.0, -0.1]]), torch.tensor([[0.0, 0.1], [8.0, 0.1]])
    torch.testing.assert_close(metric.dist(a, b), torch.tensor([0.4, 0.1]), rtol=0.1, atol=0)


def test_discriminant_metric_is_the_formula_and_longer_across_the_border(generator):
    data, labels = two_classes(generator, 50)
    metric = local_discriminants(data, labels, bandwidth=3.0, floor=0.1)
    means = [data[labels == c].mean(0) for c in (0, 1)]
    inside = torch.cov(data[labels == 0].T, correction=0) + 0.1 * torch.eye(2)
    gap = means[1] - means[0]
    values, basis = torch.linalg.eigh(inside)
    root = basis @ torch.diag(values.rsqrt()) @ basis.T
    whitened = root @ (0.5 * torch.outer(gap, gap)) @ root
    expected = root @ (whitened + torch.eye(2)) @ root
    torch.testing.assert_close(metric.tensors[0], expected)
    plain = local_mahalanobis(data, labels, bandwidth=3.0, floor=0.1)
    a, b = means[0][None], means[1][None]
    assert metric.dist(a, b) > 2 * plain.dist(a, b)


def test_labels_have_to_fit():
    with pytest.raises(ValueError, match="labels must be one a point"):
        local_mahalanobis(torch.zeros(3, 2), torch.zeros(2), 1.0)
