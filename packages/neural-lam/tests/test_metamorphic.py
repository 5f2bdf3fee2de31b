"""What changes the order or the form of a file must change nothing by name."""

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from neural_lam import Forecaster, GraphLAM, GriddedData, verify_store
from neural_lam.__main__ import main
from neural_lam.fields.store import FieldStore


def fields(num_times=90, rows=8, columns=12):
    """Two variables, one of them on three levels, on a grid around the globe."""
    rng = np.random.default_rng(3)
    t, y, x = np.ogrid[:num_times, :rows, :columns]
    wave = np.sin(2 * np.pi * (x - 0.3 * t) / columns + 0.3 * y)[:, None]
    levels = 5e4 + 300 * wave * np.arange(1, 4)[:, None, None]
    levels = levels + rng.standard_normal((num_times, 3, rows, columns)) * 20
    surface = 280 + 5 * wave[:, 0] + rng.standard_normal((num_times, rows, columns))
    return xr.Dataset(
        {
            "geopotential": (
                ("time", "level", "latitude", "longitude"),
                levels.astype(np.float32),
                {"units": "m2 s-2"},
            ),
            "2m_temperature": (
                ("time", "latitude", "longitude"),
                surface.astype(np.float32),
                {"units": "K"},
            ),
        },
        {
            "time": np.datetime64("2020-03-01", "ns")
            + np.arange(num_times) * np.timedelta64(6, "h"),
            "level": ("level", [500, 850, 1000], {"units": "hPa"}),
            "latitude": np.linspace(-70, 70, rows),
            "longitude": np.arange(columns) * 30.0,
        },
    )


def _write(data, path, **options):
    for variable in data.variables.values():
        variable.encoding = {}
    data.to_zarr(path, consolidated=False, **options)


def _rolled(data):
    turned = data.roll(longitude=5, roll_coords=True)
    return turned.assign_coords(longitude=np.mod(turned["longitude"] + 180, 360) - 180)


CHANGES = {
    "latitude reversed": lambda d, p: _write(d.isel(latitude=slice(None, None, -1)), p),
    "levels reversed": lambda d, p: _write(d.isel(level=slice(None, None, -1)), p),
    "variables reversed": lambda d, p: _write(d[list(d.data_vars)[::-1]], p),
    "longitude rolled": lambda d, p: _write(_rolled(d), p),
    "dimensions permuted": lambda d, p: _write(
        d.transpose("longitude", "time", "latitude", "level"), p
    ),
    "other chunks": lambda d, p: _write(d, p, encoding={"2m_temperature": {"chunks": (5, 3, 7)}}),
    "zarr 2": lambda d, p: _write(d, p, zarr_format=2),
    "NetCDF 3": lambda d, p: d.to_netcdf(p, engine="scipy"),
    "NetCDF 4": lambda d, p: d.to_netcdf(p, engine="h5netcdf"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("original") / "data.zarr")
    _write(fields(), path)
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_states_are_the_same_by_name(original, tmp_path, name):
    path = str(tmp_path / "changed")
    CHANGES[name](fields(), path)
    names = ["geopotential", "2m_temperature"]
    a, b = FieldStore(original, names), FieldStore(path, names[::-1])
    assert [f.name for f in a.features] == [f.name for f in b.features]
    assert [f.level for f in a.features] == [None, 500, 850, 1000]
    assert torch.equal(a.states(0, 90), b.states(0, 90))
    np.testing.assert_allclose(a.latitude, b.latitude)
    np.testing.assert_allclose(np.mod(a.longitude - b.longitude, 360), 0, atol=1e-9)
    np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)
    # And by the labels of the file, by hand.
    data = fields()["geopotential"].sel(level=850)
    field = a.states(7, 8)[0, :, 2].reshape(8, 12).numpy()
    for row, column in ((0, 0), (3, 7), (7, 11)):
        place = {"latitude": a.rows[row], "longitude": np.mod(a.columns[column], 360)}
        expected = data.isel(time=7).sel(place, method="nearest")
        assert field[row, column] == float(expected)


def _chain(folder, path, variables):
    """All verbs on a store: statistics, forecasts and scores."""
    network = {"class_path": "neural_lam.GraphLAM", "init_args": {"hidden_size": 8}}
    content = {
        "seed_everything": 0,
        "trainer": {
            "max_steps": 2, "logger": False, "default_root_dir": str(folder), "accelerator": "cpu",
            "limit_val_batches": 0, "num_sanity_val_steps": 0, "enable_progress_bar": False,
        },
        "model": {
            "class_path": "neural_lam.Forecaster",
            "init_args": {
                "network": network, "feature_weights": {"2m_temperature": 1, "geopotential_500": 2,
                                                        "geopotential_850": 1,
                                                        "geopotential_1000": 1},
            },
        },
        "data": {
            "class_path": "neural_lam.GriddedData",
            "init_args": {
                "path": path, "variables": variables, "lead_steps": 2, "forcings": ["hour"],
                "guess_reach": 1, "boundary_width": 0,
            },
        },
    }  # fmt: skip
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    statistics, forecast = str(folder / "statistics.nc"), str(folder / "forecast.zarr")
    assert main(["statistics", "--config", str(config), "--output", statistics]) == 0
    assert main(["graph", "--config", str(config), "--output", str(folder / "graph.pt")]) == 0
    assert main(["fit", "--config", str(config)]) == 0
    checkpoint = str(next(folder.rglob("*.ckpt")))
    common = ["--config", str(config), "--ckpt_path", checkpoint]
    assert main(["forecast", *common, "--output", forecast]) == 0
    with xr.open_dataset(statistics) as data:
        found = data.load()
    forecasts = xr.open_zarr(forecast, consolidated=False, chunks=None).load()
    return found, forecasts, verify_store(forecast, progress=False).scores


@pytest.mark.filterwarnings("ignore:.*:")
def test_every_verb_gives_the_same_by_name(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = []
    changed = str(tmp_path / "changed.zarr")
    everything = _rolled(fields()).isel(latitude=slice(None, None, -1), level=[2, 0, 1])
    _write(everything[["2m_temperature", "geopotential"]].transpose("level", ...), changed)
    names = ["geopotential", "2m_temperature"]
    for number, (path, variables) in enumerate(((original, names), (changed, names[::-1]))):
        folder = tmp_path / str(number)
        folder.mkdir()
        results.append(_chain(folder, path, variables))
    (first, forecast, scores), (second, other, others) = results
    xr.testing.assert_allclose(first, second, rtol=1e-6)
    turned = other.assign_coords(longitude=np.mod(other["longitude"], 360)).sortby("longitude")
    plain = forecast.assign_coords(longitude=np.mod(forecast["longitude"], 360)).sortby("longitude")
    for name in ("geopotential", "2m_temperature"):
        scale = float(plain[name].std())
        apart = abs(turned[name] - plain[name].reindex_like(turned[name]))
        assert float(apart.max()) < 1e-6 * scale + 1e-6 * float(abs(plain[name]).max())
    assert forecast["level"].values.tolist() == [500, 850, 1000]
    np.testing.assert_allclose(scores["rmse"], others["rmse"], rtol=1e-5)


def test_a_model_refuses_data_of_other_features(original):
    data = GriddedData(original, ["geopotential"], lead_steps=2)
    model = Forecaster(lambda *sizes: GraphLAM(*sizes, hidden_size=4))
    model.adopt(data.domain)
    model._trainer = type("T", (), {"datamodule": GriddedData(original, ["2m_temperature"])})()
    with pytest.raises(ValueError, match=r"expected the features geopotential_500, .* got 2m_temp"):
        model.on_predict_start()
