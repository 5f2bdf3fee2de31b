import pytest
import torch

from diffsmc import GaussianMixture, StudentMixture, differentiate
from diffsmc.references.mixture import (
    Mixture,
    adapt_weights,
    expectation_maximization,
    log_joint,
    log_prob_and_grad,
    sample_component,
    split_components,
)


@pytest.fixture
def mixture():
    means = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    factors = torch.tensor(
        [[[1.0, 0.0], [0.5, 0.7]], [[0.5, 0.0], [0.0, 0.5]], [[0.8, 0.0], [-0.3, 1.0]]],
        dtype=torch.float64,
    )
    return Mixture(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), means, factors)


def test_the_mixture_is_the_sum_of_gaussians(mixture, generator):
    x = torch.randn(4, 5, 2, generator=generator, dtype=torch.float64)
    parts = [
        w.log() + torch.distributions.MultivariateNormal(m, scale_tril=f).log_prob(x)
        for w, m, f in zip(*mixture, strict=True)
    ]
    torch.testing.assert_close(log_joint(mixture, x), torch.stack(parts, -1))
    value, grad = log_prob_and_grad(mixture, x)
    expected = differentiate(lambda y: log_joint(mixture, y).logsumexp(-1), x)
    torch.testing.assert_close((value, grad), expected)


def test_components_are_sampled_with_their_moments(mixture, generator):
    labels = torch.arange(3)[:, None].expand(3, 40_000)
    x = sample_component(mixture, labels, generator=generator)
    torch.testing.assert_close(x.mean(1), mixture.means, rtol=0, atol=0.03)
    for k in range(3):
        covariance = mixture.factors[k] @ mixture.factors[k].T
        torch.testing.assert_close(torch.cov(x[k].T), covariance, rtol=0, atol=0.04)


def test_em_recovers_a_mixture(mixture, generator):
    labels = torch.multinomial(mixture.weights, 20_000, True, generator=generator)
    points = sample_component(mixture, labels, generator=generator)
    start = mixture._replace(means=mixture.means + 0.5, weights=torch.full((3,), 1 / 3).double())
    fitted = expectation_maximization(start, points, 40)
    torch.testing.assert_close(fitted.means, mixture.means, rtol=0, atol=0.06)
    torch.testing.assert_close(fitted.weights, mixture.weights, rtol=0, atol=0.02)


def test_em_keeps_a_component_without_points(mixture, generator):
    far = mixture._replace(means=mixture.means + torch.tensor([[0.0], [0.0], [90.0]]).double())
    points = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    fitted = expectation_maximization(far, points)
    torch.testing.assert_close(fitted.means[2], far.means[2])
    assert fitted.weights[2] > 0


def test_weights_are_adapted_to_the_masses(generator):
    target = GaussianMixture([[-3.0], [3.0]], [1.0, 0.5], [0.15, 0.85])
    start = Mixture(
        torch.tensor([0.9, 0.1], dtype=torch.float64),
        torch.tensor([[-3.0], [3.0]], dtype=torch.float64),
        torch.tensor([[[1.1]], [[0.55]]], dtype=torch.float64),
    )
    weights = adapt_weights(target, start, generator=generator, num_rounds=6).weights
    # a twentieth of each round goes to equal weights
    assert weights[0].item() == pytest.approx(0.15, abs=0.06)


def test_weighted_em_recovers_what_the_weights_say(mixture, generator):
    # points of a wide Gaussian, weighted to be the mixture
    x = 4 * torch.randn(60_000, 2, generator=generator, dtype=torch.float64)
    log_weights = log_joint(mixture, x).logsumexp(-1) + x.square().sum(-1) / 32
    start = mixture._replace(means=mixture.means + 0.4)
    fitted = expectation_maximization(start, x, 40, log_weights)
    torch.testing.assert_close(fitted.means, mixture.means, rtol=0, atol=0.1)
    torch.testing.assert_close(fitted.weights, mixture.weights, rtol=0, atol=0.03)


def fit_one(points):
    whole = Mixture(
        torch.ones(1, dtype=torch.float64),
        points.mean(0, keepdim=True),
        torch.linalg.cholesky(torch.cov(points.T).reshape(points.shape[-1], -1))[None],
    )
    return whole, torch.arange(len(points))


def test_two_modes_in_one_component_are_split(generator):
    target = GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], [0.5, 0.5])
    whole, groups = fit_one(target.sample(2000, generator=generator))
    halves = split_components(whole, target.sample(2000, generator=generator), groups, 10)
    assert len(halves.weights) == 2
    assert halves.means[:, 0].sort().values.tolist() == pytest.approx([-2, 2], abs=0.1)


def test_heavy_tails_are_split_into_widths(generator):
    target = StudentMixture([[0.0] * 4], [1.0], [1.0], freedom=3.0)
    points = target.sample(3000, generator=generator)
    whole, groups = fit_one(points)
    parts = split_components(whole, points, groups, 10)
    fresh = target.sample(10_000, generator=generator)
    gain = log_joint(parts, fresh).logsumexp(-1) - log_joint(whole, fresh).logsumexp(-1)
    assert len(parts.weights) > 1
    assert gain.mean() > 0.1


def test_a_gaussian_is_not_split(generator):
    points = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    whole, groups = fit_one(points)
    assert len(split_components(whole, points, groups, 10).weights) == 1


def test_no_more_components_than_allowed(generator):
    target = GaussianMixture([[-6.0], [-2.0], [2.0], [6.0]], [0.3] * 4)
    points = target.sample(2000, generator=generator)
    whole, groups = fit_one(points)
    assert len(split_components(whole, points, groups, 3).weights) == 3
