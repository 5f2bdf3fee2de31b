import numpy as np
import pytest

from neural_lam.graphs.sides import Sides
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.climatology import Year, climatology
from neural_lam.predictors.components import (
    fit_components,
    forecast_components,
    last_known_day,
    same_hour_yesterday,
)
from neural_lam.predictors.stencil import Points, fit_stencil, roll_stencil, stencil_residual

RNG = np.random.default_rng(0)


def advected(num_times=80, size=24):
    """Smooth random fields that move one point east and one half point north a step."""
    k = np.fft.fftfreq(size) * 2 * np.pi
    ky, kx = np.meshgrid(k, k, indexing="ij")
    spectrum = np.fft.fft2(RNG.standard_normal((2, size, size))) * np.exp(-4 * (kx**2 + ky**2))
    spectrum[:, size // 2] = spectrum[:, :, size // 2] = 0
    shift = np.exp(-1j * (kx + 0.5 * ky))
    return np.stack([np.fft.ifft2(spectrum * shift**t).real for t in range(num_times)])


def test_climatology_is_the_mean_of_each_time_of_day():
    slots, phases = np.arange(40) % 4, np.zeros(40)
    states = RNG.standard_normal((40, 2, 3, 3))
    found = climatology(states, slots, phases)
    np.testing.assert_allclose(
        found.at(slots[:4], phases[:4]), states.reshape(10, 4, 2, 3, 3).mean(0), rtol=1e-12
    )
    np.testing.assert_array_equal(
        found.at(np.array([2]), np.array([0.7])), found.at(slots[2:3], phases[:1])
    )


def test_climatology_follows_the_seasons_of_each_time_of_day():
    slots = np.arange(1464) % 4
    phases = np.arange(1464) / 1461
    wave = 5 * np.cos(2 * np.pi * phases) + np.sin(4 * np.pi * phases + slots)
    states = (280 + slots + wave)[:, None, None, None] * np.ones((1, 2, 3, 1))
    found = climatology(states, slots, phases, year=Year.HARMONIC)
    np.testing.assert_allclose(found.at(slots, phases), states, rtol=1e-9)
    flat = climatology(states, slots, phases)
    assert np.abs(flat.at(slots, phases) - states).max() > 4


def test_climatology_leaves_out_what_is_not_usable():
    slots, phases = np.arange(40) % 4, np.zeros(40)
    states = RNG.standard_normal((40, 1, 2, 2))
    usable = np.arange(40) > 7
    spoilt = states.copy()
    spoilt[~usable] = 1e6
    found = climatology(spoilt, slots, phases, usable)
    np.testing.assert_allclose(
        found.at(slots[:4], phases[:4]), states[8:].reshape(8, 4, 1, 2, 2).mean(0)
    )


def test_a_time_of_day_that_never_occurs_is_refused():
    with pytest.raises(ValueError, match="every time of the day"):
        climatology(np.zeros((3, 1, 2, 2)), np.array([0, 1, 3]), np.zeros(3))


def test_a_linear_flow_is_forecast_exactly():
    anomalies = advected()
    stencil = fit_stencil(anomalies, 4, 3, ridges=(1e-12,))
    found = roll_stencil(stencil, anomalies[60:62], anomalies[62:68])
    assert np.abs(found - anomalies[62:68]).max() < 0.02 * anomalies.std()


def test_the_rollout_reads_the_boundary_alone():
    anomalies = advected()
    stencil = fit_stencil(anomalies, 3, 1)
    frame = anomalies[62:66].copy()
    expected = roll_stencil(stencil, anomalies[60:62], frame)
    frame[..., 3:-3, 3:-3] = np.nan
    np.testing.assert_array_equal(roll_stencil(stencil, anomalies[60:62], frame), expected)
    np.testing.assert_array_equal(expected[..., :3, :], anomalies[62:66, :, :3, :])


def test_the_chosen_ridge_keeps_a_rollout_bounded():
    noisy = advected(120) + 0.02 * RNG.standard_normal((120, 2, 24, 24))
    stencil = fit_stencil(noisy, 3, 3)
    found = roll_stencil(stencil, noisy[100:102], noisy[102:118])
    assert np.abs(found).max() < 3 * np.abs(noisy).max()


def test_a_square_as_wide_as_the_grid_is_refused():
    with pytest.raises(ValueError, match="reach must be from 1 to less than 24, got 24"):
        fit_stencil(advected(), 2, 24)


def test_a_flow_around_the_globe_is_forecast_without_a_boundary():
    t, y, x = np.ogrid[:80, :9, :24]
    angle = 2 * np.pi * (x - 0.6 * t) / 24
    anomalies = (np.cos(angle) * (1 + 0.1 * y) + np.sin(3 * angle))[:, None]
    round_it = fit_stencil(anomalies, 0, 3, sides=Sides.JOINED, ridges=(1e-12,))
    found = roll_stencil(round_it, anomalies[40:42], anomalies[42:50])
    np.testing.assert_allclose(found, anomalies[42:50], atol=1e-5)
    cut = fit_stencil(anomalies, 0, 3, ridges=(1e-12,))
    assert (
        np.abs(roll_stencil(cut, anomalies[40:42], anomalies[42:50]) - anomalies[42:50]).max()
        > 0.01
    )


def test_a_stencil_is_fitted_where_everything_exists():
    anomalies = advected(120)
    exists = np.ones((2, 24, 24), dtype=bool)
    exists[1, :, :10] = False
    held = np.where(exists, anomalies, 0.0)
    stencil = fit_stencil(held, 4, 3, ridges=(1e-12,), exists=exists)
    # Far from the coast the square sees what a whole field would show.
    inside = (..., slice(4, -4), slice(14, -4))
    found = roll_stencil(stencil, held[60:62], held[62:63])
    assert (found[:, 1, 4:-4, 4:10] == 0).all()
    assert np.abs(found[inside] - anomalies[62:63][inside]).max() < 0.3 * anomalies.std()
    left = stencil_residual(stencil, held, np.arange(10, 60, 10))
    assert left.shape == (2,)
    assert (left < anomalies.std()).all()


def test_a_cross_sees_five_points():
    anomalies = advected()
    stencil = fit_stencil(anomalies, 3, 1, ridges=(1e-6,), points=Points.CROSS)
    assert stencil.weights.shape == (2 * 5 + 2, 2)
    start = anomalies[60:62].copy()
    expected = roll_stencil(stencil, start, anomalies[62:63])[0, :, 10, 10]
    start[1][:, 9, 9] = start[1][:, 11, 11] = np.nan
    np.testing.assert_array_equal(
        roll_stencil(stencil, start, anomalies[62:63])[0, :, 10, 10], expected
    )


def test_yesterday_is_the_last_known_day():
    np.testing.assert_array_equal(last_known_day(9, 4), [-3, -2, -1, 0, -3, -2, -1, 0, -3])
    past = np.arange(5.0)[:, None, None, None]
    np.testing.assert_array_equal(same_hour_yesterday(past, 6)[:, 0, 0, 0], [1, 2, 3, 4, 1, 2])


def test_components_forecast_a_linear_flow():
    # Two travelling waves: four components carry everything, so each lead time is exact.
    t, y, x = np.ogrid[:160, :12, :14]
    anomalies = (np.sin(0.5 * x - 0.3 * t) + np.cos(0.4 * y + 0.7 * t))[:, None]
    fitted = fit_components(
        anomalies, 2, 6, period=4, chosen_from=100, sizes=(2, 6), ridges=(1e-9, 1.0)
    )
    found = forecast_components(fitted, anomalies[136:141], anomalies[141:147])
    np.testing.assert_allclose(found, anomalies[141:147], atol=1e-4)


def test_components_read_the_future_boundary_alone_or_nothing():
    anomalies = advected(120)
    for held in FutureBoundary:
        fitted = fit_components(anomalies, 3, 4, period=8, chosen_from=80, future=held)
        past, future = anomalies[100:109], anomalies[109:113].copy()
        expected = forecast_components(fitted, past, future)
        future[..., 3:-3, 3:-3] = np.nan
        if held is FutureBoundary.HELD:
            future[:] = np.nan
        found = forecast_components(fitted, past, future)
        np.testing.assert_array_equal(found[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3])
