import pytest
import torch

from latentgeom.immersions.immersion import Chart
from latentgeom.immersions.surfaces import Ellipsoid
from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.pullback.pullback import Pullback
from latentgeom.solvers.means import frechet_mean
from latentgeom.solvers.solver import Solver

SPHERE = ConstantCurvature(2, 1.0)


def test_mean_of_a_flat_chart_is_the_weighted_average(generator):
    points, weights = torch.randn(7, 3, generator=generator), torch.rand(7, generator=generator)
    found = frechet_mean(Chart(lambda z: 2 * z, 3), points, weights)
    expected = (weights[:, None] * points).sum(0) / weights.sum()
    torch.testing.assert_close(found.mean, expected)
    square = (weights * (points - expected).square().sum(-1)).sum() / weights.sum()
    torch.testing.assert_close(found.variance, 4 * square)
    assert found.converged


def test_mean_on_the_sphere_balances_the_logarithms(generator):
    points = torch.randn(9, 2, generator=generator) * 0.5
    weights = 0.2 + torch.rand(9, generator=generator)
    chart = Chart(lambda z: cc.tangent_to_ambient(z, 1.0), 2)
    for num_segments, bound in ((8, 1e-5), (16, 1e-9)):
        found = frechet_mean(chart, points, weights, num_segments=num_segments)
        assert found.converged
        logs = SPHERE.logmap(found.mean.expand_as(points), points)
        assert (weights[:, None] * logs).sum(0).norm() < bound
    square = SPHERE.dist(found.mean, points).square()
    torch.testing.assert_close(found.variance, (weights * square).sum() / weights.sum())


def test_several_elements_and_one_have_the_same_mean(generator):
    weight = torch.randn(5, 12, generator=generator) / 2
    chart = Chart(lambda z: torch.cat([z, torch.sin(z @ weight)], -1), 5)
    points = torch.randn(7, 5, generator=generator) / 2
    one, several = (frechet_mean(chart, points, num_segments=n) for n in (16, 48))
    assert several.converged
    torch.testing.assert_close(one.mean, several.mean, rtol=0, atol=1e-6)


def test_chart_and_surface_have_one_mean(generator):
    points = torch.randn(6, 2, generator=generator) * 0.5
    by_chart = frechet_mean(Chart(lambda z: cc.tangent_to_ambient(z, 1.0), 2), points)
    by_surface = frechet_mean(Ellipsoid(torch.ones(3)), cc.tangent_to_ambient(points, 1.0))
    assert by_surface.converged
    close = torch.testing.assert_close
    close(cc.tangent_to_ambient(by_chart.mean, 1.0), by_surface.mean, rtol=1e-8, atol=1e-8)
    close(by_chart.variance, by_surface.variance, rtol=1e-9, atol=0)


def test_one_point_is_its_own_mean():
    point = torch.tensor([[0.3, 0.4]])
    found = frechet_mean(Chart(lambda z: z.sin(), 2), point.expand(3, 2))
    assert found.converged
    torch.testing.assert_close(found.mean, point[0])
    assert found.variance < 1e-28


def test_bad_weights_are_refused():
    with pytest.raises(ValueError, match="weights must be one positive number a point"):
        frechet_mean(Chart(lambda z: z, 2), torch.ones(3, 2), torch.tensor([1.0, 0.0, 1.0]))


def test_means_take_any_metric(generator):
    metric = ConstantCurvature(2, -1.0)
    points = torch.randn(6, 2, generator=generator) / 2
    weights = torch.rand(6, generator=generator) + 0.1
    found, expected = frechet_mean(metric, points, weights), metric.mean(points, weights)
    assert torch.equal(found.mean, expected.mean)


def test_means_keep_to_the_memory_rule(generator):
    points = torch.randn(40, 2, generator=generator) / 2
    chart = Chart(lambda z: cc.tangent_to_ambient(z, 1.0), 2)
    assert frechet_mean(chart, points, memory_gb=1e-1).converged
    with pytest.raises(ValueError, match="40 geodesics of 16 segments don't fit into memory_gb="):
        frechet_mean(chart, points, memory_gb=1e-6)
    metric = Pullback(lambda z: cc.tangent_to_ambient(z, 1.0), 2, Solver(memory_gb=1e-6))
    with pytest.raises(ValueError, match="don't fit into memory_gb"):
        metric.mean(points)
