import numpy as np
import pytest
import xarray as xr

from neural_lam.example_data import from_netcdf, two_layer_window, write_store
from neural_lam.simulators import TwoLayerFlow

FLOW = TwoLayerFlow(num_points=32, side=6.4e6)


@pytest.fixture(scope="module")
def window():
    return two_layer_window(FLOW, days=2, spin_up_days=10, size=16, progress=False)


def test_the_window_is_as_asked(window):
    assert dict(window.sizes) == {"time": 16, "level": 2, "latitude": 16, "longitude": 16}
    steps = np.diff(window["time"].values)
    assert (steps == np.timedelta64(3, "h")).all()
    assert np.isfinite(window["geopotential_height"]).all()
    spacing = np.diff(window["latitude"]).mean() * 111_195
    assert spacing == pytest.approx(FLOW.side / 32, rel=1e-6)


def test_heights_fall_towards_the_pole_with_the_mean_wind(window):
    # Geostrophy: dz/dy = -f U / g, to which the waves add nothing over the whole domain.
    whole = two_layer_window(FLOW, days=1, spin_up_days=2, size=32, progress=False)
    height = whole["geopotential_height"].mean(("time", "longitude"))
    y = whole["latitude"].values * 111_195
    slope = np.polyfit(y, height.transpose("latitude", "level").values, 1)[0]
    expected = -1e-4 * np.array([FLOW.upper_wind, FLOW.lower_wind]) / 9.80665
    np.testing.assert_allclose(slope, expected, rtol=0.5)


def test_the_seed_decides(window):
    again = two_layer_window(FLOW, days=2, spin_up_days=10, size=16, progress=False)
    other = two_layer_window(FLOW, days=2, spin_up_days=10, size=16, seed=1, progress=False)
    xr.testing.assert_identical(again, window)
    assert float(abs(other["geopotential_height"] - window["geopotential_height"]).max()) > 1


def test_a_written_store_replaces_the_old_one(tmp_path, window):
    path = str(tmp_path / "data" / "flow.zarr")
    for _ in range(2):
        write_store(window, path)
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["flow.zarr"]
    with xr.open_zarr(path, consolidated=False) as data:
        np.testing.assert_array_equal(data["geopotential_height"], window["geopotential_height"])


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        from_netcdf(str(tmp_path / "none.nc"))
    (tmp_path / "bad.nc").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="can't be read"):
        from_netcdf(str(tmp_path / "bad.nc"))


def test_a_window_larger_than_the_flow_is_refused():
    with pytest.raises(ValueError, match="size must be between 2 and 32, got 33"):
        two_layer_window(FLOW, days=1, size=33, progress=False)
