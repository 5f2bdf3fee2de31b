import json

import pytest
import torch
import xarray

from latentgeom.immersions.immersion import Chart
from latentgeom.reports.storage import geodesics_dataset, write_json, write_zarr
from latentgeom.solvers.boundary import geodesics


def test_geodesics_come_back_from_zarr(tmp_path):
    a, b = torch.zeros(3, 2), torch.ones(3, 2)
    batch = geodesics(Chart(lambda z: torch.cat([z, z.square()], -1), 2), a, b)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2]])
    for _ in range(2):
        write_zarr(geodesics_dataset(batch, pairs), tmp_path / "curves.zarr")
    read = xarray.open_zarr(tmp_path / "curves.zarr", consolidated=False)
    assert read.points.dims == ("pair", "node", "latent")
    assert torch.equal(torch.from_numpy(read.points.values), batch.points)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.zarr"]


def test_reports_hold_finite_numbers_only(tmp_path):
    write_json({"a": {"b": [1.0, 2]}}, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["a"] == {"b": [1.0, 2]}
    with pytest.raises(ValueError, match=r"report\.a\.1 must be finite, got nan"):
        write_json({"a": [1.0, float("nan")]}, tmp_path / "bad.json")
    assert not (tmp_path / "bad.json").exists()
