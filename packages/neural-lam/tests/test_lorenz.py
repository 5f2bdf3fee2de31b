from itertools import pairwise

import pytest
import torch

from neural_lam.known_answers.lorenz import (
    growth_rate,
    lorenz_step,
    lorenz_tendency,
    simulate_lorenz,
)


def test_the_nonlinear_part_conserves_energy():
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    advection = lorenz_tendency(x) + x - 8.0
    assert ((x * advection).sum(-1)).abs().max() < 1e-12


def test_small_waves_grow_as_linear_theory_says():
    sites = torch.arange(40, dtype=torch.float64)
    k = torch.tensor(2 * torch.pi * 8 / 40, dtype=torch.float64)
    start = 8 + 1e-7 * torch.cos(k * sites)
    *_, end = simulate_lorenz(start, num_states=5, interval=0.05, steps=50)
    rate = growth_rate(k)
    time = 0.2
    expected = 1e-7 * torch.exp(rate.real * time) * torch.cos(k * sites + rate.imag * time)
    torch.testing.assert_close(end - 8, expected, rtol=2e-5, atol=2e-12)


def test_the_integration_is_of_fourth_order():
    start = 8 + torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def end(steps):
        x = start
        for _ in range(steps):
            x = lorenz_step(x, 0.4 / steps)
        return x

    truth = end(1280)
    errors = [float((end(steps) - truth).abs().max()) for steps in (20, 40, 80)]
    assert all(14 < a / b < 18 for a, b in pairwise(errors))


def test_errors_double_in_about_two_days():
    # Lorenz (1996): small errors double in 2.1 days (0.42 units) for F = 8 and 40 sites.
    generator = torch.Generator().manual_seed(0)
    x = 8 + torch.randn(200, 40, generator=generator, dtype=torch.float64)
    *_, x = simulate_lorenz(x, num_states=200)
    y = x + 1e-6 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    distances = [
        (a - b).norm(dim=-1).log2().mean()
        for a, b in zip(
            simulate_lorenz(x, num_states=101), simulate_lorenz(y, num_states=101), strict=True
        )
    ]
    doubling = 0.05 * 60 / float(distances[100] - distances[40])
    assert 0.36 < doubling < 0.48


def test_too_few_sites_are_refused():
    with pytest.raises(ValueError, match="at least 4 sites, got 3"):
        next(simulate_lorenz(torch.zeros(3), num_states=1))
