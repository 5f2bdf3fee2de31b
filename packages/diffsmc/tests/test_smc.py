import pytest
import torch

from diffsmc import LogDensity, NonFiniteLogDensityError, SkewedGaussian, correlated_gaussian
from diffsmc.paths.diffusion import DiffusionPath
from diffsmc.paths.tempered import TemperedPath
from diffsmc.potentials.monte_carlo import MonteCarloPotential
from diffsmc.references.gaussian import Whitened, isotropic
from diffsmc.smc import resampling
from diffsmc.smc.engine import Settings, freeze, smc, start, total_log_normalizer
from diffsmc.smc.moves import HMC, MALA, PCN, RWM, ULA
from diffsmc.smc.schedules import (
    AdaptiveSchedule,
    FixedSchedule,
    cosine_variances,
    geometric_levels,
)

LEVELS = geometric_levels(5, 0.05).tolist()


def run(path, schedule, settings, islands, particles, *, seed=0, plan=None):
    generator = torch.Generator().manual_seed(seed)
    return list(smc(path, schedule, settings, islands, particles, plan=plan, generator=generator))


def ratio_score(target, state):
    """z-score of mean(Z_hat / Z) - 1 over islands."""
    ratio = torch.exp(total_log_normalizer(state) - target.log_normalizer)
    return float((ratio.mean() - 1) / (ratio.std() / len(ratio) ** 0.5))


def frozen_score(target, path, levels, settings):
    schedule = FixedSchedule(levels)
    plan = freeze([info for _, info in run(path, schedule, settings, 40, 64)])
    state = run(path, schedule, settings, 1000, 64, seed=1, plan=plan)[-1][0]
    return ratio_score(target, state)


@pytest.mark.parametrize(
    "move", [HMC(3), MALA(), RWM(), PCN(), ULA()], ids=lambda m: type(m).__name__
)
def test_tempered_evidence_is_unbiased(move):
    target = correlated_gaussian(3)
    path = TemperedPath(target, isotropic(3, 1.5))
    assert abs(frozen_score(target, path, LEVELS, Settings(move, ess_threshold=0.7))) < 3


@pytest.mark.parametrize(
    "move", [HMC(3), MALA(), RWM(), PCN(), ULA()], ids=lambda m: type(m).__name__
)
def test_evidence_in_single_precision_is_unbiased(move):
    target = correlated_gaussian(3)
    path = TemperedPath(target, isotropic(3, 1.5), single=True)
    cloud = path.start(1, 8, generator=torch.Generator().manual_seed(0))
    assert (cloud.particles.dtype, cloud.tilt.dtype) == (torch.float32, torch.float64)
    assert target.mean.dtype == torch.float64
    assert abs(frozen_score(target, path, LEVELS, Settings(move, ess_threshold=0.7))) < 3


@pytest.mark.parametrize(
    "scheme",
    [resampling.multinomial, resampling.stratified, resampling.residual, resampling.ssp],
)
def test_evidence_is_unbiased_with_every_resampling(scheme):
    target = SkewedGaussian(1)
    path = TemperedPath(target, isotropic(1, 1.5))
    assert abs(frozen_score(target, path, LEVELS, Settings(MALA(), resample=scheme))) < 3


@pytest.mark.parametrize("num_moves", [0, 1])
def test_diffusion_evidence_is_unbiased(num_moves):
    target = correlated_gaussian(2)
    white = Whitened(target, isotropic(2, 1.4))
    potential = MonteCarloPotential(16).bind(white, generator=torch.Generator().manual_seed(3))
    path = DiffusionPath(potential, 2, white.mean)
    levels = (1 - cosine_variances(12)).tolist()
    settings = Settings(MALA(), num_moves, ess_threshold=0.5)
    assert abs(frozen_score(target, path, levels, settings)) < 3


def test_tempered_particles_follow_the_target():
    target = correlated_gaussian(3)
    path = TemperedPath(target, isotropic(3, 1.5))
    state = run(path, FixedSchedule(LEVELS), Settings(HMC(5), 2), 40, 500)[-1][0]
    means = state.cloud.particles.mean(1)
    error = means.std(0) / 40**0.5
    assert ((means.mean(0) - target.mean) / error).abs().max() < 4
    variances = state.cloud.particles.var(1)
    expected = torch.linalg.inv(target.precision).diagonal()
    assert ((variances.mean(0) - expected) / (variances.std(0) / 40**0.5)).abs().max() < 4


def test_the_adaptive_schedule_keeps_the_conditional_ess():
    target = correlated_gaussian(3)
    path = TemperedPath(target, isotropic(3, 3.0))
    history = [info for _, info in run(path, AdaptiveSchedule(0.8), Settings(), 4, 500)]
    for info in history[:-1]:
        assert info.conditional_ess.mean().item() == pytest.approx(0.8, abs=1e-3)
    assert history[-1].level == 1


def test_islands_are_independent_of_how_many_there_are():
    # systematic resampling draws one number an island: the first island's stream differs,
    # so equality is of laws; here the deterministic part, without any resampling or move.
    target = SkewedGaussian(2)
    path = TemperedPath(target, isotropic(2, 1.5))
    settings = Settings(num_moves=0, ess_threshold=0.0)
    state = run(path, FixedSchedule([0.0, 0.5, 1.0]), settings, 3, 50)[-1][0]
    expected = state.cloud.tilt.logsumexp(-1) - torch.tensor(50.0).double().log()
    torch.testing.assert_close(total_log_normalizer(state), expected)


def test_a_frozen_run_does_not_adapt():
    target = correlated_gaussian(2)
    path = TemperedPath(target, isotropic(2, 2.0))
    plan = freeze([info for _, info in run(path, AdaptiveSchedule(0.8), Settings(), 4, 200)])
    again = [info for _, info in run(path, AdaptiveSchedule(0.8), Settings(), 6, 100, plan=plan)]
    assert [0.0, *(info.level for info in again)] == plan.levels
    for info, step, mass in zip(again, plan.step_sizes, plan.masses, strict=True):
        assert torch.equal(info.step_size, step.expand(6))
        assert torch.equal(info.mass.factor, mass.factor)


def test_first_ancestors_are_counted():
    target = correlated_gaussian(2)
    path = TemperedPath(target, isotropic(2, 3.0))
    state, info = run(path, AdaptiveSchedule(0.5), Settings(), 3, 100)[-1]
    for row, families in zip(state.eves, info.families, strict=True):
        assert len(row.unique()) == families
    assert (state.num_resampled > 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_non_finite_density_is_a_typed_error(value):
    half = LogDensity(lambda x: torch.where(x[..., 0] > 0, value, -0.5 * x.square().sum(-1)), 2)
    path = TemperedPath(half, isotropic(2, 1.0))
    with pytest.raises(NonFiniteLogDensityError, match="step 0, island 0, particle") as caught:
        start(path, Settings(RWM()), 2, 10, generator=torch.Generator().manual_seed(0))
    assert caught.value.point[0] > 0
    assert caught.value.step == 0


def test_a_density_that_turns_nan_is_found_in_a_move():
    # NaN only in a corner that the start misses and moves reach
    def density(x):
        inside = -0.5 * (x - 2).square().sum(-1)
        return torch.where(x[..., 0] > 2.5, torch.nan, inside)

    path = TemperedPath(LogDensity(density, 1), isotropic(1, 0.3))
    with pytest.raises(NonFiniteLogDensityError, match="got nan at step"):
        run(path, AdaptiveSchedule(0.9), Settings(RWM(), 5), 2, 200)


def test_zero_density_outside_a_support_gives_its_mass():
    # half of a standard Gaussian, -inf elsewhere: Z = 1/2
    half = LogDensity(
        lambda x: torch.where(
            x[..., 0] > 0, -0.5 * x.square().sum(-1) - 0.918938533204673, -torch.inf
        ),
        1,
        log_normalizer=-0.6931471805599453,
    )
    path = TemperedPath(half, isotropic(1, 1.5))
    assert abs(frozen_score(half, path, LEVELS, Settings(RWM()))) < 3


@pytest.mark.parametrize("move", [HMC(2), RWM(), ULA()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("scheme", [resampling.systematic, resampling.stratified])
def test_waste_free_evidence_is_unbiased(move, scheme):
    target = correlated_gaussian(3)
    path = TemperedPath(target, isotropic(3, 1.5))
    settings = Settings(move, resample=scheme, chain_length=8)
    assert abs(frozen_score(target, path, LEVELS, settings)) < 3


def test_waste_free_chains_keep_all_their_states(generator):
    path = TemperedPath(correlated_gaussian(2), isotropic(2, 1.5))
    state = run(path, FixedSchedule([0.0, 1.0]), Settings(RWM(), chain_length=5), 3, 40)[-1][0]
    assert state.cloud.particles.shape == (3, 40, 2)
    # eight chains of five states, each from one ancestor
    starts = state.eves.reshape(3, 5, 8)
    assert (starts == starts[:, :1]).all()
    with pytest.raises(ValueError, match="must be a multiple of chain_length, got 41 and 5"):
        start(path, Settings(chain_length=5), 1, 41, generator=generator)


def test_bad_sizes_and_levels_are_refused(generator):
    path = TemperedPath(correlated_gaussian(2), isotropic(2, 1.0))
    with pytest.raises(ValueError, match="need 1 island and 2 particles"):
        start(path, Settings(), 1, 1, generator=generator)
    with pytest.raises(ValueError, match="levels must rise from 0 to 1"):
        FixedSchedule([0.0, 0.5])
    with pytest.raises(ValueError, match="target_ess must be between 0 and 1"):
        AdaptiveSchedule(1.0)
