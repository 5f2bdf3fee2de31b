"""Marginal densities of weighted draws: narrow modes survive, heavy draws make no spikes."""

import numpy as np
import pytest

from diffsmc.results.densities import adaptive_density


def normal(x, mean=0.0, scale=1.0):
    return np.exp(-0.5 * ((x - mean) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_a_gaussian_is_drawn_as_one(random):
    grid, density = adaptive_density(random.standard_normal(20_000), np.ones(20_000))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.01)
    assert np.abs(density - normal(grid)).max() < 0.1 * normal(0.0)


def test_weights_count(random):
    """Draws of N(0, 2) weighted to N(1, 1)."""
    x = 2 * random.standard_normal(40_000)
    grid, density = adaptive_density(x, normal(x, 1.0) / normal(x, 0.0, 2.0))
    assert np.abs(density - normal(grid, 1.0)).max() < 0.1 * normal(0.0)


def test_a_narrow_mode_keeps_height_and_mass(random):
    """A fiftieth as wide as the other, with three tenths of the mass."""
    wide, narrow = random.standard_normal(14_000) - 3, 0.02 * random.standard_normal(6000) + 3
    x = np.concatenate([wide, narrow])
    grid, density = adaptive_density(x, np.ones_like(x))
    peak = 0.3 * normal(0.0, 0.0, 0.02)
    assert density.max() == pytest.approx(peak, rel=0.2)
    right = grid > 2
    assert np.trapezoid(density[right], grid[right]) == pytest.approx(0.3, abs=0.03)
    # and the valley stays empty
    assert density[(grid > 0.9) & (grid < 2.5)].max() < 0.01


def test_heavy_draws_make_no_spikes(random):
    """Each of ten draws of 1200 holds 4 % of the mass, as in a badly weighted run."""
    x = random.standard_normal(1200)
    weights = np.ones_like(x)
    weights[random.choice(1200, 10, replace=False)] = 0.04 * 1200 / 0.6
    _grid, density = adaptive_density(x, weights)
    assert density.max() < 2.5 * normal(0.0)


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [0.0, 1.0]])
def test_few_or_equal_draws_have_a_density(values):
    grid, density = adaptive_density(np.array(values), np.ones(len(values)))
    assert np.isfinite(grid).all()
    assert np.isfinite(density).all()
