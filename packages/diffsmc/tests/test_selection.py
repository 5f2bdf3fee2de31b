import math
from dataclasses import replace

import pytest
import torch

from diffsmc.estimators import evidence
from diffsmc.kernels import HMC
from diffsmc.methods import Tempering
from diffsmc.reference_mixture import MixtureFit, ReferenceMixture
from diffsmc.selection import Automatic
from diffsmc.targets import (
    Funnel,
    LogDensity,
    NonFiniteLogDensityError,
    correlated_gaussian,
    two_modes,
)

METHOD = Automatic(Tempering(0.7), ReferenceMixture(MixtureFit(num_chains=100), adapt_islands=None))


def skewed(x):
    """Log-density of Gumbel variables, normalised."""
    return -(x + (-x).exp()).sum(-1)


SKEWED = LogDensity(skewed, 3, scale=2.0, log_normalizer=0.0)
EXPECTED = {
    "one mode": (correlated_gaussian(3), "importance sampling", "found one mode of one width"),
    "two modes": (two_modes(2, 0.2), "importance sampling", "found 2 modes"),
    "funnel": (Funnel(8), "stratified bridge", "found one mode whose width varies"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_diagnostics_choose_the_path_and_say_why(name, generator):
    target, path, reason = EXPECTED[name]
    result = METHOD.run(target, 4, 400, generator=generator)
    assert result.path == path
    assert reason in result.reason
    one = evidence(result.log_normalizers)
    # the funnel is narrower than so few particles show
    slack = 0.25 if name == "funnel" else 0.02
    assert abs(one.log_normalizer - target.log_normalizer) < 4 * one.standard_error + slack


def test_one_mode_that_the_fit_misses_is_tempered(generator):
    method = replace(METHOD, gaussian_ess=0.99)
    result = method.run(SKEWED, 4, 400, generator=generator)
    assert result.path == "tempered"
    assert result.reason.endswith("tempering is needed")
    one = evidence(result.log_normalizers)
    assert abs(one.log_normalizer) < 4 * one.standard_error + 0.02


@pytest.mark.parametrize("method", ["automatic", "mixture", "tempering"])
@pytest.mark.parametrize("edge", [0.0, 4.0])
def test_a_half_space_of_nan_is_a_typed_error(method, edge, generator):
    """NaN beyond an edge: met at the start, or by moves alone; never a finite-looking answer."""

    def density(x):
        inside = -0.5 * (x - 3).square().sum(-1)
        return torch.where(x[..., 0] > edge, torch.nan, inside)

    target = LogDensity(density, 2, scale=0.8)
    methods = {"automatic": METHOD, "mixture": METHOD.mixture, "tempering": METHOD.tempering}
    with pytest.raises(NonFiniteLogDensityError, match="log-density is nan at step") as caught:
        methods[method].run(target, 2, 200, generator=generator)
    assert caught.value.point[0] > edge


def test_a_half_space_without_mass_gives_the_right_answer(generator):
    """-inf beyond an edge: half of a Gaussian."""
    normal = torch.distributions.Normal(0.0, 1.0)

    def density(x):
        return torch.where(x[..., 0] > 0, -torch.inf, normal.log_prob(x).sum(-1))

    for name in ("mixture", "tempering"):
        method = replace(getattr(METHOD, name), move=HMC(3))
        target = LogDensity(density, 2, scale=1.5)
        one = evidence(method.run(target, 8, 400, generator=generator).log_normalizers)
        assert abs(one.log_normalizer + math.log(2)) < 4 * one.standard_error + 0.01


def test_the_pilot_is_counted(generator):
    target = correlated_gaussian(3)
    chosen = METHOD.run(target, 2, 50, generator=generator)
    asked = METHOD.tempering.run(target, 2, 50, generator=generator)
    assert chosen.num_evaluations > asked.num_evaluations
    assert asked.reason == "asked for"


def test_importance_sampling_from_one_gaussian_is_unbiased(generator):
    """Given the fit, which other draws made: mean of Z over 4000 islands of 40 draws."""
    pilot = METHOD.mixture.reference.pool(
        SKEWED, METHOD.mixture.reference.pilot(SKEWED, generator=generator), generator=generator
    )
    fitted = METHOD.mixture.reference.fit(SKEWED, pilot, generator=generator)
    run = METHOD.mixture.sample_importance(SKEWED, fitted.mixture, 4000, 4, generator=generator)
    ratio = run.log_normalizers.exp()
    assert run.unbiased
    assert 0.01 < float(ratio.std()) < 0.5
    assert abs(float(ratio.mean()) - 1) < 3 * float(ratio.std()) / math.sqrt(4000)


def test_a_mode_that_chains_do_not_cross_is_pooled(generator):
    """In 40 dimensions each chain leads a cluster; one Gaussian knows the covariance."""
    target = correlated_gaussian(40)
    reference = MixtureFit(num_chains=60, revisit_chains=200, pool_moves=60)
    apart = replace(reference, pool_moves=None).pilot(target, generator=generator)
    assert int(apart.labels.max()) > 0
    pilot = reference.pilot(target, generator=generator)
    assert int(pilot.labels.max()) == 0
    fitted = reference.fit(target, pilot, generator=generator)
    judgement = METHOD.mixture.judge(target, fitted.mixture, generator=generator)
    assert judgement.ess > 0.3
    assert judgement.shape < 0.5
