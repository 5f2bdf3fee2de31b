import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import xarray as xr

from neural_lam.fields.store import FieldStore
from neural_lam.verification.forecasts import create_forecasts, finish_forecasts, write_forecast
from neural_lam.verification.store import verify_store


@pytest.fixture
def forecast(tmp_path, wave_store):
    """Seven forecasts of three steps, off by noise."""
    store = FieldStore(wave_store, ["height"])
    path, starts = str(tmp_path / "forecast.zarr"), range(48, 55)
    attributes = {"data": wave_store, "boundary_width": 2, "training_stop": 36}
    create_forecasts(path, store, store.times[list(starts)], 3, attributes)
    generator = torch.Generator().manual_seed(0)
    for position, start in enumerate(starts):
        truth = store.states(start + 1, start + 4)
        noise = torch.randn(truth.shape, generator=generator)
        write_forecast(path, store, position, truth + noise)
    finish_forecasts(path)
    return path


def _rank(rank, forecast, folder):
    torch.set_num_threads(1)
    init = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    found = verify_store(forecast, progress=False).scores
    found.to_netcdf(f"{folder}/{rank}.nc", engine="h5netcdf")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*:")
def test_two_ranks_score_as_one_process(forecast, tmp_path):
    expected = verify_store(forecast, progress=False).scores
    mp.start_processes(_rank, (forecast, str(tmp_path)), nprocs=2, start_method="fork")
    for rank in range(2):
        with xr.open_dataset(tmp_path / f"{rank}.nc", decode_timedelta=True) as found:
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
    assert expected.attrs["num_forecasts"] == 7


def test_every_simple_forecast_is_scored(forecast):
    result = verify_store(forecast, progress=False)
    assert [str(name) for name in result.scores["forecast"].values] == [
        "model",
        "linear_stencil",
        "five_point_stencil",
        "principal_components",
        "same_hour_yesterday",
        "persistence",
        "climatology",
    ]
    rmse = result.scores["rmse"].sel(forecast="model")
    np.testing.assert_allclose(rmse, 1, atol=0.1)
    assert (result.scores["rmse_lower"] <= result.scores["rmse"]).all()
    assert (result.scores["time"].values == result.forecasts.times).all()
    np.testing.assert_allclose(result.scores["square"].mean("time"), result.scores["rmse"] ** 2)
    power = result.scores["spectrum"].sum("wavenumber").sel(source="model")
    fields = result.forecasts.data["height"].values[..., 2:-2, 2:-2].astype(float)
    np.testing.assert_allclose(power, fields.var((-2, -1)).mean(0), rtol=1e-6)


def test_yesterday_is_scored_by_hand(forecast, waves):
    found = verify_store(forecast, uniform=True, progress=False).scores["rmse"]
    height = waves["height"].values[..., 2:-2, 2:-2].astype(float)
    starts = np.arange(48, 55)
    for lead in (1, 2, 3):
        error = height[starts + lead - 4] - height[starts + lead]
        expected = np.sqrt((error**2).mean((0, 2, 3)))
        row = found.sel(forecast="same_hour_yesterday").isel(prediction_timedelta=lead - 1)
        np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_points_of_a_projected_grid_count_alike(forecast, tmp_path, waves):
    def projected(data):
        flat = data.drop_vars(["latitude", "longitude"]).rename(latitude="y", longitude="x")
        north, east = np.meshgrid(data["latitude"], data["longitude"], indexing="ij")
        return flat.assign_coords(
            y=2500.0 * np.arange(len(data["latitude"])),
            x=2500.0 * np.arange(len(data["longitude"])),
            latitude=(("y", "x"), north),
            longitude=(("y", "x"), east),
        )

    truth, moved = str(tmp_path / "truth.zarr"), str(tmp_path / "moved.zarr")
    projected(waves).to_zarr(truth, consolidated=False)
    given = xr.open_zarr(forecast, consolidated=False, chunks=None)
    for name in given.variables:
        given[name].encoding = {}
    projected(given).to_zarr(moved, consolidated=False)
    found = verify_store(moved, truth, progress=False).scores
    alike = verify_store(forecast, uniform=True, progress=False).scores
    by_area = verify_store(forecast, progress=False).scores
    assert [table.attrs["weights"] for table in (found, alike, by_area)] == [
        "uniform",
        "uniform",
        "area",
    ]
    np.testing.assert_allclose(found["rmse"], alike["rmse"], rtol=1e-12)
    assert float(abs(found["rmse"] - by_area["rmse"]).max()) > 1e-4


def test_stores_that_do_not_fit_are_refused(forecast, tmp_path, waves):
    def truth(change):
        path = str(tmp_path / "truth.zarr")
        change(waves).to_zarr(path, mode="w", consolidated=False)
        return path

    cases = [
        (lambda d: d.isel(longitude=slice(0, -1)), "its grid .* is not that of"),
        (lambda d: d.assign_coords(latitude=d["latitude"] + 1), "its latitude is up to 1 from"),
        (lambda d: d.isel(time=slice(0, 40)), "no truth for the forecasts from 2020-01-13T00:00"),
        (lambda d: d.rename(height="depth"), "no variable 'height'"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            verify_store(forecast, truth(change), progress=False)
        assert "\n" not in str(caught.value)


def test_forecasts_beyond_the_truth_are_left_out_and_counted(forecast, tmp_path, waves):
    path = str(tmp_path / "short.zarr")
    waves.isel(time=slice(0, 55)).to_zarr(path, consolidated=False)
    found = verify_store(forecast, path, progress=False)
    assert found.numbers.tolist() == [0, 1, 2, 3]
    assert (found.scores.attrs["num_left_out"], found.scores.attrs["num_forecasts"]) == (3, 4)
