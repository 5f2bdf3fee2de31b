"""No confident wrong answer: improper densities, missed modes, heavy tails, far starts."""

import math
from dataclasses import replace

import arviz as az
import pytest
import torch
from test_methods import Counted

import diffsmc
from diffsmc import (
    HMC,
    Automatic,
    Diffusion,
    FailedRunError,
    Funnel,
    Gaussian,
    GaussianMixture,
    ImproperTargetError,
    LogDensity,
    ManyWell,
    ReferenceMixture,
    Tempering,
    two_modes,
)
from diffsmc.methods.climbing import climb, find_hills, follow_up, scaled_starts
from diffsmc.methods.judgement import fit_hills, judge
from diffsmc.methods.looking import look_further
from diffsmc.methods.method import Monitor
from diffsmc.methods.seeing import Modes, Verdict, chance_of_seeing, pooled, unseen_basins
from diffsmc.methods.thrift import sample_thriftily
from diffsmc.paths.importance import ImportancePath, Proposal, draw_counts
from diffsmc.references.gaussian import isotropic
from diffsmc.references.mixture import Mixture, sample_component
from diffsmc.smc.schedules import bisect_level

DIAGONAL = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
IMPROPER = {
    "constant": (lambda x: 0 * x.sum(-1), 2),
    "flat in two of three": (lambda x: -0.5 * x[..., 0].square(), 3),
    "flat along a diagonal": (lambda x: -(x @ DIAGONAL).square(), 3),
    "half a line": (lambda x: torch.where(x[..., 0] > 0, -x[..., 1].square(), -torch.inf), 2),
    "growing": (lambda x: 0.1 * x.square().sum(-1), 2),
    "as 1/r": (lambda x: -0.5 * torch.log1p(x.square()).sum(-1), 1),
    "rising": (lambda x: x[..., 0] - x[..., 1].square(), 2),
}


@pytest.mark.parametrize("method", [Automatic(), Tempering(0.5, num_moves=1)], ids=["auto", "temp"])
@pytest.mark.parametrize("name", IMPROPER)
def test_improper_densities_get_no_evidence(name, method, generator):
    function, dim = IMPROPER[name]
    with pytest.raises((ImproperTargetError, FailedRunError), match="improper"):
        method.run(LogDensity(function, dim), 2, 100, generator=generator)


def test_a_flat_prior_of_a_positive_parameter_is_improper(generator):
    from torch.distributions import Normal, constraints

    space = {"mu": diffsmc.Parameter(), "tau": diffsmc.Parameter(constraints.positive)}
    target = diffsmc.Posterior(
        space,
        lambda p: Normal(0.0, 1e3).log_prob(p["mu"]) - p["tau"].log(),  # flat in log tau
        lambda p: Normal(0.0, 1.0).log_prob(p["mu"]),
    )
    with pytest.raises(ImproperTargetError, match="improper"):
        Automatic().run(target, 2, 50, generator=generator)


PROPER = {
    "Cauchy": (lambda x: -torch.log1p(x.square()).sum(-1), 3, 3 * math.log(math.pi)),
    "exponential": (lambda x: torch.where((x > 0).all(-1), -x.sum(-1), -torch.inf), 2, 0.0),
    "wide": (lambda x: -0.5 * (x / 1e4).square().sum(-1), 2, math.log(2 * math.pi * 1e8)),
}


@pytest.mark.parametrize("name", PROPER)
def test_proper_densities_are_not_taken_for_improper(name, generator):
    function, dim, truth = PROPER[name]
    one = Automatic().run(LogDensity(function, dim), 8, 300, generator=generator).evidence()
    assert abs(one.log_normalizer - truth) < 4 * one.standard_error + 0.01


def test_draws_look_independent_to_arviz():
    """Strata would stand one after the other: r_hat 1.7 on a run that is right."""
    result = diffsmc.sample(two_modes(2), num_particles=300, num_islands=4, progress=False)
    data = result.to_inference_data()
    summary = az.summary(data, var_names=["x"])
    assert float(summary["r_hat"].max()) <= 1.01
    values = torch.as_tensor(data["posterior"]["x"].values)
    order = torch.rand(values.shape[:2], generator=torch.Generator().manual_seed(1)).argsort(1)
    shuffled = values.gather(1, order[..., None].expand_as(values)).numpy()
    ideal = float(az.ess(az.convert_to_dataset({"x": shuffled}))["x"].min())
    assert float(az.ess(data["posterior"])["x"].min()) > 0.9 * ideal


def test_a_result_prints_what_matters():
    result = diffsmc.sample(two_modes(10), num_particles=100, num_islands=4, progress=False)
    for text in (str(result), repr(result)):
        assert "log Z = " in text
        assert "given the modes found" in text
        assert "path: " in text
        assert "evaluations" in text
        assert "tensor(" not in text
        assert text.count("warning: ") == len(result.diagnose())
    assert result.evidence().islands == 4


def test_a_hidden_mode_is_warned_of():
    """90 % of the mass in a mode a fifth as wide, in eight dimensions: nothing can find it."""
    target = GaussianMixture([[-2.0] * 8, [2.0] * 8], [1.0, 0.2], [0.1, 0.9], 3.0)
    result = diffsmc.sample(target, num_particles=100, progress=False)
    assert result.evidence().upper < -1  # wrong, and
    assert any("one mode" in line or "1 mode" in line for line in result.diagnose())


def test_power_grows_with_the_looks_and_is_one_where_no_mode_can_hide(generator):
    target = LogDensity(lambda x: -0.5 * x.square().sum(-1), 6, 3.0)
    one = Mixture(*(t[None] for t in (torch.ones(()).double(), *isotropic(6, 1.0))))

    def power(num, target=target):
        starts = scaled_starts(target, num, generator=torch.Generator().manual_seed(0))
        return chance_of_seeing(
            target, one, starts, generator=torch.Generator().manual_seed(1), num_imagined=400
        )

    few, many = power(20), power(5000)
    assert few < many - 0.1
    assert power(20, LogDensity(target.function, 6, 3.0, log_concave=True)) == 1.0


def test_the_bound_on_unseen_basins_is_poissons():
    found = torch.tensor([99.0, 1.0])
    # P(N <= 1) = .05 at a mean of 4.744
    assert unseen_basins(found) == pytest.approx(4.744 / 100, rel=1e-3)
    assert unseen_basins(torch.tensor([100.0])) == pytest.approx(2.996 / 100, rel=1e-3)


def warned(verdict):
    return [line for line in verdict.notes() if line.startswith("warning")]


def test_a_verdict_warns_of_what_can_be_an_error_larger_than_the_interval():
    rare, single = torch.tensor([99.0, 1.0]), torch.tensor([100.0])
    # one start alone found a mode: that matters if such modes hold more mass than the half-width
    assert "found by few starts" in warned(Verdict(rare, 1.0, unsure=1.2))[0]
    assert not warned(Verdict(rare, 1.0, unsure=0.8))
    assert warned(Verdict(rare, 1.0, unsure=math.nan))
    assert not warned(Verdict(torch.tensor([60.0, 40.0]), 0.1, unsure=5.0))
    # nine of ten second modes must be seen
    assert "1 mode found" in warned(Verdict(single, 0.89))[0]
    assert not warned(Verdict(single, 0.91))
    assert "16 starts say little" in warned(Verdict(torch.tensor([16.0]), 0.95))[0]


def test_a_verdict_prints_its_bounds():
    (line,) = Verdict(torch.tensor([60.0, 40.0]), 0.43).notes()
    assert "100 starts found 2 modes" in line
    assert "at most 3.0% of the starts (95 %)" in line
    assert "5 times narrower would have been seen with 43%" in line
    assert "conditional on the modes found" in line


def test_the_masses_of_modes_are_those_of_their_particles(generator):
    """Three Gaussians of two modes: the last two are one."""
    target = GaussianMixture([[-6.0, 0.0], [6.0, 0.0], [6.0, 1.0]], [1.0] * 3, [0.7, 0.2, 0.1])
    run = diffsmc.ReferenceMixture().run(target, 2, 500, generator=generator)
    eye = torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    found = torch.tensor([50.0, 50.0], dtype=torch.float64)
    modes = Modes(target.means, eye, torch.tensor([0, 1, 1]), found)
    assert modes.shares(run).tolist() == pytest.approx([0.7, 0.3], abs=0.03)


def test_pooled_pieces_have_mean_and_covariance_of_the_mixture(generator):
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0], [4.0, -1.0]], dtype=torch.float64)
    mixture = Mixture(weights, means, 0.5 * torch.eye(2, dtype=torch.float64).repeat(2, 1, 1))
    one = pooled(mixture)
    labels = torch.multinomial(weights, 200_000, replacement=True, generator=generator)
    x = sample_component(mixture, labels, generator=generator)
    torch.testing.assert_close(one.means[0], x.mean(0), rtol=0, atol=0.03)
    covariance = one.factors[0] @ one.factors[0].T
    torch.testing.assert_close(covariance, x.T.cov(), rtol=0.02, atol=0.02)


def test_looks_find_a_needle_that_climbs_miss():
    """A fifth as wide, in seven dimensions, with a third of the mass."""
    centre = [1.2] * 7
    target = GaussianMixture([[0.0] * 7, centre], [1.0, 0.2], [0.67, 0.33], 1.5)
    found = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        hills = find_hills(target, generator=generator)
        fitted = fit_hills(target, hills, 0.05, generator=generator)
        if fitted is None:
            continue  # a mode that one start found is evidence of others
        climbed = len(fitted.hills.modes)
        seen = look_further(target, fitted.hills, fitted, generator=generator)
        assert seen.num_evaluations - fitted.hills.num_evaluations >= len(seen.looks)
        found.append((climbed, len(seen.modes)))
    missed = [looked for climbed, looked in found if climbed == 1]
    assert len(missed) >= 2
    assert missed.count(2) >= 0.5 * len(missed)


def test_no_look_is_wasted_where_no_second_mode_can_hide():
    target = Gaussian([0.0] * 7, scale=3.0)
    hills = find_hills(target, generator=torch.Generator().manual_seed(0))
    fitted = fit_hills(target, hills, 0.05, generator=torch.Generator().manual_seed(1))
    same = look_further(target, hills, fitted, generator=torch.Generator().manual_seed(2))
    assert target.log_concave
    assert len(same.looks) == 0
    assert same.num_evaluations == hills.num_evaluations


def test_an_end_that_still_rises_is_no_summit(generator):
    """Climbs get stuck on the curved ridge of a banana, whose one mode is at (0, -1)."""
    target = LogDensity(
        lambda x: -0.5 * x[..., 0].square() - 0.5 * (x[..., 1] - x[..., 0].square() + 1).square(),
        2, 3.0,
    )  # fmt: skip
    hills = find_hills(target, generator=generator, num_starts=512)
    assert len(hills.modes) == 1
    torch.testing.assert_close(
        hills.modes[0], torch.tensor([0.0, -1.0]).double(), atol=1e-4, rtol=0
    )


def test_climbs_end_on_all_modes(generator):
    well = ManyWell(4)
    hills = find_hills(well, generator=generator)
    assert len(hills.modes) == 4
    assert float(hills.found.sum()) == len(hills.starts)
    grad = well.score(hills.modes)
    assert float(grad.abs().max()) < 1e-3
    # the curvature of a pair (u, v): 12 u^2 - 12, and 1
    u = hills.modes[:, ::2]
    torch.testing.assert_close(
        hills.factors.diagonal(dim1=-2, dim2=-1)[:, ::2], (12 * u.square() - 12).rsqrt(),
        rtol=1e-3, atol=0.0,
    )  # fmt: skip


def test_climbs_take_any_scales(generator):
    sizes = 10 ** torch.linspace(-6, 6, 7, dtype=torch.float64)
    target = Gaussian([0.0] * 7, torch.diag(sizes.square()).tolist())
    hills = find_hills(target, generator=generator)
    assert len(hills.modes) == 1
    torch.testing.assert_close(hills.factors[0].diagonal(), sizes, rtol=1e-6, atol=0.0)


def test_a_climb_never_ends_on_a_ridge(generator):
    flat = LogDensity(lambda x: -x[..., 0].square(), 2)
    hills = find_hills(flat, generator=generator, num_starts=16)
    assert len(hills.modes) == 0
    assert hills.lost == len(hills.starts)


def test_followed_points_are_no_random_starts(generator):
    target = two_modes(2)
    starts = torch.full((8, 2), -3.0, dtype=torch.float64)
    ends, ended, spent = climb(target, starts)
    assert bool(ended.all())
    assert spent >= 8
    hills = find_hills(target, generator=generator)
    more = follow_up(target, hills, ends)
    assert torch.equal(more.starts, hills.starts)
    assert torch.equal(more.found, hills.found)


@pytest.mark.parametrize("weights", [[1.0], [0.7, 0.3], [0.97, 0.02, 0.01]])
def test_draws_follow_weights_half_and_half(weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    counts = draw_counts(weights, 3000)
    assert int(counts.sum()) == 3000
    expected = 3000 * (0.5 * weights + 0.5 / len(weights))
    assert bool(((counts - expected).abs() <= 2).all())


def test_the_proposal_is_a_density(generator):
    """Its integral over a grid is 1, whatever the shares of Student and wide draws."""
    mixture = Mixture(
        torch.tensor([0.6, 0.4]).double(),
        torch.tensor([[-1.0], [2.0]]).double(),
        torch.tensor([[[0.5]], [[0.2]]]).double(),
    )
    path = ImportancePath(
        LogDensity(lambda x: -x.square().sum(-1), 1), Proposal(mixture, isotropic(1, 4.0))
    )
    labels, student = path.labels(1000)
    grid = torch.linspace(-4000, 4000, 4_000_001, dtype=torch.float64)[:, None]
    values = path.log_density(grid, labels, student)
    assert float(torch.trapezoid(values.exp(), grid[:, 0])) == pytest.approx(1.0, abs=1e-5)
    assert 0.15 < float(student.double().mean()) < 0.2


def test_importance_sampling_is_defended_against_tails(generator):
    """A Student target with the Gaussian of its core: k below 1/2, sd within 10 %."""
    student = diffsmc.StudentMixture([[0.0] * 3], [1.0], [1.0], freedom=4.0, scale=3.0)
    core = Mixture(*(t[None] for t in (torch.ones(()).double(), *isotropic(3, 1.0))))
    judged, _ = judge(student, core, 4000, generator=generator)
    assert judged.shape < 0.5
    result = Automatic().run(student, 8, 1000, generator=generator)
    weights = result.log_weights.softmax(-1)[..., None] / 8
    sd = float((weights * result.particles.square()).sum((0, 1)).mean().sqrt())
    assert sd / math.sqrt(2) == pytest.approx(1.0, abs=0.1)


def test_a_first_level_is_as_small_as_it_must_be():
    """Log-densities that spread over 1e12: the level is 1e-12, and its ESS what was asked for."""
    tilt = -1e12 * torch.rand(4, 500, generator=torch.Generator().manual_seed(0)).double()
    level = bisect_level(torch.zeros_like(tilt), tilt, 0.0, 0.9)
    assert 1e-14 < level < 1e-11
    weights = (level * tilt).softmax(-1)
    ess = 1 / weights.square().sum(-1) / 500
    assert float(ess.mean()) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    "method",
    [Automatic(), pytest.param(Tempering(0.5, move=HMC(3), num_moves=1), marks=pytest.mark.slow)],
    ids=["automatic", "tempering"],
)
def test_a_far_target_is_right_or_refused(method, generator):
    """Sixty thousand widths away: never -3e5 with an interval."""
    far = LogDensity(lambda x: -0.5 * ((x - 600.0) / 0.01).square().sum(-1), 2)
    truth = math.log(2 * math.pi) + 2 * math.log(0.01)
    try:
        one = method.run(far, 3, 60, generator=generator).evidence()
    except FailedRunError:
        return
    assert math.isnan(one.lower) or abs(one.log_normalizer - truth) < 0.1


def test_a_step_that_loses_nearly_all_is_refused():
    from diffsmc.smc.validity import check_ess

    with pytest.raises(FailedRunError, match=r"conditional ESS of 0.50%"):
        check_ess(torch.tensor([0.004, 0.006]), 0.1, 0.2, 0.01)
    check_ess(torch.tensor([0.03, 0.02]), 0.1, 0.2, 0.01)


def test_levels_without_end_are_refused(generator):
    with pytest.raises(FailedRunError, match="after 3 steps"):
        Tempering(0.9, max_levels=3).run(two_modes(3), 2, 100, generator=generator)
    bridge = ReferenceMixture(importance_ess=1.0, max_levels=1, target_ess=0.99)
    with pytest.raises(FailedRunError, match="after 1 steps"):
        bridge.run(Funnel(6), 2, 100, generator=generator)


CUBE = LogDensity(lambda x: torch.where((x.abs() < 1).all(-1), 0.0, -torch.inf).double(), 2)


@pytest.mark.parametrize("budget", [200, 700, 3000, 25_000])
@pytest.mark.parametrize(
    "target",
    [two_modes(2), Funnel(10), CUBE, ManyWell(8)],
    ids=["modes", "funnel", "cube", "wells"],
)
def test_no_evaluation_goes_beyond_the_budget(target, budget, generator):
    """Whatever path the budget allows; all evaluations are counted, those of the checks too."""
    counted = Counted(target)
    result = Automatic(budget=budget).run(counted, 4, 1000, generator=generator)
    assert result.num_evaluations == counted.count
    assert 0.8 * budget <= counted.count <= budget
    assert result.evidence().islands == 4


def test_a_bridge_that_would_exceed_the_budget_gives_way(generator):
    """Four particles a stratum, and levels without end: importance sampling with the rest."""
    counted = Counted(Funnel(6))
    method = replace(ReferenceMixture(), importance_ess=1.0, target_ess=0.999)
    result = sample_thriftily(
        method, counted, None, 2, 1000, 60_000, generator=generator, monitor=Monitor()
    )
    assert result.path == "importance sampling"
    assert 50_000 < counted.count <= 60_000
    assert result.num_evaluations == counted.count


@pytest.mark.parametrize("budget", [1000, 10_000])
@pytest.mark.parametrize("name", ["two", "well", "gmm"])
def test_a_budget_is_kept_and_the_answer_is_near(name, budget, generator):
    target = {"two": two_modes(2), "well": ManyWell(4), "gmm": diffsmc.gmm40()}[name]
    result = Automatic(budget=budget).run(target, 4, 1000, generator=generator)
    assert result.num_evaluations <= budget
    one = result.evidence()
    slack = {1000: 1.0, 10_000: 0.05}[budget]
    error = abs(one.log_normalizer - target.log_normalizer)
    assert error < slack or result.diagnose()


def test_max_evaluations_is_a_limit(generator):
    with pytest.raises(FailedRunError, match="1000 evaluations"):
        Tempering().run(two_modes(2), 4, 100, generator=generator, max_evaluations=1000)


def test_evaluations_of_the_default_are_counted(generator):
    class Counted(diffsmc.Target):
        def __init__(self):
            super().__init__(3, scale=2.0)
            self.count = 0
            self.inner = diffsmc.SkewedGaussian(3, 5.0)

        def log_prob(self, x):
            self.count += x[..., 0].numel()
            return self.inner.log_prob(x)

        def log_prob_and_grad(self, x):
            self.count += x[..., 0].numel()
            return self.inner.log_prob_and_grad(x)

    target = Counted()
    result = Automatic().run(target, 2, 100, generator=generator)
    assert result.num_evaluations == pytest.approx(target.count, rel=0.03)


SIZES = torch.tensor([1e-4, 1.0, 1e3], dtype=torch.float64)
PATHS = {
    "automatic": Automatic(),
    "tempering": Tempering(0.8, move=HMC(5)),
    "mixture": ReferenceMixture(importance_ess=1.0),
    "diffusion": Diffusion(num_steps=12),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dense", [False, True])
def test_every_path_takes_scales_by_coordinate_and_dense_starts(name, dense, generator):
    """Axes from 1e-4 to 1e3, 50 widths from the origin."""
    mix = torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [-0.5, 0.3, 1]], dtype=torch.float64)
    factor = torch.diag(SIZES) @ mix if dense else torch.diag(SIZES)
    centre = 50 * SIZES

    def density(x):
        unit = torch.linalg.solve_triangular(factor, (x - centre)[..., None], upper=False)
        return -0.5 * unit.square().sum((-1, -2))

    truth = 1.5 * math.log(2 * math.pi) + float(factor.diagonal().log().sum())
    scale = 2 * factor if dense else 2 * SIZES
    target = LogDensity(density, 3, scale, location=centre + SIZES)
    one = PATHS[name].run(target, 4, 300, generator=generator).evidence()
    assert one.standard_error < 0.2
    assert abs(one.log_normalizer - truth) < 4 * one.standard_error + 0.03


def test_waste_free_offsets_are_drawn_for_each_island():
    """Ancestors of islands with equal weights start at different places."""
    from diffsmc.paths.tempered import TemperedPath
    from diffsmc.smc.engine import Settings, start, step
    from diffsmc.smc.schedules import FixedSchedule

    path = TemperedPath(two_modes(2), isotropic(2, 1.0))
    settings = Settings(HMC(1), chain_length=10)
    generator = torch.Generator().manual_seed(0)
    state = start(path, settings, 50, 40, generator=generator)
    equal = state._replace(cloud=state.cloud._replace(tilt=torch.zeros_like(state.cloud.tilt)))
    new, _ = step(equal, path, FixedSchedule([0.0, 1e-9, 1.0]), settings, generator=generator)
    offsets = {int(row.min()) for row in new.eves}
    assert len(offsets) > 5


def test_resumed_runs_sum_their_seconds(tmp_path):
    from diffsmc.methods.resume import RunStore

    first = RunStore(tmp_path / "run", "{}", every_seconds=0.0)
    first.begin -= 8.5
    monitor = diffsmc.Monitor(store=first)
    generator = torch.Generator().manual_seed(0)
    Tempering(0.5, adapt_islands=None).run(
        two_modes(2), 2, 40, generator=generator, monitor=monitor
    )
    again = RunStore(tmp_path / "run", "{}")
    assert 8.5 < again.seconds < 60


def test_settings_without_numbers_are_json():
    import json

    from diffsmc.results.descriptions import to_json

    assert json.loads(to_json({"a": float("nan"), "b": [float("inf"), 1]})) == {
        "a": None, "b": [None, 1]
    }  # fmt: skip


def test_targets_are_told_apart_by_their_data():
    from diffsmc.results.descriptions import identify, to_json

    def make(data, scale=1.0):
        y = torch.tensor(data)
        return LogDensity(lambda x: -(x - y).square().sum(-1), 2, scale)

    same, wide, other = make([1.0, 2.0]), make([1.0, 2.0], 5.0), make([1.0, 3.0])
    assert to_json(identify(same)) == to_json(identify(wide))
    assert to_json(identify(same)) != to_json(identify(other))
    assert to_json(identify(Funnel(3, 2.0))) != to_json(identify(Funnel(3, 3.0)))


def test_mass_is_shrunk_to_its_diagonal():
    """Of fewer particles than dimensions the covariance is singular; shrunk by D/(ESS + D)."""
    from diffsmc.smc.adaptation import dense_mass

    particles = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0)).double()
    factor = dense_mass(particles, torch.zeros(1, 6).double()).factor[0]
    covariance = factor @ factor.T
    centred = particles[0] - particles[0].mean(0)
    sample = centred.T @ centred / 6
    off = ~torch.eye(12, dtype=torch.bool)
    torch.testing.assert_close(covariance[off], sample[off] * 6 / 18, rtol=1e-6, atol=1e-9)
    assert float(torch.linalg.eigvalsh(covariance)[0]) > 0.05


def test_antithetic_pairs_are_opposite():
    """Odd terms cancel: the potential of a linear log-ratio is symmetric in its noise."""
    bound = diffsmc.MonteCarloPotential(8).bind(
        diffsmc.SkewedGaussian(2, 1.0), generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(bound.noise.sum(0), torch.zeros(2).double())
    assert len(torch.unique(bound.noise, dim=0)) == 8
    ratio = diffsmc.MonteCarloRatio(8).bind(
        two_modes(2),
        Mixture(*(t[None] for t in (torch.ones(()).double(), *isotropic(2, 1.0)))),
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(ratio.noise.sum(0), torch.zeros(2).double())
    assert len(torch.unique(ratio.noise, dim=0)) == 8


def test_islands_that_disagree_give_no_interval():
    one = diffsmc.evidence(torch.tensor([0.0, -8.0, 3.0, -2.0], dtype=torch.float64))
    assert math.isnan(one.lower)
    assert "no interval: islands disagree" in str(one)


def test_the_bridge_can_be_asked_for(generator):
    method = replace(Automatic(), importance_ess=1.0)
    result = method.run(two_modes(2), 4, 200, generator=generator)
    assert result.path == "stratified bridge"
