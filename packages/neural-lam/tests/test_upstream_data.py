import shutil

import numpy as np
import pytest
import torch
import yaml

from neural_lam.data.meps import MepsStore
from neural_lam.data.mllam import PreparedStore, inverse_projection
from neural_lam.data.readers import open_upstream
from neural_lam.data.upstream import UpstreamData, output_bounds, state_weights

RNG = np.random.default_rng(0)
NX, NY = 7, 6


@pytest.fixture
def mdp(tmp_path, prepared):
    """Prepared data and the path of the configuration."""
    return prepared(tmp_path), str(tmp_path / "config.yaml")


@pytest.mark.filterwarnings("ignore:.*:")
def test_a_prepared_sample_is_states_and_forcing_feature_by_feature(mdp):
    data, config = mdp
    given = UpstreamData(config, boundary_width=1)
    windows = given.windows(0, 4)
    # 17 times in the split; two to start from, four to predict, one more of forcing.
    assert len(windows) == 17 - 7 + 1
    batch = windows[torch.tensor([3])]
    state = data["state"].transpose("time", "grid_index", "state_feature").values
    np.testing.assert_array_equal(batch.initial[0], state[3:5])
    np.testing.assert_array_equal(batch.target[0], state[5:9])
    forcing = data["forcing"].values
    for step in range(4):
        around = forcing[4 + step : 7 + step].transpose(1, 2, 0).reshape(NX * NY, 9)
        np.testing.assert_array_equal(batch.forcing[0, step], around)


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize(("past", "future"), [(0, 0), (2, 1), (1, 3), (4, 2)])
def test_other_forcing_windows_are_those_of_upstream(mdp, past, future):
    data, config = mdp
    given = UpstreamData(
        config, boundary_width=1, num_past_forcing_steps=past, num_future_forcing_steps=future
    )
    windows = given.windows(0, 4)
    # As its WeatherDataset counts samples, and where it starts the first.
    assert len(windows) == 17 - 4 - max(2, past) - future + 1
    state = data["state"].transpose("time", "grid_index", "state_feature").values
    forcing = data["forcing"].values
    for number in (0, len(windows) - 1):
        batch = windows[torch.tensor([number])]
        first = number + max(2, past)
        np.testing.assert_array_equal(batch.target[0], state[first : first + 4])
        np.testing.assert_array_equal(batch.initial[0], state[first - 2 : first])
        for step in range(4):
            seen = forcing[first + step - past : first + step + future + 1]
            around = seen.transpose(1, 2, 0).reshape(NX * NY, -1)
            np.testing.assert_array_equal(batch.forcing[0, step], around)
    assert len(given.domain.forcing_mean) == batch.forcing.shape[-1]
    np.testing.assert_array_equal(
        given.domain.forcing_mean.reshape(3, -1)[:, 0], data["forcing__train__mean"]
    )


@pytest.mark.filterwarnings("ignore:.*:")
def test_a_prepared_domain_has_the_stores_statistics(mdp):
    data, config = mdp
    given = UpstreamData(config, boundary_width=1)
    store = given.store
    np.testing.assert_array_equal(store.statistics.difference_std, data["state__train__diff_std"])
    raw = data["static"].values
    expected = (raw - data["static__train__mean"].values) / data["static__train__std"].values
    np.testing.assert_allclose(store.static, expected, rtol=1e-6)
    assert store.interior.reshape(NX, NY)[1:-1, 1:-1].all()
    assert store.interior.sum() == (NX - 2) * (NY - 2)
    assert [given.period(split) for split in range(3)] == [(0, 17), (17, 29), (29, 40)]
    np.testing.assert_array_equal(store.positions[:, 0], data["x"])
    assert [(f.name, f.units, f.long_name) for f in store.features] == [
        ("t2m", "K", "temperature"),
        ("u10", "m/s", "wind"),
    ]


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("state"), "the store has no 'state'"),
        (lambda d: d.isel(time=[0, 2, 1]), "times must rise"),
        (
            lambda d: d.isel(grid_index=[1, 0, *range(2, NX * NY)]),
            "row by row",
        ),
    ],
)
def test_a_broken_prepared_store_gets_one_line(tmp_path, prepared, change, message):
    prepared(tmp_path, change=change)
    with pytest.raises(ValueError, match=message) as caught:
        PreparedStore(str(tmp_path / "small.datastore.yaml"))
    assert "\n" not in str(caught.value)


def test_a_configuration_that_names_no_datastore_gets_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    for text, message in (
        (
            "datastore: {kind: grib, config_path: a.yaml}",
            "expected mdp or npyfilesmeps, got 'grib'",
        ),
        ("training: {}", "datastore: expected kind and config_path"),
        ("[1, 2]", "expected a mapping, got list"),
        ("a: [", "config.yaml: while parsing"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            open_upstream(str(path))
        assert "\n" not in str(caught.value)


def test_weights_of_the_loss_are_those_of_the_configuration(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("datastore: {}\n")
    assert state_weights(str(path), ["a", "b"]).tolist() == [0.5, 0.5]
    path.write_text("training: {state_feature_weighting: {weights: {b: 2.0, a: 1.0}}}")
    assert state_weights(str(path), ["a", "b"]).tolist() == [1, 2]
    with pytest.raises(ValueError, match="weights: expected a, c, got b, a"):
        state_weights(str(path), ["a", "c"])


def test_bounds_are_those_of_the_configuration(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("training: {output_clamping: {lower: {a: 0}, upper: {a: 1, b: 2.5}}}")
    assert output_bounds(str(path), ["a", "b"]) == ([0, -np.inf], [1, 2.5])
    with pytest.raises(ValueError, match=r"output_clamping\.upper: no feature b; expected a"):
        output_bounds(str(path), ["a"])
    path.write_text("datastore: {}\n")
    assert output_bounds(str(path), ["a"]) is None


def meps(folder, members=2, steps=9):
    """The numpy layout with two runs a split."""
    ny, nx = 5, 4
    xy = np.stack(np.meshgrid(np.arange(nx) * 10.0, np.arange(ny) * 20.0)).astype(np.float32)
    (folder / "static").mkdir(parents=True)
    np.save(folder / "static/nwp_xy.npy", xy)
    mask = np.ones((ny, nx), np.float32)
    mask[1:-1, 1:-1] = 0
    np.save(folder / "static/border_mask.npy", mask)
    np.save(folder / "static/surface_geopotential.npy", RNG.random((ny, nx)).astype(np.float32))
    for name in ("parameter_mean", "parameter_std", "diff_mean", "diff_std"):
        torch.save(torch.rand(2) + 0.5, folder / f"static/{name}.pt")
    torch.save(torch.tensor([3.0, 2.0]), folder / "static/flux_stats.pt")
    for month, split in enumerate(("train", "val", "test"), 1):
        place = folder / "samples" / split
        place.mkdir(parents=True)
        for day in (1, 2):
            stamp = f"2022{month:02d}{day:02d}12"
            for member in range(members):
                values = RNG.standard_normal((steps, ny, nx, 3)).astype(np.float32)
                np.save(place / f"nwp_{stamp}_mbr{member:03d}.npy", values)
            flux = RNG.random((steps, ny, nx)).astype(np.float32)
            np.save(place / f"nwp_toa_downwelling_shortwave_flux_{stamp}.npy", flux)
            np.save(place / f"wtr_{stamp}.npy", RNG.random((ny, nx)).astype(np.float32))
    about = {
        "name": "small", "var_names": ["a", "b"], "var_units": ["K", "Pa"],
        "var_longnames": ["A", "B"], "num_forcing_features": 6, "num_timesteps": steps,
        "step_length": "PT3H", "num_ensemble_members": members,
        "remove_state_features_with_index": [1],
    }  # fmt: skip
    config = {"dataset": about, "grid_shape_state": [ny, nx]}
    config["projection"] = {"class_name": "LambertConformal", "kwargs": {}}
    (folder / "meps.yaml").write_text(yaml.safe_dump(config))
    (folder / "config.yaml").write_text("datastore: {kind: npyfilesmeps, config_path: meps.yaml}")
    return folder


def test_a_meps_sample_is_the_beginning_of_a_run(tmp_path):
    given = UpstreamData(str(meps(tmp_path) / "config.yaml"))
    windows = given.windows(1, 3)
    assert len(windows) == 4  # two runs of two members
    batch = windows[torch.tensor([3])]
    raw = np.load(tmp_path / "samples/val/nwp_2022020212_mbr001.npy")[..., [0, 2]]
    expected = raw.transpose(0, 2, 1, 3).reshape(9, 20, 2)
    np.testing.assert_array_equal(batch.initial[0], expected[:2])
    np.testing.assert_array_equal(batch.target[0], expected[2:5])
    flux = np.load(tmp_path / "samples/val/nwp_toa_downwelling_shortwave_flux_2022020212.npy")
    np.testing.assert_array_equal(
        batch.forcing[0, 1, :, :3], flux.transpose(0, 2, 1).reshape(9, 20)[2:5].T
    )
    water = np.load(tmp_path / "samples/val/wtr_2022020212.npy").T.ravel()
    np.testing.assert_array_equal(batch.forcing[0, 0, :, 3], water)
    # 12 h + 6 h is 18 h: the first lead time's sine of the hour is -1, scaled to 0.
    np.testing.assert_allclose(batch.forcing[0, 0, :, 7], 0, atol=1e-7)
    angle = 33 / 365 * 2 * np.pi
    np.testing.assert_allclose(batch.forcing[0, 0, :, 13], (np.sin(angle) + 1) / 2, rtol=1e-6)


def test_meps_statistics_and_static_fields(tmp_path):
    store = MepsStore(str(meps(tmp_path) / "meps.yaml"))
    std = torch.load(tmp_path / "static/parameter_std.pt", weights_only=True)
    diff = torch.load(tmp_path / "static/diff_std.pt", weights_only=True)
    torch.testing.assert_close(store.statistics.difference_std, diff * std)
    assert store.static.shape == (20, 4)
    torch.testing.assert_close(store.static.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(store.static.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    assert store.interior.reshape(4, 5)[1:-1, 1:-1].all()
    assert store.interior.sum() == 6
    assert store.step == np.timedelta64(3, "h")


def test_a_broken_meps_folder_gets_one_line(tmp_path):
    folder = meps(tmp_path / "whole")
    cases = {
        "truncated": (
            lambda f: (f / "static/nwp_xy.npy").write_bytes(b"\x93NUMPY"),
            "can't be read",
        ),
        "no runs": (lambda f: shutil.rmtree(f / "samples/val"), "no files nwp_"),
        "other grid": (
            lambda f: np.save(f / "static/nwp_xy.npy", np.zeros((2, 3, 3))),
            r"expected the shape \(2, 5, 4\), got \(2, 3, 3\)",
        ),
    }
    for name, (change, message) in cases.items():
        broken = tmp_path / name
        shutil.copytree(folder, broken)
        change(broken)
        with pytest.raises(ValueError, match=message) as caught:
            MepsStore(str(broken / "meps.yaml"))
        assert "\n" not in str(caught.value)


def test_lambert_points_lie_where_the_manual_says():
    # Snyder (1987), page 295: sphere of radius 1, parallels 33 and 45, centre 23 N 96 W.
    options = {"central_latitude": 23.0, "central_longitude": -96.0}
    options |= {"standard_parallels": (33.0, 45.0), "globe": {"semimajor_axis": 1.0}}
    x, y = np.array([0.2966785]), np.array([0.2462112])
    latitude, longitude = inverse_projection("LambertConformal", options, x, y)
    np.testing.assert_allclose([latitude[0], longitude[0]], [35.0, -75.0], atol=1e-4)
    assert inverse_projection("Orthographic", {}, x, y) is None
