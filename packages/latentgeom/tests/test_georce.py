import pytest
import torch

from latentgeom.immersions.immersion import Chart
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.pullback.pullback import Pullback
from latentgeom.solvers.boundary import geodesics
from latentgeom.solvers.georce import georce


@pytest.mark.parametrize("k", [1.0, -1.0])
def test_lengths_converge_to_the_closed_form(generator, k):
    metric = ConstantCurvature(2, k)
    a, b = torch.randn(2, 50, 2, generator=generator) * 0.7
    errors = []
    for num_segments in (16, 32):
        batch = georce(metric.metric_tensor, a, b, num_segments=num_segments)
        assert batch.converged.all()
        errors.append(((batch.length - metric.dist(a, b)) / metric.dist(a, b)).abs())
        missed = (batch.length - metric.dist(a, b)).abs()
        assert (missed <= batch.error_estimate).double().mean() >= 0.99
    assert errors[1].median() < 1e-7
    assert torch.log2(errors[0].mean() / errors[1].mean()) > 3


def test_tensor_and_map_agree(generator):
    weight = torch.randn(6, 2, generator=generator)
    decoder = lambda z: torch.sin(z @ weight.T)  # noqa: E731
    a, b = torch.randn(2, 20, 2, generator=generator) / 2
    by_map = geodesics(Chart(decoder, 2), a, b, num_segments=64)
    by_tensor = georce(Pullback(decoder, 2).metric_tensor, a, b, num_segments=64)
    both = by_map.converged & by_tensor.converged
    assert both.sum() >= 18
    same = (by_map.length - by_tensor.length).abs()[both] < 1e-5 * by_map.length[both]
    assert same.sum() >= both.sum() - 1  # two minimisers may be met across a cut locus


def test_coinciding_and_impossible_points():
    metric = ConstantCurvature(2, 1.0)
    a = torch.ones(3, 2)
    batch = georce(metric.metric_tensor, a, a)
    assert torch.equal(batch.length, torch.zeros(3))
    assert batch.converged.all()
    with pytest.raises(ValueError, match="b must be finite"):
        georce(metric.metric_tensor, a, a * torch.nan)


def test_conjugate_ends_and_saddles_are_flagged():
    metric = ConstantCurvature(2, 1.0)
    a, b = torch.tensor([[0.5, 0.0]] * 3), torch.tensor([[0.5 - torch.pi, 0.0]] * 3)
    b[1] = torch.tensor([-1.0, 0.6])
    b[2] = torch.tensor([0.5 - 1.2 * torch.pi, 0.0])  # the straight ray goes the long way round
    batch = georce(metric.metric_tensor, a, b)
    assert batch.converged.tolist()[:2] == [False, True]
    assert not batch.converged[2] or batch.length[2] < torch.pi
