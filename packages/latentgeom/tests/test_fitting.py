"""A newcomer's path: from an array, or a file of one, to distances and a picture."""

import numpy as np
import pytest
import torch
import xarray

import latentgeom
from latentgeom.__main__ import main


@pytest.fixture(autouse=True)
def _single_precision(_one_thread_in_double_precision):
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def x():
    """500 points of a curved sheet in 30 dimensions, in units of very different sizes."""
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, (500, 2))
    bent = np.stack([u[:, 0], u[:, 1], np.sin(2 * u[:, 0]), u[:, 0] * u[:, 1]], 1)
    return bent @ rng.normal(size=(4, 30)) * rng.uniform(0.01, 100, 30) + rng.normal(size=30)


@pytest.fixture(scope="module")
def fitted(x):
    return latentgeom.fit(x, latentgeom.Euclidean, dim=2, num_steps=400, progress=False)


@pytest.mark.filterwarnings("ignore:.*:")
def test_three_commands_lead_from_a_file_to_distances_and_a_picture(tmp_path, monkeypatch, x):
    monkeypatch.chdir(tmp_path)
    header = ",".join(f"feature {i}" for i in range(30))
    np.savetxt("points.csv", x, delimiter=",", header=header, comments="")
    data = ["--config", "array.yaml", "--data.path", "points.csv"]
    trained = [*data, "--ckpt_path", "out/latentgeom/array/checkpoints/last.ckpt"]
    quick = ["--data.test_share", "0.04"]  # 20 points, whose distances are quick
    assert main(["fit", *data, *quick, "--trainer.max_steps", "100"]) == 0
    assert main(["distances", *trained, *quick, "--num_segments", "8"]) == 0
    assert main(["plot", *trained, *quick, "--num_pairs", "4"]) == 0
    found = xarray.open_zarr("out/latentgeom/array/distances.zarr", consolidated=False)
    assert found.distance.shape == (20, 20)
    assert found.converged.values.mean() > 0.9
    assert (tmp_path / "out/latentgeom/array/latent.png").read_bytes().startswith(b"\x89PNG")


def test_six_lines_lead_from_an_array_to_distances_and_a_picture(tmp_path, monkeypatch, x):
    monkeypatch.chdir(tmp_path)
    np.savetxt("points.csv", x, delimiter=",")
    program = (
        "import numpy as np, latentgeom\n"
        "x = np.loadtxt('points.csv', delimiter=',')\n"
        "fitted = latentgeom.fit(x, latentgeom.hyperbolic, dim=2, num_steps=30)\n"
        "d = fitted.distances(x)\n"
        "print(fitted.report(num_pairs=20))\n"
        "fitted.plot('latent.png')\n"
    )
    names = {}
    exec(program, names)
    assert names["d"].shape == (500, 500)
    assert (tmp_path / "latent.png").read_bytes().startswith(b"\x89PNG")


def test_distances_are_those_of_the_chosen_metric_between_codes(fitted, x):
    z = fitted.encode(x[:9])
    assert isinstance(z, np.ndarray)
    expected = np.linalg.norm(z[:, None] - z[None], axis=-1)
    np.testing.assert_allclose(fitted.distances(x[:9]), expected, rtol=1e-12)
    np.testing.assert_allclose(fitted.distances(x[:9], x[:4]), expected[:, :4], rtol=1e-12)


def test_decoded_codes_are_observations_in_their_own_units(fitted, x):
    unseen = fitted.splits.test.y.numpy()
    back = fitted.decode(fitted.encode(x[unseen]))
    residual = ((back - x[unseen]) ** 2).mean(0) / x.var(0)
    assert residual.mean() < 0.1
    assert np.median(residual) < 0.1


def test_reports_say_how_well_chosen_distances_are_induced_ones(fitted, x):
    report = fitted.report(num_pairs=60)
    assert report.correlation > 0.98
    assert report.converged == 1
    assert report.num_codes == 100
    curves = fitted.geodesics(x[:20], x[20:40])
    assert all(isinstance(column, np.ndarray) for column in curves)
    ratio = curves.length / np.diag(fitted.distances(x[:20], x[20:40]))
    assert np.median(ratio) == pytest.approx(fitted.scale, rel=0.1)
    np.testing.assert_allclose(curves.points[:, 0], fitted.encode(x[:20]))


def test_fits_repeat_and_leave_the_global_generator_alone(x):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    options = {"num_steps": 3, "progress": False, "seed": 1}
    one = latentgeom.fit(x, latentgeom.sphere, **options)
    assert torch.equal(torch.rand(1), expected)
    two = latentgeom.fit(torch.as_tensor(x), latentgeom.sphere(2), **options)
    np.testing.assert_array_equal(one.encode(x), two.encode(x))
    other = latentgeom.fit(x, latentgeom.sphere, **{**options, "seed": 2})
    assert not np.array_equal(one.encode(x), other.encode(x))


def test_the_test_share_is_not_learnt(fitted):
    learnt, unseen = fitted.splits.training.y, fitted.splits.test.y
    assert len(unseen) == 100
    assert not set(learnt.tolist()) & set(unseen.tolist())


def test_progress_is_shown_unless_it_is_not_wanted(x, capsys):
    latentgeom.fit(x, num_steps=2)
    assert "2/2" in capsys.readouterr().err
    latentgeom.fit(x, num_steps=2, progress=False)
    assert "2/2" not in capsys.readouterr().err


def test_unusable_arrays_are_refused(x, fitted):
    for bad, message in {
        "complex": "x: complex numbers are refused",
        "nan": "NaN or infinity in 1 of 500 rows, the first is row 3",
        "few": "x must have at least 20 observations, got 5",
        "flat": "expected numbers, an observation a row",
    }.items():
        y = x.copy()
        y = {"complex": y + 1j, "nan": y, "few": y[:5], "flat": y[0]}[bad]
        if bad == "nan":
            y[3, 1] = np.nan
        with pytest.raises(ValueError, match=message):
            latentgeom.fit(y)
    with pytest.raises(ValueError, match="expected points of 30 coordinates"):
        fitted.encode(x[:, :5])
    with pytest.raises(ValueError, match="expected points of 2 coordinates"):
        fitted.decode(x[:, :5])
