import math

import pytest
import torch

from diffsmc import Gaussian, SkewedGaussian
from diffsmc.potentials.monte_carlo import MonteCarloPotential, NaivePotential, log_ratio


def exact_log_potential(mean, variance, x, lam):
    """log E[N(X_0; m, v) / N(X_0; 0, 1)] for X_0 ~ N(sqrt(1 - lam) x, lam), in one dimension."""
    grid = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    centre = math.sqrt(1 - lam) * x
    prior = torch.distributions.Normal(centre, math.sqrt(lam)).log_prob(grid)
    target = torch.distributions.Normal(mean, math.sqrt(variance)).log_prob(grid)
    reference = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    return float((prior + target - reference).logsumexp(0) + math.log(grid[1] - grid[0]))


@pytest.mark.parametrize("lam", [0.1, 0.5, 0.9])
def test_many_draws_give_the_exact_potential_and_score(lam, generator):
    target = Gaussian([0.4], [[0.5]])
    potential = MonteCarloPotential(400_000).bind(target, generator=generator)
    value, drift = potential.evaluate(torch.tensor([[0.7]]).double(), lam)
    assert value.item() == pytest.approx(exact_log_potential(0.4, 0.5, 0.7, lam), abs=0.01)
    high, low = (exact_log_potential(0.4, 0.5, 0.7 + h, lam) for h in (1e-4, -1e-4))
    assert drift.item() == pytest.approx((high - low) / 2e-4, abs=0.02)


@pytest.mark.parametrize("potential", [NaivePotential(), MonteCarloPotential(4)])
def test_potentials_are_the_target_at_zero_noise(potential, generator):
    target = SkewedGaussian(2)
    x = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    value, drift = potential.bind(target, generator=generator).evaluate(x, 0.0)
    torch.testing.assert_close(value, log_ratio(target, x))
    torch.testing.assert_close(drift, target.log_prob_and_grad(x)[1] + x)


def test_the_drift_is_bounded_by_the_noise(generator):
    target = Gaussian([50.0, 50.0], [[1e-4, 0.0], [0.0, 1e-4]])
    potential = MonteCarloPotential(8).bind(target, generator=generator)
    x = torch.randn(100, 2, generator=generator, dtype=torch.float64)
    _, drift = potential.evaluate(x, 0.5)
    assert drift.norm(dim=-1).max() <= potential.noise.norm(dim=-1).max() + 1e-12


def test_odd_numbers_of_draws_are_refused():
    with pytest.raises(ValueError, match="num_draws must be even"):
        MonteCarloPotential(3)
