import numpy as np
import pytest
import torch

from neural_lam.known_answers.autoregression import (
    GaussianField,
    forecast_distribution,
    gaussian_crps,
    ideal_crps,
    simulate_field,
)

FIELD = GaussianField(shape=(12, 16))


def series(num_states=6, batch=2000):
    return simulate_field(
        FIELD, num_states, batch=batch, generator=torch.Generator().manual_seed(0)
    )


def test_the_field_is_stationary_with_unit_variance():
    states = series()
    # Neighbouring points depend on each other: the variance over series, point by point.
    by_series = states.square().mean((2, 3))
    z = (by_series.mean(0) - 1) / (by_series.std(0) / len(states) ** 0.5)
    assert z.abs().max() < 4
    assert (
        states.mean((0, 2, 3)).abs() < 4 * states.mean((2, 3)).std(0) / len(states) ** 0.5
    ).all()


def test_the_forecast_distribution_is_that_of_the_simulation():
    states = series()
    mean, std = forecast_distribution(FIELD, states[:, 0], 5)
    error = states[:, 1:].transpose(0, 1) - mean
    power = error.square().mean((2, 3))
    z = (power.mean(1) - std**2) / (power.std(1) / len(states) ** 0.5)
    assert z.abs().max() < 4
    # Nothing that the state tells is left in the error.
    product = (error * states[:, 0]).mean((2, 3))
    assert (product.mean(1) / (product.std(1) / len(states) ** 0.5)).abs().max() < 4


def test_whole_steps_of_velocity_shift_the_field():
    field = FIELD._replace(memory=0.9, diffusion=0.0, velocity=(1.0, 2.0))
    state = simulate_field(field, 1, generator=torch.Generator().manual_seed(0))[0, 0]
    mean, std = forecast_distribution(field, state, 3)
    torch.testing.assert_close(mean[2], 0.9**3 * state.roll((3, 6), (0, 1)))
    torch.testing.assert_close(std[2], torch.tensor((1 - 0.9**6) ** 0.5, dtype=torch.float64))


def test_the_ideal_crps_is_reached():
    states = series()
    mean, std = forecast_distribution(FIELD, states[:, 0], 5)
    crps = gaussian_crps(mean, std[:, None, None, None], states[:, 1:].transpose(0, 1))
    by_series = crps.mean((2, 3))
    z = (by_series.mean(1) - ideal_crps(FIELD, 5)) / (by_series.std(1) / len(states) ** 0.5)
    assert z.abs().max() < 4


def test_the_crps_is_the_integral_it_stands_for():
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    for mean, std, truth in ((0.0, 1.0, 0.3), (2.0, 0.5, -1.0), (-1.0, 3.0, 4.0)):
        below = torch.distributions.Normal(mean, std).cdf(x)
        integral = torch.trapezoid((below - (x >= truth).double()).square(), x)
        args = (torch.tensor(v, dtype=torch.float64) for v in (mean, std, truth))
        np.testing.assert_allclose(gaussian_crps(*args), integral, atol=2e-4)


def test_an_odd_grid_is_refused():
    with pytest.raises(ValueError, match="even shape"):
        simulate_field(FIELD._replace(shape=(5, 6)), 1, generator=torch.Generator())
