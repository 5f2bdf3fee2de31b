import itertools
import math
import os
from pathlib import Path

import pytest
import torch
from scipy import integrate

import diffsmc
from diffsmc import differentiate

TARGETS = {
    "gaussian": lambda: diffsmc.correlated_gaussian(4),
    "skewed": lambda: diffsmc.SkewedGaussian(2, 3.0),
    "funnel": lambda: diffsmc.Funnel(5),
    "many well": lambda: diffsmc.ManyWell(6),
    "gaussian mixture": lambda: diffsmc.two_modes(3),
    "gmm40": lambda: diffsmc.gmm40(),
    "student mixture": lambda: diffsmc.student_mixture(),
    "lattice field, ring": lambda: diffsmc.LatticeField([7]),
    "lattice field, square": lambda: diffsmc.LatticeField([4, 3], 0.7, -2.0, 0.3),
    "cox process": lambda: diffsmc.LogGaussianCox([[0, 2, 1], [1, 0, 0], [3, 0, 1]]),
    "brownian motion": diffsmc.BrownianMotion,
    "lorenz bridge": diffsmc.LorenzBridge,
    "breast cancer": diffsmc.breast_cancer,
    "linear regression": lambda: diffsmc.LinearRegression([[1.0, 0.5], [1.0, -2.0]], [0.3, 1.0]),
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
        diffsmc.Gaussian([0.3], [[2.0]], 1.5),
        diffsmc.SkewedGaussian(1, 4.0),
        diffsmc.GaussianMixture([[-1.0], [2.0]], [0.5, 1.0], [0.3, 0.7], log_normalizer=-2.0),
        diffsmc.StudentMixture([[-1.0], [2.0]], [0.5, 1.0], [0.3, 0.7]),
    ],
)
def test_normalizers_equal_quadrature(target):
    density = lambda x: math.exp(float(target.log_prob(torch.tensor([x]).double())))  # noqa: E731
    mass = sum(integrate.quad(density, *cut)[0] for cut in ((-400, -3), (-3, 0), (0, 3), (3, 400)))
    assert math.log(mass) == pytest.approx(target.log_normalizer, abs=1e-7)


def test_two_dimensional_normalizers_equal_quadrature():
    well = diffsmc.ManyWell(2)
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    mass = well.log_prob(points).exp().sum() * 0.01**2
    assert mass.log().item() == pytest.approx(well.log_normalizer, abs=1e-6)


def test_linear_regression_evidence_is_the_gaussian_integral():
    target = diffsmc.LinearRegression([[1.0], [2.0], [-1.0]], [0.5, 1.5, -1.0], 0.8, 2.0)
    x = torch.linspace(-20, 20, 40_001, dtype=torch.float64)[:, None]
    mass = target.log_prob(x).exp().sum() * 1e-3
    assert mass.log().item() == pytest.approx(target.log_normalizer, abs=1e-9)


def test_logistic_regression_is_its_likelihood_times_prior(generator):
    target = diffsmc.breast_cancer(2.0)
    x = torch.randn(3, 31, generator=generator, dtype=torch.float64)
    likelihood = torch.distributions.Bernoulli(logits=x @ target.design.T)
    prior = torch.distributions.Normal(0.0, 2.0)
    expected = likelihood.log_prob(target.labels).sum(-1) + prior.log_prob(x).sum(-1)
    torch.testing.assert_close(target.log_prob(x), expected)


def test_logistic_regression_stays_finite_far_out():
    target = diffsmc.breast_cancer()
    value, grad = target.log_prob_and_grad(torch.full((1, 31), 1e4, dtype=torch.float64))
    assert value.isfinite().all()
    assert grad.isfinite().all()


EXACT = ["gaussian", "skewed", "funnel", "many well", "gaussian mixture", "student mixture"]


@pytest.mark.parametrize("name", EXACT)
def test_exact_samples_have_mean_score_zero(name, generator):
    # E[grad log p] = 0 for every density that vanishes at infinity
    target = TARGETS[name]()
    x = target.sample(100_000, generator=generator)
    grad = target.log_prob_and_grad(x)[1]
    error = grad.std(0) / len(x) ** 0.5
    assert (grad.mean(0) / error).abs().max() < 4.5


def test_many_wells_are_sampled_with_their_masses(generator):
    well = diffsmc.ManyWell(4)
    x = well.sample(100_000, generator=generator)
    right = (x[:, 0::2] > 0).double().mean(0)
    assert ((right - well.right_mass).abs() < 4 * 0.5 / len(x) ** 0.5).all()


@pytest.mark.parametrize("quartic", [0.5, 0.1])
def test_the_ring_of_two_sites_equals_quadrature(quartic):
    field = diffsmc.LatticeField([2], 0.6, -0.8, quartic)
    grid = torch.linspace(-9, 9, 901, dtype=torch.float64)
    mass = field.log_prob(torch.cartesian_prod(grid, grid)).exp().sum() * 0.02**2
    assert field.log_normalizer == pytest.approx(mass.log().item(), abs=1e-8)


def test_a_free_lattice_field_is_the_gaussian_integral():
    field = diffsmc.LatticeField([3, 4], 0.9, 0.4, 0.0)
    precision = -torch.autograd.functional.hessian(field.log_prob, torch.zeros(12).double())
    expected = 6 * math.log(2 * math.pi) - 0.5 * torch.logdet(precision)
    assert field.log_normalizer == pytest.approx(expected.item(), abs=1e-6)
    ring = diffsmc.LatticeField([5], 0.9, 0.4, 0.0)
    almost = diffsmc.LatticeField([5], 0.9, 0.4, 1e-9)
    assert almost.log_normalizer == pytest.approx(ring.log_normalizer, abs=1e-5)


def test_the_brownian_evidence_is_that_of_the_marginal_gaussian():
    """The Kalman filter against the joint Gaussian of the observations, at two scales."""
    target = diffsmc.BrownianMotion()
    times = torch.tensor([t for t in range(1, 31) if not 10 < t <= 20], dtype=torch.float64)
    for log_sigma, log_tau in ((-2.3, -1.9), (0.4, -0.6)):
        covariance = math.exp(2 * log_sigma) * torch.minimum(times[:, None], times)
        covariance = covariance + math.exp(2 * log_tau) * torch.eye(20).double()
        gaussian = torch.distributions.MultivariateNormal(torch.zeros(20).double(), covariance)
        got = target._kalman(torch.tensor(log_sigma).double(), torch.tensor(log_tau).double())
        torch.testing.assert_close(got, gaussian.log_prob(target.observed))
    # published: 1.03 +- 0.10 (denoising diffusion samplers), 1.02 +- 0.12 (path integral sampler)
    assert target.log_normalizer == pytest.approx(1.0, abs=0.25)
    assert target._quadrature(600) == pytest.approx(target.log_normalizer, abs=1e-4)


def test_the_lorenz_density_is_a_product_of_transitions(generator):
    target, normal = diffsmc.LorenzBridge(), torch.distributions.Normal
    states = 3 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    expected = normal(0.0, 1.0).log_prob(states[0]).sum()
    for old, new in itertools.pairwise(states):
        x, y, z = old
        rate = torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])
        expected += normal(old + 0.02 * rate, 0.1 * 0.02**0.5).log_prob(new).sum()
    seen = [*range(10), *range(20, 30)]
    expected += normal(states[seen, 0], 1.0).log_prob(target.observed).sum()
    torch.testing.assert_close(target.log_prob(states.flatten()), expected)


def test_the_cox_process_is_poisson_counts_and_a_gaussian_field(generator):
    counts = [[0.0, 2.0], [1.0, 3.0]]
    target = diffsmc.LogGaussianCox(counts, 1.3, 0.8)
    z = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    field, y = target.field(z), torch.tensor(counts).double().flatten()
    poisson = torch.distributions.Poisson(field.exp() / 4).log_prob(y).sum(-1)
    # what the benchmark leaves out: factorials, and areas to the power of the counts
    poisson = poisson + torch.lgamma(y + 1).sum() + y.sum() * math.log(4.0)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(target.log_prob(z), poisson + prior)
    place = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double()
    covariance = 1.3 * torch.exp(-torch.cdist(place, place) / 1.6)
    torch.testing.assert_close(target.factor @ target.factor.T, covariance)


def shared_data():
    given = os.environ.get("DIFFSMC_DATA")
    folders = [Path(given)] if given else [p / "shared" / "data" for p in Path(__file__).parents]
    return next((folder for folder in folders if (folder / "finnish_pines.csv").is_file()), None)


@pytest.mark.skipif(shared_data() is None, reason="needs finnish_pines.csv; see DIFFSMC_DATA")
def test_all_pines_are_counted():
    target = diffsmc.finnish_pines(str(shared_data() / "finnish_pines.csv"), 20)
    assert target.dim == 400
    assert float(target.counts.sum()) == 126


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="counts must be a square table"):
        diffsmc.LogGaussianCox([[1.0, 2.0]])
    with pytest.raises(ValueError, match="no such density: quartic 0 and mass -1"):
        diffsmc.LatticeField([3], quartic=0, mass=-1)
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        diffsmc.LogisticRegression([[1.0]], [2.0])
    with pytest.raises(ValueError, match="one label for each of 1 rows"):
        diffsmc.LogisticRegression([[1.0]], [1.0, 0.0])
    with pytest.raises(ValueError, match="dim must be even"):
        diffsmc.ManyWell(3)
    with pytest.raises(ValueError, match="expected 1 scales"):
        diffsmc.GaussianMixture([[0.0]], [1.0, 2.0])
