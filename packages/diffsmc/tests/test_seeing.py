"""What a search would have seen, how it looks further, and how a budget is divided."""

import re
from dataclasses import replace

import pytest
import torch
from test_methods import Counted
from torch.distributions import MultivariateNormal

from diffsmc import Funnel, LogDensity, ReferenceMixture
from diffsmc.methods.climbing import find_hills, scaled_starts
from diffsmc.methods.importance import sample_by_importance
from diffsmc.methods.judgement import fit_hills
from diffsmc.methods.looking import look_further, outweighing
from diffsmc.methods.method import Monitor
from diffsmc.methods.seeing import Modes, chance_of_seeing, look_back
from diffsmc.methods.thrift import _with_start, sample_thriftily
from diffsmc.references.gaussian import isotropic
from diffsmc.references.mixture import Mixture, shrunk_factor


def bell(x):
    return 20 - 0.5 * x.square().sum(-1)


def unit(dim):
    return Mixture(*(t[None] for t in (torch.ones(()).double(), *isotropic(dim, 1.0))))


def power(notes):
    return float(re.search(r"seen with (\d+)%", notes[0])[1])


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_an_imagined_mode_is_seen_where_it_outweighs_what_was_found(size):
    """The same by torch's own densities, mode by mode and point by point."""
    target = LogDensity(bell, 2, 3.0)
    shapes = torch.tensor([[[0.1, 0.0], [0.03, 0.2]], [[2.0, 0.0], [0.5, 1.0]]]).double() * size
    centres = torch.tensor([[0.0, 0.0], [1.0, 2.0]]).double()
    mixture = Mixture(torch.tensor([0.5, 0.5]).double(), centres, shapes)
    points = scaled_starts(target, 30, generator=torch.Generator().manual_seed(0))
    got = chance_of_seeing(target, mixture, points, generator=torch.Generator().manual_seed(1))

    def found(x):
        parts = MultivariateNormal(mixture.means, scale_tril=shapes).log_prob(x[..., None, :])
        return (parts + mixture.weights.log()).logsumexp(-1)

    drawn = torch.randn(200, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    uniform = torch.special.ndtr(drawn[:, 2:])
    seen = []
    for row, (narrow, weight, kind) in zip(drawn, uniform, strict=True):
        share = 0.01 + 0.98 * weight
        shape = shapes[int(kind > 0.5)] / (1 + 4 * narrow)
        mode = MultivariateNormal(3 * row[:2], scale_tril=shape)
        odds = (share / (1 - share)).log()
        if odds + mode.log_prob(mode.mean) > found(mode.mean):
            seen.append(bool((odds + mode.log_prob(points) > found(points)).any()))
    assert len(seen) < 200
    assert got == pytest.approx(sum(seen) / len(seen))


def importance_run(generator):
    return sample_by_importance(
        LogDensity(bell, 4, 3.0), unit(4), 4, 2000, generator=generator, monitor=Monitor()
    )


def test_draws_of_importance_sampling_were_looks(generator):
    run, one = importance_run(generator), unit(4)
    modes = Modes(one.means, one.factors, torch.tensor([0]), torch.tensor([100.0]).double())
    args = (LogDensity(bell, 4, 3.0), one, modes, torch.zeros(1, 4).double())
    other = run._replace(path="stratified bridge")
    assert power(look_back(*args, run)) > power(look_back(*args, other)) + 5


def test_modes_that_few_starts_found_count_against_the_interval(generator):
    """A tenth of the mass: that is less than an interval of half a unit, more than a narrow one."""
    run = importance_run(generator)
    means = torch.zeros(2, 4).double()
    means[1, 0] = 2.6  # its half begins at 1.3
    factors = torch.eye(4).double().expand(2, 4, 4)
    modes = Modes(means, factors, torch.tensor([0, 1]), torch.tensor([99.0, 1.0]).double())
    assert 0.05 < float(modes.shares(run)[1]) < 0.15
    spread = torch.tensor([-0.3, 0.3, -0.2, 0.2]).double()
    for scale, warns in ((1.0, False), (1e-3, True)):
        some = run._replace(log_normalizers=20 + scale * spread)
        mixture = Mixture(torch.tensor([0.9, 0.1]).double(), means, factors)
        looks = torch.zeros(1, 4).double()
        notes = look_back(LogDensity(bell, 4, 3.0), mixture, modes, looks, some)
        assert any("found by few starts" in note for note in notes) == warns


def fitted_hills(target):
    hills = find_hills(target, generator=torch.Generator().manual_seed(0))
    return hills, fit_hills(target, hills, 0.05, generator=torch.Generator().manual_seed(1))


def test_a_fit_is_not_outweighed_by_its_own_target():
    target = LogDensity(bell, 3, 3.0)
    _, fitted = fitted_hills(target)
    log_ratio = outweighing(target, fitted, 0.5 * torch.eye(3, dtype=torch.float64))
    assert float(log_ratio.abs().max()) < 0.5


def test_looks_end_where_they_are_hopeless_and_climb_from_nothing_that_fits():
    target = LogDensity(bell, 12, 3.0)
    hills, fitted = fitted_hills(target)
    seen = look_further(target, hills, fitted, generator=torch.Generator().manual_seed(2), num=500)
    assert len(seen.looks) == 500
    assert seen.num_evaluations == hills.num_evaluations + 500


def test_a_covariance_of_few_points_is_shrunk_to_its_diagonal(generator):
    points = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    mean = points.mean(0)
    factor = shrunk_factor(points, torch.ones(6).double(), mean)
    sample = (points - mean).T @ (points - mean) / 6
    off = ~torch.eye(12, dtype=torch.bool)
    torch.testing.assert_close((factor @ factor.T)[off], sample[off] * 6 / 18)


def test_half_of_a_small_budgets_mixture_is_the_start():
    target = LogDensity(bell, 2, 3.0)
    mixture = _with_start(target, unit(2))
    assert mixture.weights.tolist() == [0.5, 0.5]
    torch.testing.assert_close(mixture.factors[0], target.start_factor)


def test_looks_count_where_the_budget_allows_importance_sampling_alone():
    target = LogDensity(bell, 6, 3.0)
    hills, _ = fitted_hills(target)
    looks = scaled_starts(target, 20_000, generator=torch.Generator().manual_seed(3))
    seen = []
    for some in (hills, hills._replace(looks=looks)):
        generator = torch.Generator().manual_seed(4)
        run = sample_thriftily(
            ReferenceMixture(), target, some, 2, 100, 700, generator=generator, monitor=Monitor()
        )
        seen.append(power(run.notes))
    assert seen[1] > seen[0] + 5


@pytest.mark.parametrize(
    ("target_ess", "path"), [(0.5, "stratified bridge"), (0.999, "importance sampling")]
)
def test_a_bridge_is_built_where_the_budget_allows_it(target_ess, path, generator):
    """One that would need more gives way, and what it took is counted."""
    counted, passes = Counted(Funnel(6)), set()
    method = replace(ReferenceMixture(), importance_ess=1.0, target_ess=target_ess)
    monitor = Monitor(lambda name, state, info: passes.add(name))
    run = sample_thriftily(
        method, counted, None, 2, 100, 300_000, generator=generator, monitor=monitor
    )
    assert run.path == path
    assert len(passes) >= 2  # the bridge began
    assert run.num_evaluations == counted.count <= 300_000
