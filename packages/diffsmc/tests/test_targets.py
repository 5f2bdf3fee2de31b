import math

import pytest
import torch
from scipy import integrate

from diffsmc import targets
from diffsmc.targets import differentiate

TARGETS = {
    "gaussian": lambda: targets.correlated_gaussian(4),
    "skewed": lambda: targets.SkewedGaussian(2, 3.0),
    "funnel": lambda: targets.Funnel(5),
    "many well": lambda: targets.ManyWell(6),
    "gaussian mixture": lambda: targets.two_modes(3),
    "gmm40": lambda: targets.gmm40(),
    "student mixture": lambda: targets.student_mixture(),
    "breast cancer": targets.breast_cancer,
    "linear regression": lambda: targets.LinearRegression([[1.0, 0.5], [1.0, -2.0]], [0.3, 1.0]),
}


@pytest.mark.parametrize("name", TARGETS)
def test_analytic_gradients_equal_automatic_ones(name, generator):
    target = TARGETS[name]()
    x = 0.7 * target.scale * torch.randn(2, 6, target.dim, generator=generator, dtype=torch.float64)
    value, grad = target.log_prob_and_grad(x)
    expected, expected_grad = differentiate(target.log_prob, x)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, expected_grad)
    torch.testing.assert_close(target.score(x), expected_grad)
    assert value.shape == (2, 6)


@pytest.mark.parametrize(
    "target",
    [
        targets.Gaussian([0.3], [[2.0]], 1.5),
        targets.SkewedGaussian(1, 4.0),
        targets.GaussianMixture([[-1.0], [2.0]], [0.5, 1.0], [0.3, 0.7], log_normalizer=-2.0),
        targets.StudentMixture([[-1.0], [2.0]], [0.5, 1.0], [0.3, 0.7]),
    ],
)
def test_normalizers_equal_quadrature(target):
    density = lambda x: math.exp(float(target.log_prob(torch.tensor([x]).double())))  # noqa: E731
    mass = sum(integrate.quad(density, *cut)[0] for cut in ((-400, -3), (-3, 0), (0, 3), (3, 400)))
    assert math.log(mass) == pytest.approx(target.log_normalizer, abs=1e-7)


def test_two_dimensional_normalizers_equal_quadrature():
    well = targets.ManyWell(2)
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    mass = well.log_prob(points).exp().sum() * 0.01**2
    assert mass.log().item() == pytest.approx(well.log_normalizer, abs=1e-6)


def test_linear_regression_evidence_is_the_gaussian_integral():
    target = targets.LinearRegression([[1.0], [2.0], [-1.0]], [0.5, 1.5, -1.0], 0.8, 2.0)
    x = torch.linspace(-20, 20, 40_001, dtype=torch.float64)[:, None]
    mass = target.log_prob(x).exp().sum() * 1e-3
    assert mass.log().item() == pytest.approx(target.log_normalizer, abs=1e-9)


def test_logistic_regression_is_its_likelihood_times_prior(generator):
    target = targets.breast_cancer(2.0)
    x = torch.randn(3, 31, generator=generator, dtype=torch.float64)
    likelihood = torch.distributions.Bernoulli(logits=x @ target.design.T)
    prior = torch.distributions.Normal(0.0, 2.0)
    expected = likelihood.log_prob(target.labels).sum(-1) + prior.log_prob(x).sum(-1)
    torch.testing.assert_close(target.log_prob(x), expected)


def test_logistic_regression_stays_finite_far_out():
    target = targets.breast_cancer()
    value, grad = target.log_prob_and_grad(torch.full((1, 31), 1e4, dtype=torch.float64))
    assert value.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", ["funnel", "gaussian mixture", "student mixture"])
def test_exact_samples_have_mean_score_zero(name, generator):
    # E[grad log p] = 0 for every density that vanishes at infinity
    target = TARGETS[name]()
    x = target.sample(100_000, generator=generator)
    grad = target.log_prob_and_grad(x)[1]
    error = grad.std(0) / len(x) ** 0.5
    assert (grad.mean(0) / error).abs().max() < 4.5


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        targets.LogisticRegression([[1.0]], [2.0])
    with pytest.raises(ValueError, match="one label for each of 1 rows"):
        targets.LogisticRegression([[1.0]], [1.0, 0.0])
    with pytest.raises(ValueError, match="dim must be even"):
        targets.ManyWell(3)
    with pytest.raises(ValueError, match="expected 1 scales"):
        targets.GaussianMixture([[0.0]], [1.0, 2.0])
