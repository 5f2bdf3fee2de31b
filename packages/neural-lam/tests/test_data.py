import tracemalloc
from datetime import datetime

import numpy as np
import pytest
import torch
import xarray as xr

from neural_lam.data.domain import make_domain
from neural_lam.data.forcing import cos_zenith, forcing, forcing_names, forcing_window
from neural_lam.data.module import GriddedData
from neural_lam.data.statistics import combine, moments, state_statistics, write_statistics
from neural_lam.data.windows import Windows
from neural_lam.fields.areas import area_weights, frame_interior, grid_areas
from neural_lam.fields.chunks import ChunkReader
from neural_lam.fields.store import FieldStore
from neural_lam.graphs.construction import Grid, Rectangular


@pytest.fixture
def changed(tmp_path, waves):
    """Writes the waves after a change."""

    def write(change):
        path = str(tmp_path / "changed.zarr")
        change(waves).to_zarr(path, consolidated=False)
        return path

    return write


def test_states_are_the_fields_of_the_store(wave_store, waves):
    store = FieldStore(wave_store, ["height"])
    states = store.states(3, 7)
    assert [feature.name for feature in store.features] == ["height_250", "height_750"]
    for v in range(2):
        expected = waves["height"].values[3:7, v].reshape(4, -1)
        np.testing.assert_array_equal(states[:, :, v].numpy(), expected)


def test_netcdf_reads_like_zarr(tmp_path, wave_store, waves):
    path = str(tmp_path / "waves.nc")
    waves.to_netcdf(path, engine="h5netcdf")
    a, b = FieldStore(wave_store, ["height"]), FieldStore(path, ["height"])
    assert torch.equal(a.states(0, 60), b.states(0, 60))


def test_a_store_larger_than_memory_is_read_piece_by_piece(wave_store):
    kept = FieldStore(wave_store, ["height"])
    piecewise = FieldStore(wave_store, ["height"], memory_limit=0)
    assert piecewise._kept is None
    for start, stop in ((10, 13), (0, 60), (59, 60), (0, 1), (31, 33)):
        assert torch.equal(piecewise.states(start, stop), kept.states(start, stop))


def test_chunks_are_read_once_and_ahead_and_few_are_kept():
    read = []

    def items(first, last):
        read.append(first)
        return torch.arange(first, last)

    reader = ChunkReader(items, 95, 10)
    for start in range(90):
        assert torch.equal(reader.read(start, start + 5), torch.arange(start, start + 5))
    reader._pool.shutdown()
    assert read == list(range(0, 95, 10))
    assert len(reader._chunks) <= 3


def test_memory_does_not_grow_with_the_length_of_the_data(tmp_path):
    peaks = []
    for days in (16, 64):
        path = str(tmp_path / f"{days}.zarr")
        times = np.datetime64("2020-01-01", "ns") + np.arange(24 * days) * np.timedelta64(1, "h")
        values = np.random.default_rng(0).standard_normal((24 * days, 40, 50)).astype(np.float32)
        field = (("time", "latitude", "longitude"), values, {"units": "m"})
        data = xr.Dataset(
            {"height": field},
            {"time": times, "latitude": np.arange(40.0), "longitude": np.arange(50.0)},
        )
        data["height"].encoding["chunks"] = (8, 40, 50)
        data.to_zarr(path, consolidated=False)
        del data, values, field
        store = FieldStore(path, ["height"], memory_limit=0)
        tracemalloc.start()
        windows = Windows(store, 0, 24 * days, 4)
        for index in torch.arange(len(windows)).split(4):
            windows[index]
        state_statistics(store, 0, 24 * days)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 4 times the data: 12 MiB of states alone, were they kept.
    assert peaks[1] < 1.3 * peaks[0] + 2**19


HOUR = np.timedelta64(1, "h")
BROKEN = {
    "missing variable": (lambda d: d.rename(height="depth"), "no variable 'height'; it has depth"),
    "odd step": (
        lambda d: d.assign_coords(time=d["time"] + (d["time"] > d["time"][20]) * HOUR),
        "times must rise by multiples of 6 h, but 2020-01-06T07:00 follows 2020-01-06T00:00",
    ),
    "a time twice": (
        lambda d: d.isel(time=[0, 1, 2, 2, 3]),
        "the time 2020-01-01T12:00 comes twice",
    ),
    "integer time": (
        lambda d: d.assign_coords(time=np.arange(60)),
        "time holds int64 and no dates; give it units",
    ),
    "a level twice": (lambda d: d.assign_coords(level=[250, 250]), "level 250 comes twice"),
    "unsorted latitude": (
        lambda d: d.isel(latitude=[0, 2, 1, *range(3, 14)]),
        "latitude must rise or fall throughout, but 41 follows 42",
    ),
    "a meridian twice": (
        lambda d: d.assign_coords(longitude=[*np.linspace(0, 320, 16), 360.0]),
        "the meridian (0|360) comes twice",
    ),
    "one time": (lambda d: d.isel(time=[0]), "at least two times"),
    "another dimension": (
        lambda d: d.expand_dims(member=[3, 4]),
        r"height has the dimension member of 2 \(3, 4, ...\); choose one with select",
    ),
    "no longitude": (lambda d: d.rename(longitude="u"), "no latitude and longitude .or y and x."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_store_gets_one_clear_line(changed, case):
    change, message = BROKEN[case]
    with pytest.raises(ValueError, match=message) as caught:
        FieldStore(changed(change), ["height"])
    assert "\n" not in str(caught.value)


def test_a_store_that_is_missing_or_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such data"):
        FieldStore(str(tmp_path / "none.zarr"), ["height"])
    (tmp_path / "bad.nc").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="neither zarr, NetCDF nor GRIB"):
        FieldStore(str(tmp_path / "bad.nc"), ["height"])


def test_moments_combine_to_those_of_the_whole():
    values = 1e6 + torch.randn(
        500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = combine(combine(moments(values[:100]), moments(values[100:101])), moments(values[101:]))
    torch.testing.assert_close(found.mean, values.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.std, values.std(0, unbiased=False), rtol=1e-9, atol=0)


@pytest.mark.parametrize("chunk", [1, 7, 19, 20, 100])
def test_statistics_do_not_depend_on_the_chunk(wave_store, chunk):
    store = FieldStore(wave_store, ["height"])
    states = store.states(5, 25).double()
    found = state_statistics(store, 5, 25, chunk=chunk)
    difference = states[1:] - states[:-1]
    expected = (
        states.mean((0, 1)),
        states.std((0, 1), unbiased=False),
        difference.mean((0, 1)),
        difference.std((0, 1), unbiased=False),
    )
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=1e-6, atol=1e-6)


def test_a_feature_that_never_changes_is_refused(changed):
    path = changed(lambda d: d.isel(time=0).expand_dims(time=d["time"]))
    with pytest.raises(ValueError, match="height_250 never changes"):
        state_statistics(FieldStore(path, ["height"]), 0, 60)


def test_written_statistics_read_back(tmp_path, wave_store):
    found = state_statistics(FieldStore(wave_store, ["height"]), 0, 60)
    path = str(tmp_path / "statistics.nc")
    write_statistics(found, FieldStore(wave_store, ["height"]), path)
    with xr.open_dataset(path) as data:
        np.testing.assert_array_equal(data["difference_std"], found.difference_std)
        assert data["feature"].values.tolist() == ["height_250", "height_750"]
        assert data["units"].values.tolist() == ["m", "m"]


def test_windows_hold_consecutive_states(wave_store):
    store = FieldStore(wave_store, ["height"])
    windows = Windows(store, 10, 30, 4, ["hour"], stride=3)
    assert windows.analysis.tolist() == [10, 13, 16, 19, 22, 25]
    batch = windows[torch.tensor([0, 3])]
    states = store.states(0, 60)
    assert torch.equal(batch.initial[1], states[18:20])
    assert torch.equal(batch.target[1], states[20:24])
    hours = np.array([12, 18, 0]) * np.pi / 12
    # Analysis 10 is at 12 h, so the window of the first lead time is 12, 18 and 0 h.
    np.testing.assert_allclose(
        batch.forcing[0, 0, 0],
        np.stack((np.sin(hours), np.cos(hours)), 1).ravel(),
        atol=1e-6,
    )
    assert batch.forcing.shape == (2, 4, 14 * 17, 6)


def test_a_period_that_is_too_short_is_refused(wave_store):
    with pytest.raises(ValueError, match="a window takes 10 states of 6 h, but the period has 9"):
        Windows(FieldStore(wave_store, ["height"]), 0, 9, 8)


def test_the_sun_stands_where_almanacs_put_it():
    times = np.array(
        ["2019-03-20T12:07", "2019-06-21T12:02", "2019-12-22T11:58", "2019-03-20T00:07"],
        "datetime64[ns]",
    )
    found = cos_zenith(times, np.array([0.0, 51.48]), np.array([0.0, 0.0]))
    # Solar noon at Greenwich: the zenith angle is the latitude minus the declination.
    expected = np.cos(
        np.deg2rad([[0.0, 51.48], [-23.44, 51.48 - 23.44], [23.43, 51.48 + 23.43], [180, 128.52]])
    )
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_radiation_is_zero_at_night_and_near_the_solar_constant_at_most():
    times = np.datetime64("2019-01-01", "ns") + np.arange(24 * 365) * np.timedelta64(1, "h")
    values = forcing(times, np.array([0.0, 80.0]), np.array([0.0, 0.0]), ["toa_radiation"])[..., 0]
    assert 1361 * 0.99 < float(values.max()) < 1361 * 1.04
    assert float(values[:24, 1].max()) == 0.0
    # Mean over the year and the globe's equator: S_0 / pi times the mean cosine of the declination.
    assert float(values[:, 0].mean()) == pytest.approx(1361 / np.pi * 0.96, rel=0.01)


def test_the_year_and_day_turn_once():
    times = np.array([datetime(2020, 1, 1), datetime(2020, 7, 1, 18)], "datetime64[ns]")
    values = forcing(times, np.zeros(1), np.zeros(1), ["hour", "year"])[:, 0]
    np.testing.assert_allclose(values[0], [0, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(
        values[1],
        [-1, 0, np.sin(2 * np.pi * 182.75 / 366), np.cos(2 * np.pi * 182.75 / 366)],
        atol=1e-6,
    )
    with pytest.raises(
        ValueError, match="forcing must be among toa_radiation, hour, year, got 'moon'"
    ):
        forcing_names(["moon"])


def test_the_window_is_past_present_and_future():
    values = torch.arange(5.0).reshape(5, 1, 1)
    assert forcing_window(values)[:, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_the_frame_is_as_wide_as_asked():
    interior = frame_interior((7, 9), 2).reshape(7, 9)
    assert int(interior.sum()) == 3 * 5
    assert int(interior[2:5, 2:7].sum()) == 15
    with pytest.raises(ValueError, match="boundary_width must be from 0"):
        frame_interior((7, 9), 4)


def test_area_weights_integrate_the_sphere():
    latitude = torch.linspace(-89.5, 89.5, 180, dtype=torch.float64)
    weights = area_weights(latitude)
    assert float(weights.mean()) == pytest.approx(1.0)
    # The mean of sin^2 over the sphere is 1/3.
    assert float((weights * latitude.deg2rad().sin() ** 2).mean()) == pytest.approx(1 / 3, rel=1e-4)


def test_a_graph_of_another_grid_is_refused(wave_store):
    y, x = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    graph = Rectangular().build(Grid(torch.stack((x, y), -1).reshape(-1, 2), (9, 9)))
    with pytest.raises(ValueError, match=r"the graph has 81 grid nodes, but .* has 14 x 17 = 238"):
        make_domain(
            FieldStore(wave_store, ["height"]),
            graph,
            boundary_width=2,
            forcings=[],
            start=0,
            stop=40,
        )


def test_the_splits_do_not_overlap(wave_store):
    data = GriddedData(wave_store, ["height"], validation_from=0.5, test_from=0.7, lead_steps=3)
    assert [data.period(split) for split in range(3)] == [(0, 30), (30, 42), (42, 60)]
    validation = torch.cat([batch.sample for batch in data.val_dataloader()])
    test = torch.cat([batch.sample for batch in data.test_dataloader()])
    assert int(validation.max()) + 3 < 42 <= int(test.min())
    with pytest.raises(ValueError, match="validation_from < test_from"):
        GriddedData(wave_store, ["height"], validation_from=0.9, test_from=0.5)


def test_wrong_units_get_one_clear_line(tmp_path, waves):
    def opened(name, units, shift=0.0):
        path = str(tmp_path / "units.zarr")
        field = (waves["height"] + shift).assign_attrs(units=units)
        field.to_dataset(name=name).to_zarr(path, mode="w", consolidated=False)
        return FieldStore(path, [name])

    with pytest.raises(
        ValueError, match="2m_temperature has the units 'm'; a temperature has those"
    ):
        opened("2m_temperature", "m")
    with pytest.raises(ValueError, match="says units 'K', but its mean at the first time is 119"):
        opened("2m_temperature", "K")
    assert opened("2m_temperature", "K", 150.0).features[0].units == "K"
    with pytest.raises(ValueError, match="surface_pressure has the units 'K'"):
        opened("surface_pressure", "K")


def test_a_truncated_store_gets_one_clear_line(tmp_path, waves):
    for number, (pattern, message) in enumerate(
        (
            ("height/c/*/*/*/*", "height can't be read"),
            ("height/zarr.json", "can't be read"),
            ("zarr.json", "can't be read"),
        )
    ):
        path = tmp_path / f"{number}.zarr"
        waves.to_zarr(path, consolidated=False)
        file = next(path.glob(pattern))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(ValueError, match=message) as caught:
            FieldStore(str(path), ["height"])
        assert "\n" not in str(caught.value)


def test_a_polar_cell_is_a_cap():
    latitude = torch.linspace(-90, 90, 19, dtype=torch.float64)
    area = area_weights(latitude)
    edges = torch.deg2rad(torch.linspace(-95, 95, 20, dtype=torch.float64).clamp(-90, 90)).sin()
    torch.testing.assert_close(area, edges.diff() / edges.diff().mean())


@pytest.mark.parametrize("count", [19, 181, 721])
def test_areas_of_a_grid_with_poles_sum_to_the_sphere(count):
    latitude = torch.linspace(-90, 90, count, dtype=torch.float64)
    area = area_weights(latitude)
    step = torch.deg2rad(latitude[1] - latitude[0])
    # A band of width 2 pi; a cap has 2 pi (1 - cos(step / 2)): their sum is 4 pi.
    cap = 2 * torch.pi * (1 - torch.cos(step / 2))
    sphere = (area * cap / area[0]).sum()
    assert float(sphere) == pytest.approx(4 * np.pi, rel=1e-9)
    # A cap is a quarter as wide as the next band is long, to leading order.
    assert float(area[1] / area[0]) == pytest.approx(8, rel=float(step) ** 2)


def test_a_projected_store_has_places_and_positions(tmp_path, waves):
    latitude, longitude = np.meshgrid(np.linspace(50, 60, 14), np.linspace(0, 9, 17), indexing="ij")
    data = waves.drop_vars(["latitude", "longitude"]).rename(latitude="y", longitude="x")
    data = data.assign_coords(
        y=2500.0 * np.arange(14), x=2500.0 * np.arange(17),
        latitude=(("y", "x"), latitude), longitude=(("y", "x"), longitude),
    )  # fmt: skip
    path = str(tmp_path / "projected.zarr")
    data.to_zarr(path, consolidated=False)
    store = FieldStore(path, ["height"])
    assert store.dims == ("y", "x")
    np.testing.assert_array_equal(store.latitude, latitude.ravel())
    # Its cells are equally large, whatever latitude they lie at; those of degrees aren't.
    assert grid_areas(store).tolist() == [1.0] * 238
    regular = str(tmp_path / "regular.zarr")
    waves.to_zarr(regular, consolidated=False)
    degrees = FieldStore(regular, ["height"])
    expected = np.cos(np.deg2rad(degrees.latitude))
    np.testing.assert_allclose(grid_areas(degrees), expected / expected.mean())
    np.testing.assert_array_equal(store.positions[18], [2500.0, 2500.0])
    np.testing.assert_array_equal(store.states(0, 1)[0, :, 0], waves["height"][0, 0].values.ravel())


def test_a_guess_without_enough_times_names_its_setting_and_file(wave_store):
    given = {"boundary_width": 3, "validation_from": 0.5}
    for setting in ("guess_reach", "day_components"):
        data = GriddedData(wave_store, ["height"], **given, **{setting: 2})
        with pytest.raises(ValueError, match=rf"^{setting}: .*waves\.zarr: .* (at least|needs) "):
            _ = data.domain
