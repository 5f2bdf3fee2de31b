import numpy as np
import pytest
import torch
import xarray

from latentgeom.immersions.immersion import Chart
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.pairs.distances import _pair_indices, chunked, distance_matrix
from latentgeom.solvers.boundary import geodesics

METRIC = ConstantCurvature(2, -1.0)


def solve(a, b):
    return METRIC.connect(a, b, 8)


@pytest.fixture
def points(generator):
    return torch.randn(13, 2, generator=generator)


def test_pairs_are_numbered_row_by_row():
    expected = np.stack(np.triu_indices(9, 1), -1)
    assert np.array_equal(_pair_indices(9, 0, 36), expected)
    assert np.array_equal(_pair_indices(9, 11, 23), expected[11:23])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_matrix_holds_all_distances(points, tmp_path, chunk):
    distance_matrix(solve, points, tmp_path / "d.zarr", chunk=chunk, settings="")
    read = xarray.open_zarr(tmp_path / "d.zarr", consolidated=False)
    exact = METRIC.dist(points[:, None], points)
    torch.testing.assert_close(torch.from_numpy(read.distance.values), exact)
    assert [path.name for path in tmp_path.iterdir()] == ["d.zarr"]


def test_a_stopped_run_goes_on_where_it_was(points, tmp_path):
    calls = []

    def stops(a, b):
        calls.append(len(a))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return solve(a, b)

    arguments = {"chunk": 10, "settings": "same"}
    with pytest.raises(KeyboardInterrupt):
        distance_matrix(stops, points, tmp_path / "d.zarr", **arguments)
    assert not (tmp_path / "d.zarr").exists()
    found = distance_matrix(stops, points, tmp_path / "d.zarr", **arguments)
    assert calls == [10] * 4 + [10] * 4 + [8]
    exact = METRIC.dist(points[:, None], points)
    torch.testing.assert_close(torch.from_numpy(found.distance.values), exact)


def test_other_settings_start_anew(points, tmp_path):
    calls = []

    def stops(a, b):
        calls.append(len(a))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(a, b)

    with pytest.raises(KeyboardInterrupt):
        distance_matrix(stops, points, tmp_path / "d.zarr", chunk=70, settings="one")
    distance_matrix(stops, points, tmp_path / "d.zarr", chunk=70, settings="two")
    assert calls == [70, 8, 70, 8]


def test_unconverged_pairs_are_not_numbers(points, tmp_path):
    def fails(a, b):
        return solve(a, b)._replace(converged=(a != points[0]).any(-1))

    found = distance_matrix(fails, points, tmp_path / "d.zarr", chunk=10, settings="")
    missing = np.isnan(found.distance.values)
    assert missing[0, 1:].all()
    assert missing[1:, 0].all()
    assert missing.sum() == 24


def test_chunks_give_the_same_geodesics(points):
    chart = Chart(lambda z: torch.cat([z, z.sin()], -1), 2)
    a, b = points[:6], points[6:12]
    whole, parts = geodesics(chart, a, b), chunked(lambda *p: geodesics(chart, *p), a, b, 4)
    torch.testing.assert_close(parts.length, whole.length, rtol=1e-12, atol=0)
    assert torch.equal(parts.converged, whole.converged)
