import numpy as np
import pytest

from neural_lam.verification.scores import bootstrap_ratio, bootstrap_rmse, scores, sums

RNG = np.random.default_rng(0)


def test_sums_are_those_written_out():
    forecast, truth, mean = (RNG.standard_normal((5, 3, 2, 4, 6)) for _ in range(3))
    weights = RNG.random((4, 6))
    weights[0] = 0
    found = sums(forecast, truth, mean, weights)
    for n, t, v in [(0, 0, 0), (4, 2, 1), (2, 1, 0)]:
        w = weights / weights.sum()
        e, a, b = (
            forecast[n, t, v] - truth[n, t, v],
            forecast[n, t, v] - mean[n, t, v],
            truth[n, t, v] - mean[n, t, v],
        )
        expected = (
            (w * e**2).sum(),
            (w * abs(e)).sum(),
            (w * e).sum(),
            (w * a * b).sum(),
            (w * a**2).sum(),
            (w * b**2).sum(),
        )
        np.testing.assert_allclose([field[n, t, v] for field in found], expected, rtol=1e-12)


def test_the_boundary_may_hold_anything():
    truth = RNG.standard_normal((2, 1, 1, 4, 4))
    weights = np.zeros((4, 4))
    weights[1:3, 1:3] = 1
    forecast = truth.copy()
    forecast[..., 0, :] = np.nan
    np.testing.assert_array_equal(sums(forecast, truth, np.zeros(1), weights).square, 0)
    forecast[0, 0, 0, 1, 1] = np.inf
    with pytest.raises(ValueError, match="missing or infinite"):
        sums(forecast, truth, np.zeros(1), weights)


def test_scores_follow_from_the_sums():
    truth = RNG.standard_normal((40, 2, 1, 5, 5))
    forecast = truth + 0.5 * RNG.standard_normal(truth.shape) + 0.1
    zero, weights = np.zeros((1, 1, 1)), np.ones((5, 5))
    leads = np.array([6, 12], "timedelta64[h]")
    rows = {
        "model": sums(forecast, truth, zero, weights),
        "climatology": sums(zero + 0 * truth, truth, zero, weights),
    }
    found = scores(rows, ["z"], leads, block=2)
    error = forecast - truth
    np.testing.assert_allclose(
        found["rmse"].sel(forecast="model", feature="z"), np.sqrt((error**2).mean((0, 3, 4)))[:, 0]
    )
    np.testing.assert_allclose(
        found["bias"].sel(forecast="model", feature="z"), error.mean((0, 3, 4))[:, 0]
    )
    acc = [np.corrcoef(forecast[:, t].ravel(), truth[:, t].ravel())[0, 1] for t in range(2)]
    np.testing.assert_allclose(found["acc"].sel(forecast="model", feature="z"), acc, atol=0.02)
    assert np.isnan(found["acc"].sel(forecast="climatology")).all()
    np.testing.assert_allclose(
        found["rmse"].sel(forecast="climatology", feature="z"),
        np.sqrt((truth**2).mean((0, 3, 4)))[:, 0],
    )


def test_the_anomaly_correlation_is_the_sum_over_points_written_out():
    shape = (4, 2, 2, 3, 5)
    forecast, truth, mean = (RNG.standard_normal(shape) + shift for shift in (0.3, 0.7, 5.0))
    weights = RNG.random((3, 5))
    weights[:, 0] = 0
    rows = {"model": sums(forecast, truth, mean, weights)}
    found = scores(rows, ["u", "v"], np.array([6, 12], "timedelta64[h]"), block=1)["acc"]
    for lead in range(2):
        for feature, name in enumerate(("u", "v")):
            # Of each forecast, then their mean, as WeatherBench 2 does.
            correlations = []
            for n in range(4):
                product = power = true_power = 0.0
                for y, x in np.ndindex(3, 5):
                    a = forecast[n, lead, feature, y, x] - mean[n, lead, feature, y, x]
                    b = truth[n, lead, feature, y, x] - mean[n, lead, feature, y, x]
                    product += weights[y, x] * a * b
                    power += weights[y, x] * a * a
                    true_power += weights[y, x] * b * b
                correlations.append(product / np.sqrt(power * true_power))
            row = found.sel(forecast="model", feature=name).isel(prediction_timedelta=lead)
            assert float(row) == pytest.approx(np.mean(correlations), rel=1e-12)


def test_a_perfect_forecast_scores_perfectly():
    truth = RNG.standard_normal((6, 2, 1, 5, 5))
    found = scores(
        {"model": sums(truth, truth, np.zeros((1, 1, 1)), np.ones((5, 5)))},
        ["z"],
        np.array([1, 2], "timedelta64[h]"),
        block=1,
    )
    np.testing.assert_array_equal(found["rmse"], 0)
    np.testing.assert_allclose(found["acc"], 1)


def test_intervals_cover_as_often_as_they_say():
    # 300 experiments of 64 independent normal errors: a 90 % interval of the RMSE.
    covered = 0
    for experiment in range(300):
        square = np.random.default_rng(experiment).standard_normal((64, 1)) ** 2
        lower, upper = bootstrap_rmse(square, block=1, num_resamples=300, level=0.9)
        covered += bool(lower[0] <= 1 <= upper[0])
    assert 0.82 < covered / 300 < 0.95


def test_blocks_widen_the_interval_of_dependent_errors():
    noise = np.repeat(RNG.standard_normal((40, 1)) ** 2, 10, axis=0)
    widths = [np.subtract(*bootstrap_rmse(noise, block=block)[::-1])[0] for block in (1, 20)]
    assert widths[1] > 2 * widths[0]


def test_a_ratio_is_compared_in_pairs():
    reference = RNG.standard_normal((80, 3)) ** 2
    ends = bootstrap_ratio(0.81 * reference, reference, block=4)
    np.testing.assert_allclose(ends, np.full((2, 3), 0.9))
    # Noise that both share leaves the ratio almost alone, but not each RMSE.
    noisy = 0.81 * reference + 0.001 * RNG.random((80, 3))
    lower, upper = bootstrap_ratio(noisy, reference, block=4)
    separate = [np.subtract(*bootstrap_rmse(s, block=4)[::-1]) for s in (noisy, reference)]
    assert (upper - lower < 0.1 * np.minimum(*separate)).all()


def test_intervals_of_a_ratio_cover_as_often_as_they_say():
    covered = 0
    for experiment in range(300):
        rng = np.random.default_rng(experiment)
        shared, own, other = rng.standard_normal((3, 100, 1))
        pair = (shared + own) ** 2, (shared + other) ** 2
        lower, upper = bootstrap_ratio(*pair, block=1, num_resamples=300, level=0.9)
        covered += bool(lower[0] <= 1 <= upper[0])
    assert 0.84 < covered / 300 < 0.95
