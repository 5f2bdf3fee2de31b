import math

import pytest
import torch
from torch import nn

from latentgeom.immersions.immersion import Chart
from latentgeom.pairs.starts import graph_curves
from latentgeom.pullback.deviation import RadialDeviation, fit_deviation, radial_deviation
from latentgeom.pullback.pullback import Stacked
from latentgeom.solvers.boundary import geodesics


def test_deviation_grows_away_from_the_codes():
    deviation = RadialDeviation(torch.zeros(1, 2), torch.ones(1), 3, floor=0.25)
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [30.0, 0.0]])
    sigma = deviation(z)
    expected = (torch.tensor([1.0, 1 / torch.e, 0.0]) + 0.25).rsqrt()
    torch.testing.assert_close(sigma, expected[:, None].expand(3, 3))


def blobs(generator):
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 7.0]])
    label = torch.arange(3).repeat_interleave(100)
    width = torch.tensor([0.1, 0.3, 0.5])
    draw = torch.randn(300, 2, generator=generator)
    return centres, label, centres[label] + width[label, None] * draw


def test_centres_and_rates_are_those_of_the_clusters(generator):
    centres, label, codes = blobs(generator)
    deviation = radial_deviation(codes, 3, 4, width=2.0)
    order = torch.cdist(centres, deviation.centres).argmin(1)
    for cluster in range(3):
        mine = codes[label == cluster]
        mean = mine.mean(0)
        torch.testing.assert_close(deviation.centres[order[cluster]], mean)
        spread = (mine - mean).norm(dim=-1).mean()
        torch.testing.assert_close(deviation.rates[order[cluster]], 1 / (2 * (2 * spread) ** 2))


def test_weights_are_fitted_by_maximum_likelihood(generator):
    codes = torch.zeros(20_000, 2)
    noise = torch.tensor([0.5, 2.0]) * torch.randn(20_000, 2, generator=generator)
    deviation = RadialDeviation(torch.zeros(1, 2), torch.ones(1), 2)
    loss = fit_deviation(deviation, lambda z: z, codes, noise)
    sigma = deviation(torch.zeros(2))
    torch.testing.assert_close(sigma, noise.square().mean(0).sqrt(), rtol=1e-4, atol=0)
    exact = (sigma.log() + 0.5 + math.log(2 * math.pi) / 2).sum().item()
    assert loss == pytest.approx(exact, rel=1e-6)


def test_the_expected_metric_keeps_geodesics_near_the_codes(generator):
    angle = math.pi * torch.rand(400, generator=generator)
    codes = torch.stack([angle.cos(), angle.sin()], -1)
    mean = nn.Identity()
    deviation = radial_deviation(codes, 24, 2, floor=1e-2, width=2.5)
    fit_deviation(deviation, mean, codes, codes + 0.05 * torch.randn(400, 2, generator=generator))
    chart = Chart(Stacked([mean, deviation]), 2)
    pair = torch.stack([angle.argmin(), angle.argmax()])[None]
    first = graph_curves(chart, codes, pair)
    around = geodesics(chart, *codes[pair].unbind(1), num_segments=64, initial=first)
    across = geodesics(chart, *codes[pair].unbind(1), num_segments=64)
    assert around.converged.all()
    assert around.points[0, around.points.shape[1] // 2, 1] > 0.8
    line = torch.lerp(*codes[pair].unbind(1), torch.linspace(0, 1, 2001)[:, None])
    straight = chart.embed(line).diff(dim=0).norm(dim=-1).sum()
    assert around.length < 0.5 * straight
    # Without the graph the way around is found too, or the curve is flagged.
    assert not across.converged.any() or across.length < 1.05 * around.length


def test_narrow_deviations_are_not_called_converged_on_too_few_segments(generator):
    angle = math.pi * torch.rand(400, generator=generator)
    codes = torch.stack([angle.cos(), angle.sin()], -1)
    deviation = radial_deviation(codes, 24, 2, floor=1e-2)
    noise = 0.05 * torch.randn(400, 2, generator=generator)
    fit_deviation(deviation, nn.Identity(), codes, codes + noise)
    chart = Chart(Stacked([nn.Identity(), deviation]), 2)
    pair = torch.stack([angle.argmin(), angle.argmax()])[None]
    found = geodesics(chart, *codes[pair].unbind(1), num_segments=32)
    # Thirty-two segments pass between the ridges and report 3.12; no curve is that short.
    assert not found.converged.any() or found.length > 3.5


def test_unusable_numbers_are_refused():
    with pytest.raises(ValueError, match="num_centres must be from 1 to 3, got 4"):
        radial_deviation(torch.zeros(3, 2), 4, 2)
    with pytest.raises(ValueError, match="floor must be positive"):
        RadialDeviation(torch.zeros(1, 2), torch.ones(1), 2, floor=0.0)


def test_a_cluster_of_equal_codes_has_a_finite_rate():
    deviation = radial_deviation(torch.ones(5, 2), 1, 2)
    assert torch.isfinite(deviation.rates).all()
