import json

import numpy as np
import pytest
import torch

from diffsmc import correlated_gaussian, two_modes
from diffsmc.methods.denoising import Diffusion
from diffsmc.methods.method import Monitor
from diffsmc.methods.mixture_fit import MixtureFit
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.tempering import Tempering
from diffsmc.potentials.monte_carlo import MonteCarloPotential
from diffsmc.results.diagnostics import diagnose
from diffsmc.results.evaluation import build_report, evidence_of, marginal_gap, write_report
from diffsmc.results.files import read_result, to_record, write_result
from diffsmc.results.inference_data import to_inference_data
from diffsmc.results.plots import (
    draw_evidence,
    draw_marginals,
    draw_modes,
    draw_schedule,
    draw_snapshots,
    draw_weights,
    save,
)
from diffsmc.results.snapshots import Snapshots
from diffsmc.shell.errors import InputError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    target = correlated_gaussian(5)
    methods = {
        "tempered": Tempering(0.7),
        "diffusion": Diffusion(MonteCarloPotential(8), 10, num_moves=0),
    }
    generator = torch.Generator().manual_seed(0)
    kept = {}
    for name, method in methods.items():
        result = method.run(target, 4, 200, generator=generator)
        data = to_inference_data(result, target, {"a": 1}, generator=generator)
        write_result(data, folder / f"{name}.nc")
        kept[name] = (result, folder / f"{name}.nc")
    return kept


def read_all(runs):
    return {name: read_result(path) for name, (_, path) in runs.items()}


def test_a_result_survives_the_file(runs):
    result, path = runs["diffusion"]
    data = read_result(path)
    record = to_record(data)
    assert torch.equal(record.log_normalizers, result.log_normalizers)
    assert torch.equal(record.log_weights, result.log_weights)
    assert np.array_equal(data["weighted_posterior"]["x"], result.particles)
    assert np.array_equal(data["schedule"]["ess"], torch.stack([i.ess for i in result.history]))
    assert json.loads(data.attrs["settings"]) == {"a": 1}
    assert data.attrs["evidence_log_normalizer"] == evidence_of(data).log_normalizer


def test_waste_free_runs_have_no_variance_from_one_run(runs, generator):
    """Its families are chains: the formula would be off, so nothing is claimed."""
    target = correlated_gaussian(3)
    result = Tempering(0.7, chain_length=10).run(target, 4, 200, generator=generator)
    data = to_inference_data(result, target, {}, generator=generator)
    assert np.isnan(data["evidence"]["relative_variance"]).all()
    assert data.attrs["evidence_standard_error"] > 0
    plain = read_all(runs)["tempered"]["evidence"]["relative_variance"]
    assert np.isfinite(plain).all()


def test_the_posterior_is_drawn_from_the_weighted_particles(runs):
    data = read_result(runs["diffusion"][1])
    weighted = data["weighted_posterior"]
    for chain in range(4):
        drawn = {tuple(x) for x in np.asarray(data["posterior"]["x"][chain])}
        assert drawn <= {tuple(x) for x in np.asarray(weighted["x"][chain])}
    weights = torch.as_tensor(np.asarray(weighted["log_weight"])).softmax(-1)[..., None].numpy()
    expected = (weights * np.asarray(weighted["x"])).sum(1)
    np.testing.assert_allclose(data["posterior"]["x"].mean("draw"), expected, atol=0.1)


def test_named_parameters_join_the_posterior(generator):
    from torch.distributions import constraints

    from diffsmc import Parameter, Posterior

    space = {"rate": Parameter(constraints.positive, (2,)), "shift": Parameter()}
    target = Posterior(
        space,
        lambda p: -p["rate"].sum(-1) - p["shift"].square(),
        lambda p: -0.1 * p["shift"].square(),
    )
    result = Tempering(adapt_islands=None).run(target, 2, 30, generator=generator)
    posterior = to_inference_data(result, target, {}, generator=generator)["posterior"]
    assert posterior["rate"].shape == (2, 30, 2)
    np.testing.assert_allclose(posterior["rate"], np.exp(posterior["x"][..., :2]))


@pytest.mark.parametrize("content", [b"", b"not a netcdf file"])
def test_damaged_results_are_refused(tmp_path, content):
    path = tmp_path / "bad.nc"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad.nc: not a NetCDF or zarr result"):
        read_result(path)


def test_a_missing_result_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_result(tmp_path / "none.nc")


def test_a_foreign_file_is_refused(tmp_path):
    import xarray as xr

    path = tmp_path / "other.nc"
    xr.Dataset({"x": ("t", [1.0])}).to_netcdf(path, group="posterior", engine="h5netcdf")
    with pytest.raises(InputError, match="no result of diffsmc"):
        read_result(path)


def test_a_result_of_an_earlier_version_is_refused(runs, tmp_path):
    data = read_result(runs["tempered"][1])
    data["schedule"] = data["schedule"].drop_vars("renewal")
    write_result(data, tmp_path / "old.nc")
    with pytest.raises(InputError, match="of an earlier version"):
        read_result(tmp_path / "old.nc")


def test_equal_results_have_no_gap(runs):
    data = read_result(runs["tempered"][1])
    assert marginal_gap(data, data) == {"max_mean_difference_sd": 0.0, "max_sd_ratio": 1.0}


def test_a_report_holds_finite_numbers_and_the_truth(runs, tmp_path):
    data = read_all(runs)
    report = build_report(data, correlated_gaussian(5).log_normalizer)
    assert report["disagreements"] == []
    assert report["marginals"]["tempered / diffusion"]["max_mean_difference_sd"] < 0.3
    write_report(report, tmp_path / "report.json")
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["runs"]["tempered"]["islands"] == 4
    wrong = build_report(data, 9.0)
    assert len(wrong["disagreements"]) == 2


def test_a_report_has_null_for_what_is_not_a_number(tmp_path):
    write_report({"a": [float("nan"), 1.0]}, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == {"a": [None, 1.0]}


def test_pictures_show_what_was_found(runs, tmp_path):
    data = read_all(runs)
    schedule = draw_schedule(data)
    titles = [axis.get_title(loc="left").splitlines() for axis in schedule.axes[:2]]
    assert [title[0] for title in titles] == ["tempered", "diffusion"]
    assert all(title[1].endswith("evaluations") for title in titles)
    marginals = draw_marginals(data, num=3)
    assert sum(axis.axison for axis in marginals.axes) == 3
    islands = {name: to_record(one).log_normalizers for name, one in data.items()}
    combined = {name: evidence_of(one) for name, one in data.items()}
    picture = draw_evidence(islands, combined, truth=1.5)
    dots = picture.axes[0].lines[0].get_xdata()
    assert np.array_equal(dots, islands["tempered"])
    save(picture, tmp_path / "evidence.png")
    assert (tmp_path / "evidence.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def modal(tmp_path_factory):
    """A stratified run of two modes with snapshots, as zarr."""
    snapshots, target = Snapshots(100), two_modes(2, 0.5)
    method = ReferenceMixture(MixtureFit(num_chains=60), importance_ess=1.0)
    generator = torch.Generator().manual_seed(0)
    result = method.run(target, 3, 200, generator=generator, monitor=Monitor(snapshots))
    data = to_inference_data(result, target, {}, generator=generator, snapshots=snapshots)
    path = tmp_path_factory.mktemp("modal") / "modes.zarr"
    # a second write replaces the first
    write_result(data, path)
    write_result(data, path)
    return result, path


def test_zarr_holds_what_netcdf_holds(modal, tmp_path):
    result, path = modal
    data = read_result(path)
    assert data.attrs["path"] == result.path == "stratified bridge"
    assert data.attrs["reason"] == result.reason
    write_result(data, tmp_path / "same.nc")
    again = read_result(tmp_path / "same.nc")
    assert set(again.groups()) == set(data.groups())
    for group in data.groups():
        assert data[group].equals(again[group])
    assert torch.equal(to_record(data).log_weights, result.log_weights)
    assert not path.with_name("modes.zarr.part").exists()


def test_masses_of_modes_and_strata_are_kept(modal):
    result, path = modal
    evidence = read_result(path)["evidence"]
    np.testing.assert_allclose(evidence["mode_mass"].mean("chain"), [0.5, 0.5], atol=0.05)
    assert evidence["stratum_mass"].shape == (3, int(result.strata.max()) + 1)
    np.testing.assert_allclose(evidence["stratum_mass"].sum("stratum"), 1.0)


def test_a_damaged_zarr_is_refused(tmp_path):
    (tmp_path / "bad.zarr").mkdir()
    with pytest.raises(InputError, match=r"bad.zarr: not a NetCDF or zarr result"):
        read_result(tmp_path / "bad.zarr")


def test_weights_modes_and_path_are_drawn(modal, runs):
    data = read_all(runs)
    weights = draw_weights(data)
    counts = sum(patch.get_height() for patch in weights.axes[1].patches)
    assert counts == data["diffusion"]["weighted_posterior"]["log_weight"].size
    assert "resampled" in weights.axes[0].get_title(loc="left")
    assert "Pareto k = " in weights.axes[1].get_title(loc="left")
    mode = read_result(modal[1])
    bars = draw_modes({"bridge": mode}).axes[0].patches
    np.testing.assert_allclose(sum(bar.get_height() for bar in bars), 1.0)
    path = draw_snapshots(mode)
    assert len(path.axes) == min(6, len(modal[0].history))
    assert len(path.axes[-1].lines[0].get_xdata()) == 100


def test_a_reference_that_is_too_narrow_is_a_warning(generator):
    target = correlated_gaussian(2)
    method = Diffusion(MonteCarloPotential(8), 8, num_moves=1, inflation=0.4)
    result = method.run(target, 4, 300, generator=generator)
    data = to_inference_data(result, target, {}, generator=generator)
    assert any("reference is too narrow" in line for line in diagnose(to_record(data)))
