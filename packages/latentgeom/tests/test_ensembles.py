import itertools

import pytest
import torch
from torch import nn

from latentgeom.immersions.curvature import derivative
from latentgeom.immersions.immersion import Chart
from latentgeom.metrics.explicit import ConstantCurvature, Euclidean
from latentgeom.pullback.ensembles import (
    Ensemble,
    ExpectedMetric,
    ensemble_geodesics,
    expected_energy,
)
from latentgeom.pullback.pullback import Pullback
from latentgeom.solvers.boundary import geodesics


@pytest.fixture
def ensemble(generator):
    def member():
        layers = [nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 5)]
        for layer in layers[::2]:
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
            layer.bias.data = torch.randn(layer.bias.shape, generator=generator)
        return nn.Sequential(*layers).requires_grad_(False)

    return Ensemble([member() for _ in range(4)])


def test_energy_is_the_expectation_over_pairs_of_members(ensemble, generator):
    nodes = torch.randn(3, 7, 2, generator=generator)
    values = [member(nodes) for member in ensemble.members]
    total = sum(
        (f[:, 1:] - g[:, :-1]).square().sum((-1, -2)) for f, g in itertools.product(values, values)
    )
    torch.testing.assert_close(expected_energy(ensemble, nodes), total / 16 * 6 / 2)


def test_stacked_members_pull_back_the_expected_metric(ensemble, generator):
    z = torch.randn(8, 2, generator=generator)
    parts = [Pullback(member, 2).metric_tensor(z) for member in ensemble.members]
    found = Pullback(ensemble, 2).metric_tensor(z)
    torch.testing.assert_close(found, torch.stack(parts).mean(0))


def test_curves_are_stationary_and_cheaper_than_lines(ensemble, generator):
    a, b = torch.randn(2, 10, 2, generator=generator)
    batch = ensemble_geodesics(ensemble, a, b, num_segments=12)
    assert batch.converged.all()
    energy = lambda x: expected_energy(ensemble, x.reshape(-1, 13, 2))  # noqa: E731
    torch.testing.assert_close((2 * energy(batch.points)).sqrt(), batch.length)
    slope = derivative(energy, batch.points.reshape(10, 26)).reshape(10, 13, 2)[:, 1:-1]
    assert (slope.abs().amax((1, 2)) < 1e-3 * batch.length.square()).all()
    t = torch.linspace(0, 1, 13)[:, None]
    line = torch.lerp(a[:, None], b[:, None], t)
    assert (energy(batch.points) <= energy(line) * (1 + 1e-12)).all()
    for scale in (1e-3, -1e-3):
        bump = scale * torch.randn(batch.points[:, 1:-1].shape, generator=generator)
        moved = batch.points.clone()
        moved[:, 1:-1] += bump
        assert (energy(moved) > energy(batch.points)).all()


def test_curves_avoid_where_members_disagree():
    class Bump(nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.sign = sign

        def forward(self, z):
            hill = self.sign * (-2 * z.square().sum(-1, keepdim=True)).exp()
            return torch.cat([z, 2 * hill], -1)

    ensemble = Ensemble([Bump(1.0), Bump(-1.0)])
    a, b = torch.tensor([[-2.0, 0.1]]), torch.tensor([[2.0, 0.1]])
    batch = ensemble_geodesics(ensemble, a, b, num_segments=16)
    assert batch.converged.all()
    assert batch.points[0, 8, 1] > 0.5


def test_one_member_is_its_own_ensemble(ensemble, generator):
    a, b = torch.randn(2, 6, 2, generator=generator)
    single = Ensemble([ensemble.members[0]])
    one = ensemble_geodesics(single, a, b, num_segments=64)
    alone = geodesics(Chart(ensemble.members[0], 2), a, b, num_segments=64, polish=False)
    assert ((one.length - alone.length).abs() < 1e-2 * alone.length).all()
    assert ensemble_geodesics(single, a, a).converged.all()


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])


def test_ensembles_of_any_metrics_have_the_mean_of_their_tensors(generator):
    members = [ConstantCurvature(2, 1.0), Euclidean(2), Pullback(lambda z: z.sin(), 2)]
    metric = ExpectedMetric(members)
    z = torch.randn(5, 2, generator=generator) / 2
    expected = sum(member.metric_tensor(z) for member in members) / 3
    torch.testing.assert_close(metric.metric_tensor(z), expected)
    vectors = torch.randn(5, 2, 3, generator=generator)
    torch.testing.assert_close(metric.lower(z, vectors), expected @ vectors)
    same = ExpectedMetric([ConstantCurvature(2, 1.0)] * 2)
    a, b = z[:2], z[2:4]
    torch.testing.assert_close(same.dist(a, b), members[0].dist(a, b), rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="members need one dimension"):
        ExpectedMetric([Euclidean(2), Euclidean(3)])
