import numpy as np
import pytest
import torch
import xarray as xr

from neural_lam.known_answers.autoregression import gaussian_crps
from neural_lam.verification.scores import radial_spectrum, scores, sums

RNG = np.random.default_rng(0)
N, T, ROWS, COLUMNS = 12, 3, 5, 7


@pytest.fixture
def fields():
    truth = RNG.standard_normal((N, T, 1, ROWS, COLUMNS))
    forecast = 0.7 * truth + 0.5 * RNG.standard_normal(truth.shape) + 0.2
    weights = RNG.random((ROWS, COLUMNS)) + 0.1
    return forecast, truth, weights


def test_scores_are_those_of_xskillscore(fields):
    xs = pytest.importorskip("xskillscore")
    forecast, truth, weights = fields
    rows = {"model": sums(forecast, truth, np.zeros((1, 1, 1)), weights)}
    leads = np.arange(1, T + 1) * np.timedelta64(1, "h")
    found = scores(rows, ["z"], leads, block=1).isel(forecast=0, feature=0)
    dims = ["time", "lead", "y", "x"]
    a, b = (xr.DataArray(field[:, :, 0], dims=dims) for field in (forecast, truth))
    w = xr.DataArray(weights, dims=["y", "x"])
    over = {"dim": ["time", "y", "x"], "weights": w.expand_dims(time=N)}
    np.testing.assert_allclose(found["rmse"], xs.rmse(a, b, **over), rtol=1e-6)
    np.testing.assert_allclose(found["mae"], xs.mae(a, b, **over), rtol=1e-6)
    np.testing.assert_allclose(found["bias"], xs.me(a, b, **over), rtol=1e-6)


def test_the_gaussian_crps_is_that_of_scoringrules():
    sr = pytest.importorskip("scoringrules")
    mean, std, truth = RNG.standard_normal(50), RNG.random(50) + 0.1, RNG.standard_normal(50)
    found = gaussian_crps(*map(torch.from_numpy, (mean, std, truth)))
    np.testing.assert_allclose(found, sr.crps_normal(truth, mean, std), rtol=1e-6)


def test_a_spectrum_adds_up_to_the_variance():
    fields = RNG.standard_normal((3, 12, 20)) + 5
    wavenumber, power = radial_spectrum(fields)
    np.testing.assert_allclose(power.sum(-1), fields.var((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(wavenumber[[0, -1]], [1 / 12, 1])


def test_a_single_wave_lies_in_its_ring():
    rows, columns, i, j = 16, 32, 3, 8
    y, x = np.mgrid[:rows, :columns]
    wave = np.cos(np.pi * i * (y + 0.5) / rows) * np.cos(np.pi * j * (x + 0.5) / columns)
    wavenumber, power = radial_spectrum(wave)
    ring = int(np.argmax(power))
    assert power[ring] == pytest.approx(power.sum(), rel=1e-12)
    assert abs(wavenumber[ring] - np.hypot(i / rows, j / columns)) <= 0.5 / rows + 1e-12
