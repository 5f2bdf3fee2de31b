"""Nothing is silently wrong: maps and metrics made to deceive, with known answers."""

import numpy as np
import pytest
import torch
from families import conjugate, helix, oddity, radial_cost, ridge, sine
from silence import FAMILIES, silent, solved, study, true_length
from torch import nn

from latentgeom import Chart, Ensemble, ensemble_geodesics, frechet_mean, geodesics, georce, spread


@pytest.mark.parametrize("width", [0.3, 0.1, 0.03, 0.01, 0.003])
def test_ridges_are_climbed(width):
    problem = ridge(width, np.random.default_rng(int(1000 * width)), 20)
    batch = solved(problem)
    assert not silent(problem, batch).any()
    assert batch.converged.double().mean() >= 0.95
    error = (batch.length - problem.exact).abs() / problem.exact
    assert error[batch.converged].max() < 0.02


@pytest.mark.parametrize("num_segments", [8, 16, 32])
@pytest.mark.parametrize("make", [
    lambda rng: sine(10.0, rng, 20), lambda rng: sine(40.0, rng, 20),
    lambda rng: sine(150.0, rng, 20), lambda rng: helix(0.05, 20, rng, 20),
    lambda rng: helix(0.02, 50, rng, 20),
], ids=["sine 10", "sine 40", "sine 150", "helix 20", "helix 50"])  # fmt: skip
def test_waves_and_windings_are_seen(make, num_segments):
    problem = make(np.random.default_rng(num_segments))
    batch = solved(problem, num_segments)
    assert not silent(problem, batch).any()
    assert batch.converged.double().mean() >= 0.95


@pytest.mark.parametrize("num_centres", [16, 32])
def test_curves_of_uncertain_decoders_are_as_long_as_they_say(num_centres):
    problem = oddity(num_centres, np.random.default_rng(num_centres), 12)
    batch = solved(problem)
    long = true_length(problem, batch.points)
    off = (batch.length - long).abs() - batch.error_estimate
    # The nodes alone don't give the curve between them to more than a few per mille.
    assert (off[batch.converged] <= 5e-3 * long[batch.converged]).all()
    assert batch.converged.double().mean() >= 0.7


@pytest.mark.parametrize(("weight", "width"), [(1e2, 0.3), (1e4, 0.3), (1e6, 0.3)])
def test_curves_between_walls_are_as_long_as_they_say(weight, width):
    problem = radial_cost(weight, width, np.random.default_rng(int(weight) % 97), 12)
    batch = solved(problem)
    off = (batch.length - true_length(problem, batch.points)).abs() - batch.error_estimate
    assert (off[batch.converged] <= 1e-5 * batch.length[batch.converged]).all()
    assert batch.converged.any()


@pytest.mark.parametrize("chart", ["polar", "surface", "tangent"])
@pytest.mark.parametrize(
    ("gap", "seed"), [(1e-1, 3), (1e-1, 4), (1e-2, 3), (1e-3, 3), (1e-5, 3), (1e-8, 3)]
)
def test_nearly_conjugate_ends_are_right_or_flagged(chart, gap, seed):
    problem = conjugate(chart, gap, np.random.default_rng(seed), 20)
    batch = solved(problem)
    assert not silent(problem, batch, 0.0).any()
    if gap >= 0.1:
        assert batch.converged.double().mean() >= 0.9
    if gap <= 1e-5:
        assert not batch.converged.any()


@pytest.mark.parametrize("make", [
    lambda rng: ridge(0.1, rng, 20), lambda rng: ridge(0.01, rng, 20),
    lambda rng: sine(40.0, rng, 20), lambda rng: helix(0.05, 20, rng, 20),
    lambda rng: conjugate("polar", 1e-2, rng, 20),
], ids=["ridge .1", "ridge .01", "sine", "helix", "conjugate"])  # fmt: skip
def test_single_precision_is_not_silently_wrong(make):
    problem = make(np.random.default_rng(5))
    batch = solved(problem, dtype=torch.float32)
    assert not silent(problem, batch, 1e-6).any()


@pytest.mark.parametrize(("width", "seed", "num_segments", "rows"), [
    (0.003, 1004, 32, [80, 87]),  # nodes were pushed to both sides of the ridge
    (0.003, 1004, 16, [2, 35, 39, 74]),  # too few samples to meet it
    (0.01, 1, 32, [15]),  # a string whose second round was longer than its first
])  # fmt: skip
def test_ridges_that_hid_once_are_seen(width, seed, num_segments, rows):
    problem = ridge(width, np.random.default_rng(seed), 100)
    parts = {name: getattr(problem, name)[rows] for name in ("a", "b", "exact")}
    problem = problem._replace(**parts)
    batch = solved(problem, num_segments)
    assert not silent(problem, batch).any()
    assert batch.converged.double().mean() >= 0.95


def test_curves_beside_finer_ones_have_no_corners():
    problem = radial_cost(1e2, 0.3, np.random.default_rng(1014), 60)
    rows = [3, 18, 13]
    problem = problem._replace(a=problem.a[rows], b=problem.b[rows])
    batch = solved(problem)
    assert batch.points.shape[1] > 33
    off = (batch.length - true_length(problem, batch.points)).abs() - batch.error_estimate
    assert batch.converged[:2].all()
    assert (off[:2] <= 1e-5 * batch.length[:2]).all()


def test_empty_line_searches_are_no_convergence():
    problem = conjugate("tangent", 1e-8, np.random.default_rng(0), 20)
    from latentgeom import ConstantCurvature

    batch = georce(ConstantCurvature(2, 1.0).metric_tensor, problem.a, problem.b)
    error = (batch.length - problem.exact).abs()
    assert not (batch.converged & (error > batch.error_estimate)).any()


def test_starts_that_all_fail_do_not_agree(generator):
    problem = conjugate("tangent", 1e-8, np.random.default_rng(0), 4)
    best, width = spread(problem.immersion, problem.a, problem.b, generator=generator)
    assert width.isnan().tolist() == (~best.converged).tolist()
    assert width.isnan().any()


def test_means_see_between_the_nodes():
    problem = ridge(0.02, np.random.default_rng(0), 3)
    mean = frechet_mean(problem.immersion, torch.cat([problem.a, problem.b]))
    assert not mean.converged
    smooth = ridge(2.0, np.random.default_rng(0), 3)
    assert frechet_mean(smooth.immersion, torch.cat([smooth.a, smooth.b])).converged


def test_ensembles_see_between_the_nodes():
    class Ridge(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def forward(self, z):
            bump = torch.exp(-(z[..., :1] - 0.013).square() / (2 * self.width**2))
            return torch.cat([z, 2 * bump], -1)

    a, b = torch.tensor([[-0.8, 0.1]]), torch.tensor([[0.9, -0.2]])
    assert not ensemble_geodesics(Ensemble([Ridge(0.03)]), a, b).converged.any()
    assert ensemble_geodesics(Ensemble([Ridge(3.0)]), a, b).converged.all()


def test_refined_curves_are_given_with_their_own_nodes():
    problem = ridge(0.1, np.random.default_rng(0), 6)
    batch = solved(problem)
    assert batch.points.shape[1] > 33
    assert torch.equal(batch.points[:, 0], problem.a)
    assert torch.equal(batch.points[:, -1], problem.b)
    long = true_length(problem, batch.points, 16)
    assert ((batch.length - long).abs() < 0.02 * long)[batch.converged].all()
    flat = geodesics(Chart(lambda z: 2 * z, 2), problem.a, problem.b)
    assert flat.points.shape[1] == 33


# Shares of converged curves that are promised; the others are measured and stored by the bench.
SHARES = {"ridges": 0.95, "sines": 0.95, "helices": 0.95, "oddity 16": 0.8, "conjugate 0.1": 0.9}
# The bench alone has those of 64 and 128 centres: they take minutes.
QUICK = [family for family in FAMILIES if family not in {"oddity 64", "oddity 128"}]


@pytest.mark.slow
@pytest.mark.parametrize("family", QUICK)
def test_of_two_thousand_pairs_none_is_silently_wrong(family):
    (verdict,) = study([family])
    assert verdict.silent == 0
    assert verdict.converged >= SHARES.get(family, 0.0) * verdict.pairs
