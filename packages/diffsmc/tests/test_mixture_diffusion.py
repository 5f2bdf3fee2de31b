import pytest
import torch

from diffsmc import GaussianMixture
from diffsmc.paths.mixture_diffusion import (
    MixtureDiffusionPath,
    MonteCarloRatio,
    UnitRatio,
    decompose,
    denoise,
    diffuse,
)
from diffsmc.references.mixture import Mixture, log_joint, sample_component
from diffsmc.smc.engine import Settings, smc, total_log_normalizer
from diffsmc.smc.schedules import FixedSchedule, cosine_variances

MIXTURE = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-2.0, 0.0], [1.0, 1.0]], dtype=torch.float64),
    torch.tensor([[[1.0, 0.0], [0.5, 0.7]], [[0.5, 0.0], [0.2, 0.9]]], dtype=torch.float64),
)
GRID = torch.linspace(-9, 9, 361, dtype=torch.float64)
POINTS = torch.cartesian_prod(GRID, GRID)
AREA = 0.05**2


class Exact(GaussianMixture):
    """The mixture itself, times exp(0.7)."""

    def __init__(self):
        super().__init__([[0.0, 0.0]], log_normalizer=0.7)

    def log_prob(self, x):
        return log_joint(MIXTURE, x).logsumexp(-1) + 0.7

    def log_prob_and_grad(self, x):
        from diffsmc.references.mixture import log_prob_and_grad

        value, grad = log_prob_and_grad(MIXTURE, x)
        return value + 0.7, grad


def run(path, islands, num, steps, settings=None, seed=1):
    levels = FixedSchedule((1 - cosine_variances(steps)).tolist())
    settings = settings or Settings(num_moves=0, ess_threshold=0.5)
    generator = torch.Generator().manual_seed(seed)
    return list(smc(path, levels, settings, islands, num, generator=generator))


def test_the_noised_mixture_is_that_of_noised_samples(generator):
    labels = torch.multinomial(MIXTURE.weights, 200_000, True, generator=generator)
    x = sample_component(MIXTURE, labels, generator=generator)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    noised = diffuse(MIXTURE, 0.4)
    # E[log q_t] of the samples and by quadrature
    got = log_joint(noised, 0.6**0.5 * x + 0.4**0.5 * noise).logsumexp(-1)
    density = log_joint(noised, POINTS).logsumexp(-1)
    assert (density.exp().sum() * AREA).item() == pytest.approx(1, abs=1e-6)
    expected = (density.exp() * density).sum() * AREA
    assert abs(got.mean() - expected) < 4 * got.std() / len(got) ** 0.5


def test_denoised_points_follow_the_conditional(generator):
    """Mean and covariance of X_0 given x and the label, against quadrature of both densities."""
    x, variance = torch.tensor([[0.3, -0.8]], dtype=torch.float64), 0.35
    for k in (0, 1):
        labels = torch.full((1, 100_000), k)
        noise = torch.randn(1, 100_000, 2, generator=generator, dtype=torch.float64)
        drawn = denoise(decompose(MIXTURE), x, variance, labels, noise)[0]
        joint = log_joint(MIXTURE, POINTS)[:, k]
        joint = joint - 0.5 * (x - (1 - variance) ** 0.5 * POINTS).square().sum(-1) / variance
        weights = joint.softmax(0)
        mean = weights @ POINTS
        torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.01)
        centred = POINTS - mean
        covariance = torch.einsum("n,nd,ne->de", weights, centred, centred)
        torch.testing.assert_close(torch.cov(drawn.T), covariance, rtol=0, atol=0.02)


def test_a_mixture_that_is_the_target_leaves_no_variance():
    target = Exact()
    for potential in (UnitRatio(), MonteCarloRatio(4)):
        bound = potential.bind(target, MIXTURE, generator=torch.Generator().manual_seed(0))
        state = run(MixtureDiffusionPath(target, MIXTURE, bound), 3, 50, 6)[-1][0]
        torch.testing.assert_close(total_log_normalizer(state), torch.full((3,), 0.7).double())


def test_the_reverse_kernel_gives_samples_of_the_mixture():
    target = Exact()
    state = run(MixtureDiffusionPath(target, MIXTURE, UnitRatio()), 1, 40_000, 8)[-1][0]
    x = state.cloud.particles[0]
    expected = MIXTURE.weights @ MIXTURE.means
    torch.testing.assert_close(x.mean(0), expected, rtol=0, atol=0.03)
    got = log_joint(MIXTURE, x).logsumexp(-1)
    density = log_joint(MIXTURE, POINTS).logsumexp(-1)
    entropy = (density.exp() * density).sum() * AREA
    assert abs(got.mean() - entropy) < 4 * got.std() / len(x) ** 0.5


def test_more_draws_come_closer_to_the_exact_ratio(generator):
    """phi at a point by quadrature, the mean over draws of noise of exp(log phi) by Monte Carlo."""
    target = GaussianMixture([[-1.5, 0.2], [1.2, 1.0]], [0.8, 0.6], [0.4, 0.6])
    x, variance = torch.tensor([[0.4, 0.1]], dtype=torch.float64), 0.5
    joint = log_joint(MIXTURE, POINTS).logsumexp(-1)
    kernel = joint - 0.5 * (x - (1 - variance) ** 0.5 * POINTS).square().sum(-1) / variance
    exact = (kernel.softmax(0) * (target.log_prob(POINTS) - joint).exp()).sum()
    values = torch.stack(
        [MonteCarloRatio(8).bind(target, MIXTURE, generator=generator).evaluate(x, variance)[0]
         for _ in range(2000)]
    ).exp()  # fmt: skip
    assert abs(values.mean() - exact) < 4 * values.std() / len(values) ** 0.5
    many = MonteCarloRatio(20_000).bind(target, MIXTURE, generator=generator)
    assert float(many.evaluate(x, variance)[0].exp()) == pytest.approx(float(exact), rel=0.02)


def test_an_odd_number_of_draws_is_refused():
    with pytest.raises(ValueError, match="num_draws must be even and at least 2, got 3"):
        MonteCarloRatio(3)
