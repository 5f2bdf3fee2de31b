import hashlib

import numpy as np
import pytest
import xarray as xr

from neural_lam.data.example_data import Download, fetch, from_file, two_layer_window, write_store
from neural_lam.known_answers.two_layer import TwoLayerFlow

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
        from_file(str(tmp_path / "none.nc"))
    (tmp_path / "bad.nc").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="can't be read"):
        from_file(str(tmp_path / "bad.nc"))


def test_a_window_larger_than_the_flow_is_refused():
    with pytest.raises(ValueError, match="size must be between 2 and 32, got 33"):
        two_layer_window(FLOW, days=1, size=33, progress=False)


def packed(values, time, latitude, longitude, bits=16):
    """A message of GRIB edition 1, written by the manual."""
    low, high = float(values.min()), float(values.max())
    exponent = int(np.ceil(np.log2((high - low) / (2**bits - 1)))) if high > low else 0
    # The reference as an IBM float below the least value.
    power = int(np.ceil(np.log(low) / np.log(16) + 1e-9))
    fraction = int(low / 16.0**power * 2**24)
    reference = fraction / 2**24 * 16.0**power
    integers = np.round((values - reference) / 2.0**exponent).astype(np.int64).ravel()
    flags = (integers[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    content = np.packbits(flags.astype(np.uint8).ravel()).tobytes()

    def number(value, octets):
        magnitude = abs(value) | ((1 << (8 * octets - 1)) if value < 0 else 0)
        return magnitude.to_bytes(octets, "big")

    date = time.astype(object)
    product = bytearray(28)
    product[0:3], product[7], product[8] = number(28, 3), 0x80, 167
    product[12:18] = bytes([date.year % 100, date.month, date.day, date.hour, date.minute, 1])
    product[24] = date.year // 100 + 1
    grid = bytearray(32)
    grid[0:3] = number(32, 3)
    grid[6:8], grid[8:10] = number(len(longitude), 2), number(len(latitude), 2)
    corners = (latitude[0], longitude[0], latitude[-1], longitude[-1])
    for place, degrees in zip((10, 13, 17, 20), corners, strict=True):
        grid[place : place + 3] = number(round(1000 * float(degrees)), 3)
    data = number(11 + len(content), 3) + bytes([0]) + number(exponent, 2)
    data += bytes([64 + power]) + fraction.to_bytes(3, "big") + bytes([bits]) + content
    body = bytes(product) + bytes(grid) + data
    return b"GRIB" + number(len(body) + 12, 3) + bytes([1]) + body + b"7777", 2.0**exponent


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_grib_file_reads_as_what_was_packed(tmp_path, bits):
    latitude, longitude = np.linspace(58, 57, 5), np.linspace(-10, -8.5, 7)
    times = np.datetime64("2019-03-01T22:00", "s") + np.arange(3) * np.timedelta64(1, "h")
    values = 280 + 5 * np.random.default_rng(0).standard_normal((3, 5, 7))
    messages = [packed(v, t, latitude, longitude, bits) for v, t in zip(values, times, strict=True)]
    path = tmp_path / "small.grib"
    path.write_bytes(b"".join(message for message, _ in reversed(messages)))
    data = from_file(str(path))
    np.testing.assert_allclose(data["latitude"], latitude)
    np.testing.assert_allclose(data["longitude"], longitude)
    np.testing.assert_array_equal(data["time"], times)
    for n, (_, unit) in enumerate(messages):
        assert np.abs(data["2m_temperature"][n] - values[n]).max() <= unit / 2 + 1e-4


def test_a_damaged_grib_file_is_refused(tmp_path):
    time = np.datetime64("2019-03-01T00:00", "s")
    message, _ = packed(
        np.full((2, 2), 280.0) + np.eye(2), time, np.array([1, 0]), np.array([0, 1])
    )
    path = tmp_path / "bad.grib"
    for content, reason in (
        (message[:-6], "cut off in the message at octet 0"),
        (message[:7] + bytes([2]) + message[8:], "expected GRIB edition 1, got 2"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            from_file(str(path))


def test_a_fetched_file_is_checked(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    digest = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    fetch(Download(source.as_uri(), digest), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"content"
    with pytest.raises(ValueError, match=f"expected the md5 0, got {digest}"):
        fetch(Download(source.as_uri(), "0"), str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match=r"can't be fetched .* give it as --source"):
        fetch(Download((tmp_path / "none").as_uri(), "0"), str(tmp_path / "other"))
