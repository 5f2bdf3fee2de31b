import numpy as np
import pytest
import torch
import xarray as xr

from neural_lam.fields.store import FieldStore
from neural_lam.verification.forecasts import (
    create_forecasts,
    finish_forecasts,
    partial_path,
    resume_forecasts,
    write_forecast,
    written_forecasts,
)


@pytest.fixture
def store(wave_store):
    return FieldStore(wave_store, ["height"])


def test_a_store_has_the_dimensions_of_weatherbench(tmp_path, store):
    path, times = str(tmp_path / "forecast.zarr"), store.times[10:13]
    create_forecasts(path, store, times, 4, {"seed": 3})
    forecasts = torch.stack([store.states(11 + n, 15 + n) for n in range(3)])
    for position in (2, 0, 1):
        write_forecast(path, store, position, forecasts[position])
    finish_forecasts(path)
    with xr.open_zarr(path, consolidated=False, decode_timedelta=True) as data:
        assert data["height"].dims == (
            "time",
            "prediction_timedelta",
            "level",
            "latitude",
            "longitude",
        )
        assert data["height"].attrs["units"] == "m"
        assert data.attrs["seed"] == 3
        np.testing.assert_array_equal(data["time"], times)
        hours = data["prediction_timedelta"].values / np.timedelta64(1, "h")
        np.testing.assert_array_equal(hours, [6, 12, 18, 24])
        with xr.open_zarr(store.path, consolidated=False) as truth:
            found = data["height"].sel(time=times[1]).isel(prediction_timedelta=2)
            valid = times[1] + np.timedelta64(18, "h")
            np.testing.assert_array_equal(found, truth["height"].sel(time=valid))


def test_nothing_stands_under_the_name_before_it_is_whole(tmp_path, store):
    path = tmp_path / "forecast.zarr"
    create_forecasts(str(path), store, store.times[:1], 2, {})
    assert not path.exists()
    with xr.open_zarr(partial_path(str(path)), consolidated=False) as data:
        assert np.isnan(data["height"]).all()
    finish_forecasts(str(path))
    assert sorted(file.name for file in tmp_path.glob("forecast*")) == ["forecast.zarr"]


def test_a_forecast_that_has_blown_up_is_not_written(tmp_path, store):
    path = str(tmp_path / "forecast.zarr")
    create_forecasts(path, store, store.times[:1], 3, {})
    forecast = store.states(0, 3).clone()
    forecast[1, 5, 0] = torch.inf
    with pytest.raises(ValueError, match="forecast 0 is not finite from lead step 2 on"):
        write_forecast(path, store, 0, forecast)
    with xr.open_zarr(partial_path(path), consolidated=False) as data:
        assert np.isnan(data["height"]).all()


def plan(store, path, attributes=None):
    resume_forecasts(path, store, store.times[:4], 2, attributes or {"seed": 3})
    return written_forecasts(path)


def fill(store, path, positions):
    for position in positions:
        write_forecast(path, store, position, store.states(position, position + 2))


def content(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_an_interrupted_store_is_continued_to_the_same_bytes(tmp_path, store):
    whole, broken = str(tmp_path / "whole.zarr"), str(tmp_path / "broken.zarr")
    assert plan(store, whole) == set()
    fill(store, whole, range(4))
    finish_forecasts(whole)
    assert plan(store, broken) == set()
    fill(store, broken, (2, 0))
    # Half a chunk of the forecast that was being written.
    chunk = next((tmp_path / "broken.zarr.part/height/c").rglob("2/0/*/*/0"))
    other = tmp_path / "broken.zarr.part/height/c/1" / "/".join(chunk.parts[-4:])
    other.parent.mkdir(parents=True)
    other.write_bytes(chunk.read_bytes()[:50])
    assert plan(store, broken) == {0, 2}
    fill(store, broken, (1, 3))
    finish_forecasts(broken)
    assert content(tmp_path / "whole.zarr") == content(tmp_path / "broken.zarr")


def test_an_unfinished_store_of_other_forecasts_is_not_continued(tmp_path, store):
    path = str(tmp_path / "forecast.zarr")
    plan(store, path)
    fill(store, path, (1,))
    assert plan(store, path) == {1}
    assert plan(store, path, {"seed": 4}) == set()


def test_nobody_elses_folder_is_replaced(tmp_path, wave_store):
    from neural_lam.verification.forecasts import claim_forecasts, discard_empty, resume_forecasts

    store, other = FieldStore(wave_store, ["height"]), tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no store of forecasts; name another place"):
        claim_forecasts(str(other))
    other.rename(tmp_path / "mine.part")
    with pytest.raises(ValueError, match="no unfinished store of forecasts"):
        resume_forecasts(str(other), store, store.times[:2], 3, {})
    assert (tmp_path / "mine.part" / "thesis.txt").read_text() == "years of work"
    path = str(tmp_path / "forecast.zarr")
    resume_forecasts(path, store, store.times[:2], 3, {})
    discard_empty(path)
    assert not (tmp_path / "forecast.zarr.part").exists()
    resume_forecasts(path, store, store.times[:2], 3, {})
    write_forecast(path, store, 1, store.states(2, 5))
    discard_empty(path)
    assert written_forecasts(path) == {1}
