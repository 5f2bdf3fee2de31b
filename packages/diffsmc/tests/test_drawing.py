"""Draws that are few or heavy are drawn anew, from a refit to all of them, and all are counted."""

import math

import pytest
import torch

from diffsmc import Automatic, Funnel, LogDensity
from diffsmc.methods import drawing
from diffsmc.methods.drawing import (
    ENOUGH,
    _Drawn,
    _heaviest,
    _together,
    draw_enough,
    draw_if_it_will_do,
)
from diffsmc.methods.importance import sample_by_importance
from diffsmc.methods.judgement import Fitted, Judgement, judge_weights
from diffsmc.methods.method import SILENT
from diffsmc.references.mixture import Mixture
from diffsmc.smc.estimators import effective_sample_size


def bell(x):
    return -0.5 * x.square().sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)


def gaussian(scale, dim=3, mean=0.0):
    like = torch.zeros(1, dim, dtype=torch.float64)
    return Mixture(
        torch.ones(1, dtype=torch.float64), like + mean, scale * torch.eye(dim).double()[None]
    )


def least_ess(run):
    return float(effective_sample_size(run.log_weights).min())


def test_too_narrow_a_fit_is_drawn_from_anew(generator):
    target = LogDensity(bell, 6, 20.0)
    first = sample_by_importance(
        target, gaussian(0.3, 6), 4, 1000, generator=torch.Generator().manual_seed(0),
        monitor=SILENT,
    )  # fmt: skip
    run, mixture = draw_enough(
        target, gaussian(0.3, 6), 4, 1000, generator=generator, monitor=SILENT
    )
    assert least_ess(first) < ENOUGH / 2
    assert least_ess(run) > ENOUGH
    assert mixture.factors.diagonal(dim1=-2, dim2=-1).mean() > 0.6
    assert run.num_evaluations > first.num_evaluations + 4000 - 1
    assert run.evidence().log_normalizer == pytest.approx(0.0, abs=0.1)


def test_a_good_fit_is_drawn_from_once(generator):
    target = LogDensity(bell, 3, 2.0)
    mixture = gaussian(1.0)
    run, same = draw_enough(target, mixture, 4, 1000, generator=generator, monitor=SILENT)
    assert run.num_evaluations == 4000
    assert same is mixture


def test_few_draws_are_not_drawn_again_and_again(generator):
    """Half of the draws being effective is enough: 100 draws can't have 200 effective ones."""
    target = LogDensity(bell, 3, 2.0)
    run, _ = draw_enough(target, gaussian(1.0), 4, 100, generator=generator, monitor=SILENT)
    assert run.num_evaluations == 400


def test_a_limit_is_kept(generator):
    target = LogDensity(bell, 6, 20.0)
    run, _ = draw_enough(
        target, gaussian(0.3, 6), 4, 1000, most=7999, generator=generator, monitor=SILENT
    )
    assert run.num_evaluations == 4000


def test_attempts_end_where_nothing_helps(generator, monkeypatch):
    monkeypatch.setattr(drawing, "USABLE", -math.inf)
    target = LogDensity(bell, 3, 2.0)
    run, _ = draw_enough(target, gaussian(1.0), 2, 500, generator=generator, monitor=SILENT)
    assert run.num_evaluations == 3 * 2 * 500
    assert run.particles.shape == (2, 500, 3)


def test_draws_of_two_proposals_are_weighted_by_both(generator):
    """The mean weight is the evidence, and no weight exceeds what either proposal would give."""
    target = LogDensity(bell, 3, 4.0)
    drawn = [
        _Drawn(
            sample_by_importance(target, mixture, 4, num, generator=generator, monitor=SILENT),
            mixture,
            num,
        )
        for mixture, num in ((gaussian(0.7), 3000), (gaussian(1.5, mean=0.5), 1000))
    ]
    x, log_weights = _together(target, drawn)
    assert x.shape == (16_000, 3)
    assert float(log_weights.exp().mean()) == pytest.approx(1.0, abs=0.03)
    own = torch.cat([one.run.log_weights.flatten() for one in drawn])
    share = torch.cat([torch.full((12_000,), 0.75), torch.full((4000,), 0.25)]).double()
    assert bool((log_weights <= own - share.log() + 1e-9).all())
    density = bell(x)
    parts = torch.stack([
        drawn[0].log_density(target, x) + math.log(0.75),
        drawn[1].log_density(target, x) + math.log(0.25),
    ])  # fmt: skip
    assert torch.allclose(log_weights, density - parts.logsumexp(0), atol=1e-9)


def test_the_heaviest_draws_come_with_their_weights():
    points = torch.arange(30_000.0)[:, None]
    chosen, weights = _heaviest(points, -points[:, 0])
    assert len(chosen) == 20_000
    assert torch.equal(chosen[:, 0], -weights)
    assert float(chosen.max()) == 19_999


@pytest.mark.parametrize(
    ("ess", "shape", "drawn"), [(0.5, 0.2, True), (0.5, 0.6, True), (0.5, 0.8, False),
                                (0.01, 0.6, False)],
)  # fmt: skip
def test_a_fit_of_doubtful_variance_is_judged_by_the_run(ess, shape, drawn, generator):
    target, mixture = LogDensity(bell, 3, 2.0), gaussian(1.0)
    judged = Judgement(ess, shape)
    fitted = Fitted(mixture, judged, judged.suffices(0.05), None, 0)
    run, reason, spent = draw_if_it_will_do(
        target, fitted, 4, 1000, 0.05, generator=generator, monitor=SILENT
    )
    assert (run is not None) == drawn
    assert spent == (4000 if drawn else 0)
    assert ("that suffices" in reason) == drawn
    # what is told is how the run was judged where the fit alone was in doubt
    assert (f"{shape:.2f}" in reason) == (shape != 0.6 or ess == 0.01)


def test_a_doubtful_fit_whose_draws_are_no_better_gives_nothing(generator):
    def heavy(x):
        return -torch.log1p(x.square()).sum(-1) - x.shape[-1] * math.log(math.pi)

    target, mixture = LogDensity(heavy, 8, 1.0), gaussian(0.5, 8)
    fitted = Fitted(mixture, Judgement(0.5, 0.6), False, None, 0)
    run, reason, spent = draw_if_it_will_do(
        target, fitted, 2, 400, 0.05, generator=generator, monitor=SILENT
    )
    assert run is None
    assert spent >= 800
    assert "suffices" not in reason


@pytest.mark.slow
def test_a_funnel_is_sampled_without_few_draws():
    for seed in (300, 411):
        run = Automatic().run(Funnel(10), 8, 500, generator=torch.Generator().manual_seed(seed))
        if not run.num_resampled.any():
            assert least_ess(run) > ENOUGH / 2
            assert judge_weights(run.log_weights.flatten()).shape < 0.7
        one = run.evidence()
        assert abs(one.log_normalizer) < 3 * (one.upper - one.lower) / 2 + 0.02
