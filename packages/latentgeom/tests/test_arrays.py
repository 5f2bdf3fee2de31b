import numpy as np
import pytest
import zarr

from latentgeom import array_verbs
from latentgeom.__main__ import main
from latentgeom.data.files import read_points
from latentgeom.pullback.pullback import Pullback, torus
from latentgeom.shell.errors import InputError

POINTS = np.arange(10.0).reshape(5, 2) / 7


@pytest.fixture(params=["npz", "zarr", "csv", "header.csv"])
def file(request, tmp_path):
    path = tmp_path / f"points.{request.param}"
    if request.param == "npz":
        np.savez(path, code=POINTS, label=np.arange(5))
    elif request.param == "zarr":
        zarr.open_group(path, mode="w").create_array("points", data=POINTS)
    else:
        header = "x,y" if "header" in request.param else ""
        np.savetxt(path, POINTS, delimiter=",", header=header, comments="", fmt="%.17g")
    return path


def test_points_come_from_every_kind_of_file(file):
    assert np.array_equal(read_points(str(file), 2).numpy(), POINTS)


def test_unusable_files_get_one_line(tmp_path):
    np.savez(tmp_path / "two.npz", a=POINTS, b=POINTS)
    np.savetxt(tmp_path / "nan.csv", POINTS * np.nan, delimiter=",")
    (tmp_path / "text.csv").write_text("x,y\n1,two\n")
    cases = {
        "missing.csv": "no such file",
        "points.txt": "expected .npy, .npz, .csv, .zarr or .parquet",
        "two.npz": "several arrays, and none is named 'points'",
        "nan.csv": "must be finite",
        "text.csv": "line 2: 'two' is not a number",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            read_points(str(tmp_path / name), 2)
        assert "\n" not in str(caught.value)
    np.savez(tmp_path / "wide.npz", POINTS.T)
    with pytest.raises(InputError, match="points of 2 coordinates, got shape"):
        read_points(str(tmp_path / "wide.npz"), 2)


def test_points_outside_of_the_ball_get_one_line(tmp_path, capsys):
    path = tmp_path / "points.npz"
    np.savez(path, np.array([[0.1, 0.2], [0.9, 0.8]]))
    ball = ["--metric", "latentgeom.poincare_ball", "--metric.dim", "2"]
    assert main(["distances", "--points", str(path), *ball, "--output", str(tmp_path)]) == 2
    line = capsys.readouterr().err.strip()
    assert "must lie inside the chart, got 1 outside" in line
    assert "\n" not in line


def test_verbs_take_points_without_a_model(tmp_path, capsys):
    path = tmp_path / "points.npz"
    np.savez(path, np.random.default_rng(0).normal(size=(12, 2)))
    metric = ["--metric", "latentgeom.ConstantCurvature", "--metric.dim", "2"]
    common = ["--points", str(path), *metric, "--metric.curvature", "-1"]
    out = ["--output", str(tmp_path / "out")]
    for verb in ("geodesics", "distances", "plot"):
        assert main([verb, *common, *out]) == 0
    names = {item.name for item in (tmp_path / "out").iterdir()}
    assert names == {"geodesics.zarr", "distances.zarr", "points.png"}
    distances = zarr.open_group(tmp_path / "out" / "distances.zarr", mode="r")["distance"]
    assert np.allclose(distances, np.transpose(distances))
    capsys.readouterr()
    assert main(["distances", "--points", "none.csv", *metric, "--metric.curvature", "-1"]) == 2
    assert capsys.readouterr().err.strip() == "latentgeom: none.csv: no such file"


def test_solved_metrics_take_points_too(tmp_path):
    path = tmp_path / "points.csv"
    np.savetxt(path, 0.5 * np.random.default_rng(0).normal(size=(5, 2)), delimiter=",")
    metric = [
        "--metric",
        "latentgeom.torus",
        "--metric.major",
        "2",
        "--metric.minor",
        "0.7",
    ]
    out = ["--output", str(tmp_path / "out")]
    for verb in ("geodesics", "distances"):
        assert main([verb, "--points", str(path), *metric, *out]) == 0
    lengths = zarr.open_group(tmp_path / "out" / "geodesics.zarr", mode="r")
    assert np.asarray(lengths["converged"]).all()
    assert (np.asarray(lengths["error_estimate"]) > 0).all()


def test_an_unfinished_matrix_of_another_metric_is_not_gone_on_with(tmp_path, monkeypatch):
    z = np.random.default_rng(0).normal(size=(6, 2)) / 2
    np.savez(tmp_path / "points.npz", z)
    ends = []
    solve = Pullback.connect

    def counting(metric, a, b):
        ends.append(len(a))
        if len(ends) == 2:
            raise KeyboardInterrupt
        return solve(metric, a, b)

    monkeypatch.setattr(Pullback, "connect", counting)
    options = {"points": str(tmp_path / "points.npz"), "chunk": 10, "output": str(tmp_path)}
    with pytest.raises(KeyboardInterrupt):
        array_verbs.array_distances(torus(2.0, 0.7), **options)
    array_verbs.array_distances(torus(2.0, 0.6), **options)
    assert ends == [10, 5, 10, 5]
