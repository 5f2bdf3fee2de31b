"""Places on one ridge are one mode, and climbs that lost their way find it again."""

import math

import pytest
import torch
from test_methods import Counted

from diffsmc import Automatic, LogDensity, MixtureFit, Parameter, Posterior
from diffsmc.methods import automatic, seeing
from diffsmc.methods.climbing import find_hills
from diffsmc.methods.pilot import label_linked, lowest_between
from diffsmc.methods.seeing import ALONE, Modes, chance_of_seeing, look_back, without_ridges
from diffsmc.references.mixture import Mixture
from diffsmc.smc.estimators import effective_sample_size

EYE = torch.eye(2, dtype=torch.float64)


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def modes(means, found, labels=None):
    found = torch.tensor(found, dtype=torch.float64)
    labels = torch.arange(len(means)) if labels is None else torch.tensor(labels)
    return Modes(means, 0.1 * EYE.expand(len(means), 2, 2), labels, found, ALONE)


def mixture(means):
    weights = torch.full_like(means[:, 0], 1 / len(means))
    return Mixture(weights, means, 0.1 * EYE.expand(len(means), 2, 2))


def arch(x):
    """A ridge along a half circle of radius 3, as high everywhere."""
    radius = x.square().sum(-1).clamp(min=1e-12).sqrt()
    return -0.5 * ((radius - 3) / 0.1).square() - 50 * (-x[..., 1]).clamp(min=0).square()


def two(x):
    """Bells of width 0.1 at -2 and 2."""
    a, b = (-50 * (x - points([c, 0.0])).square().sum(-1) for c in (-2.0, 2.0))
    return torch.logaddexp(a, b)


ALONG = torch.linspace(0.1, math.pi - 0.1, 40, dtype=torch.float64)
RIDGE = 3 * torch.stack([ALONG.cos(), ALONG.sin()], -1)


def test_places_on_one_ridge_are_one_mode():
    target = Counted(LogDensity(arch, 2, 3.0))
    ends = RIDGE[[0, -1]]
    joined, spent = without_ridges(target, mixture(RIDGE), modes(ends, [1.0, 99.0]))
    assert joined.found.tolist() == [100.0]
    assert joined.labels.tolist() == [0, 0]
    assert spent == target.count
    # the straight line between them has a valley
    apart, _ = without_ridges(target, mixture(ends), modes(ends, [1.0, 99.0]))
    assert apart.found.tolist() == [1.0, 99.0]


def test_modes_apart_stay_apart_whatever_the_fit_puts_between():
    """A component in the valley is lower than both, and no way from one to the other."""
    target = LogDensity(two, 2, 3.0)
    ends = points([-2.0, 0.0], [2.0, 0.0])
    between = points([-2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 0.0])
    joined, _ = without_ridges(target, mixture(between), modes(ends, [2.0, 98.0]))
    assert joined.found.tolist() == [2.0, 98.0]


def test_a_low_cluster_of_a_mode_is_no_way_to_another():
    """Only summits are compared: a straggler in the valley belongs to the mode it is told of."""
    target = LogDensity(two, 2, 3.0)
    parts = points([-2.0, 0.0], [0.0, 0.0], [2.0, 0.0])
    told = modes(parts, [1.0, 99.0], [0, 0, 1])
    joined, _ = without_ridges(target, mixture(parts), told)
    assert joined.found.tolist() == [1.0, 99.0]
    assert joined.labels.tolist() == [0, 0, 1]


def test_nothing_is_asked_where_many_found_every_mode():
    target = Counted(LogDensity(arch, 2, 3.0))
    for found in ([50.0, 50.0], [100.0]):
        told = modes(RIDGE[: len(found)], found)
        joined, spent = without_ridges(target, mixture(RIDGE), told)
        assert (joined, spent, target.count) == (told, 0, 0)


def test_modes_that_draws_alone_found_are_looked_at_as_well():
    """Climbs from chosen draws count two, and may have ended on a ridge."""
    joined, _ = without_ridges(
        LogDensity(arch, 2, 3.0), mixture(RIDGE), modes(RIDGE[[0, -1]], [2.0, 512.0])
    )
    assert joined.found.tolist() == [514.0]


def test_lowest_points_are_those_of_straight_lines():
    target = LogDensity(two, 2, 3.0)
    means = points([-2.0, 0.0], [2.0, 0.0], [2.1, 0.0])
    lowest, height, spent = lowest_between(target, means)
    assert spent == 3 * 2 * 11
    torch.testing.assert_close(height, two(means))
    assert float(lowest[0, 1]) == pytest.approx(-50 * 4 + math.log(2))
    assert float(lowest[1, 2]) == pytest.approx(-0.5)
    assert torch.equal(lowest, lowest.T)


def test_links_lead_over_others():
    linked = torch.zeros(5, 5, dtype=torch.bool)
    linked[0, 3] = linked[3, 1] = linked[4, 2] = True
    assert label_linked(linked).tolist() == [0, 0, 1, 0, 1]


def test_climbs_that_lost_their_way_find_it_again():
    """Strong correlation a thousand times narrower than the start, and an unknown scale."""
    design = torch.stack([torch.ones(50), torch.linspace(60, 70, 50)], -1).double()
    y = design @ torch.tensor([-6e4, 1.2e3]).double() + 2e4 * torch.linspace(-1, 1, 50).sin()

    def density(x):
        error = (y - x[..., :2] @ design.T) * (-x[..., 2:]).exp()
        return -0.5 * error.square().sum(-1) - len(y) * x[..., 2]

    target = Counted(LogDensity(density, 3, [2e5, 2e5 / 70, 3.0]))
    hills = find_hills(target, generator=torch.Generator().manual_seed(1), num_starts=32)
    assert len(hills.modes) == 1
    assert hills.lost < 0.5 * len(hills.starts)
    assert float(hills.found.sum()) + hills.lost == len(hills.starts)
    assert hills.num_evaluations == target.count
    exact = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    torch.testing.assert_close(hills.modes[0, :2], exact, rtol=1e-3, atol=0)


def test_the_chance_of_seeing_is_the_same_in_blocks(monkeypatch):
    target = LogDensity(two, 2, 3.0)
    looks = 3 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0)).double()

    def chance():
        generator = torch.Generator().manual_seed(1)
        return chance_of_seeing(target, mixture(RIDGE[:2]), looks, generator=generator)

    whole = chance()
    monkeypatch.setattr(seeing, "BLOCK", 33)
    assert 0 < whole < 1
    assert chance() == whole


def test_what_climbs_looked_at_counts_for_a_pilot_as_well():
    target = LogDensity(two, 2, 3.0)
    generator = torch.Generator().manual_seed(0)
    hills = find_hills(target, generator=generator, num_starts=32, most_starts=64)
    hills = hills._replace(looks=torch.randn(70, 2).double())
    fit = MixtureFit(num_chains=16, search_moves=4, revisit_chains=8, revisit_moves=3)
    pilot = fit.pilot(target, hills, generator=generator)
    assert len(pilot.looks) == 16 + len(hills.starts) + 70
    assert torch.equal(pilot.looks[:16], pilot.starts)
    assert torch.equal(pilot.looks[-70:], hills.looks)
    assert len(fit.pilot(target, generator=generator).looks) == 16


def test_all_draws_count_as_looks_where_one_mode_was_found(monkeypatch):
    run = Automatic().run(
        LogDensity(lambda x: -0.5 * x.square().sum(-1), 4, 2.0), 4, 100,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert run.path == "importance sampling"
    counted = []

    def count(target, mixture, looks, **rest):
        counted.append(len(looks))
        return 1.0

    monkeypatch.setattr(seeing, "chance_of_seeing", count)
    like = torch.zeros(2, 4, dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    fitted = Mixture(torch.tensor([0.5, 0.5]).double(), like, eye)
    for found in ([9.0], [5.0, 4.0]):
        told = Modes(like[: len(found)], eye[: len(found)], torch.arange(len(found)),
                     torch.tensor(found).double())  # fmt: skip
        monkeypatch.setattr(seeing, "SUBSAMPLE", 100)
        look_back(LogDensity(two, 4, 3.0), fitted, told, like, run)
    wide = 4 * int((run.strata == run.strata.max()).sum())
    assert counted == [2 + 4000, 2 + 100 + wide]


def test_few_effective_draws_are_no_answer_of_climbs(generator, monkeypatch):
    """Where islands stay poor the pilot takes over."""
    spoilt = []

    def poor(target, mixture, num_islands, num_draws, **rest):
        run, same = enough(target, mixture, num_islands, num_draws, **rest)
        heavy = torch.zeros_like(run.log_weights)
        heavy[:, 0] = 4.0
        spoilt.append(float(effective_sample_size(run.log_weights + heavy).min()))
        return run._replace(log_weights=run.log_weights + heavy), same

    enough = automatic.draw_enough
    monkeypatch.setattr(automatic, "draw_enough", poor)
    run = Automatic().run(
        LogDensity(lambda x: -0.5 * x.square().sum(-1), 2, 2.0), 2, 50, generator=generator
    )
    assert spoilt
    assert "pilot chains" in run.reason


def test_no_climb_that_ends_is_no_fault(generator):
    """Nothing is asked of the target about no points, of which posteriors know nothing."""
    space = {"a": Parameter(torch.distributions.constraints.positive)}
    flat = Posterior(space, lambda p: -p["a"].log(), lambda p: 0 * p["a"])
    hills = find_hills(flat, generator=generator, num_starts=8, most_starts=8)
    assert len(hills.modes) == 0
    assert hills.lost == 8
