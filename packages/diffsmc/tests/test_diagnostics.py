import math

import pytest
import torch

from diffsmc import Funnel, Gaussian, ManyWell, correlated_gaussian, two_modes
from diffsmc.methods.tempering import Tempering
from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import isotropic
from diffsmc.results.diagnostics import Record, compare, diagnose, mode_masses
from diffsmc.results.files import to_record
from diffsmc.results.inference_data import to_inference_data
from diffsmc.smc.engine import Settings, start, step
from diffsmc.smc.estimators import Evidence, evidence, pareto_shape
from diffsmc.smc.moves import HMC
from diffsmc.smc.resampling import systematic
from diffsmc.smc.schedules import FixedSchedule


def healthy():
    generator = torch.Generator().manual_seed(0)
    return Record(
        log_weights=0.3 * torch.randn(4, 400, generator=generator, dtype=torch.float64),
        log_normalizers=torch.tensor([0.0, 0.1, -0.1, 0.05], dtype=torch.float64),
        conditional_ess=torch.full((5, 4), 0.9, dtype=torch.float64),
        families=torch.full((4,), 50),
        acceptance=torch.full((4,), 0.6, dtype=torch.float64),
        unbiased=True,
        step_sizes=torch.tensor([[0.5] * 4, [0.3] * 4], dtype=torch.float64),
        renewal=torch.full((5, 4), 0.8, dtype=torch.float64),
        notes=("found one mode",),
    )


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_pareto_shape_is_recovered(shape, generator):
    uniform = torch.rand(200_000, generator=generator, dtype=torch.float64)
    assert pareto_shape(-shape * uniform.log()) == pytest.approx(shape, abs=0.08)


def test_pareto_shape_of_equal_and_of_few_weights():
    assert pareto_shape(torch.zeros(100).double()) == -math.inf
    assert math.isnan(pareto_shape(torch.zeros(20).double()))


def test_a_healthy_run_has_no_warning():
    assert diagnose(healthy()) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"log_normalizers": torch.tensor([0.0, 3.0, -2.0])}, "islands disagree"),
        ({"log_normalizers": torch.zeros(1)}, "one island gives no interval"),
        ({"families": torch.tensor([2, 300])}, "2 of 400 first ancestors"),
        ({"renewal": torch.tensor([[0.9, 0.8], [0.2, 0.3]])}, "moves renewed 25%"),
        ({"acceptance": torch.tensor([0.5, 0.01])}, "moves are stuck"),
        ({"conditional_ess": torch.tensor([[0.9, 0.05]])}, "conditional ESS of 5.0%"),
        ({"unbiased": False}, "set adapt_islands"),
        ({"step_sizes": torch.tensor([[0.5], [1e-5]])}, "step sizes fell to 2e-05 of the first"),
        ({"notes": ("warning: some modes were found by few chains",)}, "some modes were found"),
    ],
)
def test_each_failure_has_its_warning(change, expected):
    (warning,) = diagnose(healthy()._replace(**change))
    assert expected in warning


def test_heavy_tails_are_reported(generator):
    weights = -1.5 * torch.rand(4, 400, generator=generator, dtype=torch.float64).log()
    record = healthy()._replace(log_weights=weights, resampled=False)
    assert any("Pareto k" in line for line in diagnose(record))
    # after resampling weights are no sample of ratios
    assert not any("Pareto k" in line for line in diagnose(record._replace(resampled=True)))


def test_methods_that_disagree_are_reported():
    a, b = Evidence(-10.0, 0.1, -10.2, -9.8, 8), Evidence(-10.2, 0.1, -10.4, -10.0, 8)
    far = Evidence(-12.0, 0.1, -12.2, -11.8, 8)
    assert compare({"a": a, "b": b}) == []
    assert len(compare({"a": a, "b": b, "far": far})) == 2
    assert len(compare({"a": a, "nan": a._replace(log_normalizer=math.nan)})) == 1


def test_masses_of_known_modes(generator):
    target = two_modes(2, 0.5)
    x = target.sample(4000, generator=generator).reshape(2, 2000, 2)
    masses = mode_masses(target, x, torch.zeros(2, 2000).double())
    assert masses.shape == (2, 2)
    torch.testing.assert_close(masses, torch.full((2, 2), 0.5).double(), rtol=0, atol=0.05)
    wells = ManyWell(4)
    x = wells.sample(4000, generator=generator)[None]
    shares = mode_masses(wells, x, torch.zeros(1, 4000).double())
    assert (shares - wells.right_mass).abs().max() < 0.04
    assert mode_masses(correlated_gaussian(2), x[..., :2], torch.zeros(1, 4000)) is None


def test_runs_without_moves_say_nothing_of_them():
    assert diagnose(healthy()._replace(renewal=torch.full((5, 4), torch.nan))) == []


@pytest.mark.parametrize(
    ("target", "lags"),
    [(Funnel(10), True), (correlated_gaussian(10), False)],
    ids=["funnel", "Gaussian"],
)
def test_particles_that_lag_behind_the_levels_are_told_of(target, lags, generator):
    """Islands agree on a log Z of the funnel that is too low."""
    result = Tempering().run(target, 8, 1000, generator=generator)
    one = evidence(result.log_normalizers)
    off = (one.log_normalizer - target.log_normalizer) / one.standard_error
    assert (off < -4) == lags
    assert abs(off) < 4 or lags
    record = to_record(to_inference_data(result, target, {}, generator=generator))
    assert any("moves renewed" in text for text in diagnose(record)) == lags


def test_renewal_is_one_for_new_draws_and_zero_for_none(generator):
    """Metropolis steps of the stationary size, then of a vanishing one, on a Gaussian."""
    path = TemperedPath(Gaussian([0.0] * 3), isotropic(3, 1.0))
    found = []
    for size in (1.0, 1e-4):
        settings = Settings(HMC(20), num_moves=4, adapt=False, resample=systematic)
        state = start(path, settings, 2, 4000, generator=generator)
        state = state._replace(step_size=torch.full_like(state.step_size, 0.12 * size))
        _, info = step(state, path, FixedSchedule([0.0, 1.0]), settings, generator=generator)
        found.append(info.renewal)
    assert torch.allclose(found[0], torch.ones(2).double(), atol=0.1)
    assert (found[1] < 1e-4).all()
