import numpy as np
import pytest

from neural_lam.predictors.baselines import (
    climatology,
    fit_components,
    fit_stencil,
    forecast_components,
    last_known_day,
    roll_stencil,
    same_hour_yesterday,
)

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
    times = np.datetime64("2020-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
    states = RNG.standard_normal((40, 2, 3, 3))
    found = climatology(states, times)
    np.testing.assert_allclose(
        found.at(times[:4]), states.reshape(10, 4, 2, 3, 3).mean(0), rtol=1e-12
    )
    later = times[3:5] + np.timedelta64(365, "D")
    np.testing.assert_allclose(found.at(later), found.at(times[3:5]), rtol=0)


def test_a_step_that_does_not_divide_the_day_has_one_mean():
    times = np.datetime64("2020-01-01", "ns") + np.arange(20) * np.timedelta64(7, "h")
    states = RNG.standard_normal((20, 1, 2, 2))
    np.testing.assert_allclose(
        climatology(states, times).at(times[5:7]), np.stack([states.mean(0)] * 2)
    )


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


def test_a_square_wider_than_the_boundary_is_refused():
    with pytest.raises(ValueError, match="reach must be from 1 to the boundary's width 2, got 3"):
        fit_stencil(advected(), 2, 3)


def test_a_cross_sees_five_points():
    anomalies = advected()
    stencil = fit_stencil(anomalies, 3, 1, ridges=(1e-6,), cross=True)
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
    for sees in (True, False):
        fitted = fit_components(anomalies, 3, 4, period=8, chosen_from=80, sees_boundary=sees)
        past, future = anomalies[100:109], anomalies[109:113].copy()
        expected = forecast_components(fitted, past, future)
        future[..., 3:-3, 3:-3] = np.nan
        if not sees:
            future[:] = np.nan
        found = forecast_components(fitted, past, future)
        np.testing.assert_array_equal(found[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3])
