"""Forecasts of others, in WeatherBench 2's layout, are scored by names and values."""

import numpy as np
import pytest
import xarray as xr

from neural_lam import verify_store
from neural_lam.__main__ import main


@pytest.fixture
def truth(tmp_path, waves):
    """Two levels, named as everywhere else."""
    path = str(tmp_path / "truth.zarr")
    data = waves.rename(height="geopotential_height").assign_coords(
        longitude=np.mod(waves["longitude"] - 10.0, 360.0)
    )
    data.to_zarr(path, consolidated=False)
    return path, data


def foreign(data, starts, leads, *, error=0.0):
    """What another model would have written, perfect but for a constant."""
    fields = [
        data["geopotential_height"].isel(time=[start + lead for lead in leads]).values + error
        for start in starts
    ]
    return xr.Dataset(
        {
            "geopotential_height": (
                ("time", "prediction_timedelta", "level", "latitude", "longitude"),
                np.stack(fields).astype(np.float32),
                {"units": "m"},
            )
        },
        {
            "time": data["time"].values[list(starts)],
            "prediction_timedelta": np.array(leads) * np.timedelta64(6, "h"),
            "level": [250, 750],
            "latitude": data["latitude"].values,
            "longitude": data["longitude"].values,
        },
    )


def _by_hours(made):
    leads = made["prediction_timedelta"].values / np.timedelta64(1, "h")
    renamed = made.rename(time="init_time", prediction_timedelta="lead_time")
    return renamed.assign_coords(lead_time=("lead_time", leads.astype(int), {"units": "hours"}))


DIALECTS = {
    "as written": lambda d: d,
    "lead_time in hours": _by_hours,
    "other order": lambda d: d.isel(
        level=[1, 0], latitude=slice(None, None, -1), prediction_timedelta=[2, 0, 1]
    ).transpose("level", ...),
    "other longitudes": lambda d: d.assign_coords(
        longitude=np.mod(d["longitude"] + 180, 360) - 180
    ),
    "with the analysis": lambda d: xr.concat(
        [
            d.isel(prediction_timedelta=[0]).assign_coords(
                prediction_timedelta=[np.timedelta64(0, "ns")]
            ),
            d,
        ],
        "prediction_timedelta",
    ),
}


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", DIALECTS)
def test_a_constant_error_is_found_in_every_dialect(tmp_path, truth, name):
    path, data = truth
    made = DIALECTS[name](foreign(data, range(44, 52), (1, 2, 4), error=2.5))
    forecast = str(tmp_path / "forecast.zarr")
    made.to_zarr(forecast, consolidated=False)
    found = verify_store(forecast, path, progress=False)
    hours = found.scores["prediction_timedelta"].values / np.timedelta64(1, "h")
    assert hours.tolist() == [6, 12, 24]
    np.testing.assert_allclose(found.scores["rmse"].sel(forecast="model"), 2.5, rtol=1e-5)
    np.testing.assert_allclose(found.scores["bias"].sel(forecast="model"), 2.5, rtol=1e-5)
    # Persistence, by hand, at the third lead time and the upper level.
    values = data["geopotential_height"].values[:, 0].astype(float)
    area = np.cos(np.deg2rad(data["latitude"].values))[:, None] * np.ones(17)
    squares = [(values[s + 4] - values[s]) ** 2 for s in range(44, 52)]
    expected = np.sqrt(np.mean([(sq * area).sum() / area.sum() for sq in squares]))
    row = found.scores["rmse"].sel(forecast="persistence", feature="geopotential_height_250")
    assert float(row[2]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*:")
def test_a_part_of_the_levels_and_other_names_are_scored(tmp_path, truth, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, data = truth
    made = foreign(data, range(44, 50), (1, 2)).sel(level=[750]).rename(geopotential_height="gh")
    made.to_zarr("other.zarr", consolidated=False)
    found = verify_store("other.zarr", path, rename={"gh": "geopotential_height"}, progress=False)
    assert [f.name for f in found.features] == ["geopotential_height_750"]
    np.testing.assert_allclose(found.scores["rmse"].sel(forecast="model"), 0, atol=1e-4)
    verify = ["verify", "--forecast", "other.zarr", "--truth", path, "--output", "scores"]
    assert main([*verify, "--rename", "{gh: geopotential_height}"]) == 0
    assert (tmp_path / "scores" / "maps_geopotential_height_750.png").stat().st_size > 10_000


def test_forecasts_without_a_truth_or_lead_times_get_one_line(tmp_path, truth):
    path, data = truth
    forecast = str(tmp_path / "forecast.zarr")
    made = foreign(data, range(44, 50), (1, 2))
    made.to_zarr(forecast, consolidated=False)
    with pytest.raises(ValueError, match="doesn't say where its truth is"):
        verify_store(forecast, progress=False)
    with pytest.raises(ValueError, match="no lead times"):
        verify_store(path, path, progress=False)
    other = made.assign_coords(
        prediction_timedelta=made["prediction_timedelta"].values + np.timedelta64(1, "h")
    )
    other.to_zarr(str(tmp_path / "odd.zarr"), consolidated=False)
    with pytest.raises(ValueError, match="7 h is no multiple of the truth's step 6 h"):
        verify_store(str(tmp_path / "odd.zarr"), path, progress=False)
    wrong = made.copy()
    wrong["geopotential_height"].attrs["units"] = "K"
    wrong.to_zarr(str(tmp_path / "units.zarr"), consolidated=False)
    with pytest.raises(ValueError, match="has the units 'K', the truth 'm'"):
        verify_store(str(tmp_path / "units.zarr"), path, progress=False)
