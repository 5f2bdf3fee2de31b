import math
from dataclasses import replace

import pytest
import torch

from diffsmc import (
    BrownianMotion,
    Funnel,
    LinearRegression,
    LogDensity,
    LogisticRegression,
    NonFiniteLogDensityError,
    SkewedGaussian,
    correlated_gaussian,
    two_modes,
)
from diffsmc.methods.automatic import Automatic
from diffsmc.methods.mixture_fit import MixtureFit
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.tempering import Tempering
from diffsmc.smc.estimators import evidence
from diffsmc.smc.moves import HMC

METHOD = Automatic(Tempering(0.7), ReferenceMixture(MixtureFit(num_chains=100), adapt_islands=None))
TRIALS = LogisticRegression(
    [[1.0, 0.05 * i - 1] for i in range(40)], [i % 3 > 0 for i in range(40)]
)
EXPECTED = {
    "Gaussian": (correlated_gaussian(3), "importance sampling", "climbs found one mode"),
    "half-normal": (SkewedGaussian(20, 20.0), "tempered", "tempering is needed"),
    "two modes": (two_modes(2, 0.2), "importance sampling", "climbs found 2 modes"),
    "funnel": (Funnel(8), "importance sampling", "found one mode whose width varies"),
    "narrow funnel": (Funnel(20), "stratified bridge", "the bridge is needed"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_diagnostics_choose_the_path_and_say_why(name, generator):
    target, path, reason = EXPECTED[name]
    result = METHOD.run(target, 4, 400, generator=generator)
    assert result.path == path
    assert reason in result.reason
    one = evidence(result.log_normalizers)
    # the funnel is narrower than so few particles show
    slack = 0.25 if "funnel" in name else 0.02
    assert abs(one.log_normalizer - target.log_normalizer) < 4 * one.standard_error + slack


@pytest.mark.parametrize("method", ["automatic", "mixture", "tempering"])
@pytest.mark.parametrize("edge", [0.0, 4.0])
def test_a_half_space_of_nan_is_a_typed_error(method, edge, generator):
    """NaN beyond an edge: met at the start, or by moves alone; never an answer without a word."""

    def density(x):
        inside = -0.5 * (x - 3).square().sum(-1)
        return torch.where(x[..., 0] > edge, torch.nan, inside)

    target = LogDensity(density, 2, scale=0.8)
    methods = {"automatic": METHOD, "mixture": METHOD.mixture, "tempering": METHOD.tempering}
    told = outcome(methods[method], target, generator)
    if isinstance(told, NonFiniteLogDensityError):
        assert "density: got nan at step" in str(told)
        assert told.point[0] > edge
    else:
        assert edge == 4.0
        assert any("the log-density was NaN at" in line for line in told.diagnose())


def outcome(method, target, generator):
    try:
        return method.run(target, 2, 200, generator=generator)
    except NonFiniteLogDensityError as error:
        return error


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
    chosen = replace(METHOD, climb=False).run(target, 2, 50, generator=generator)
    asked = METHOD.tempering.run(target, 2, 50, generator=generator)
    assert chosen.num_evaluations > asked.num_evaluations
    assert asked.reason == "asked for"


@pytest.mark.parametrize("target", [correlated_gaussian(4), SkewedGaussian(3, 1.5), TRIALS])
def test_importance_sampling_from_the_fit_is_unbiased(target, generator):
    """The fit comes from a pilot, weights from draws of their own: z over 1000 islands."""
    method = Automatic(mixture=ReferenceMixture(MixtureFit(num_chains=100), importance_draws=1))
    result = method.run(target, 1000, 64, generator=generator)
    assert result.path == "importance sampling"
    assert result.unbiased
    truth = target.log_normalizer
    if truth is None:
        truth = float(grid_log_normalizer(target))
    ratio = torch.exp(result.log_normalizers - truth)
    assert abs(float((ratio.mean() - 1) / (ratio.std() / 1000**0.5))) < 3


def grid_log_normalizer(target):
    """Log Z in two dimensions by the trapezoidal rule, exact to rounding for smooth tails."""
    line = torch.linspace(-12, 12, 601, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    return target.log_prob(points).logsumexp(0) + 2 * math.log(24 / 600)


def test_a_regression_in_many_dimensions_takes_one_gaussian(generator):
    """61 dimensions: chains that are still apart are one mode. Log Z is known in closed form."""
    design = torch.randn(100, 61, generator=generator, dtype=torch.float64)
    response = design[:, 0] + 0.5 * torch.randn(100, generator=generator)
    target = LinearRegression(design, response, 0.5)
    assert target.dim == 61
    result = Automatic().run(target, 8, 500, generator=generator)
    assert result.path == "importance sampling"
    assert int(result.strata.max()) == 1  # the fit, and the wide share
    one = evidence(result.log_normalizers)
    assert one.standard_error < 0.02
    assert abs(one.log_normalizer - target.log_normalizer) < 4 * one.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("path", ["importance sampling", "tempered"])
def test_brownian_motion_of_unknown_noise_gets_its_evidence(path, generator):
    """Log Z by quadrature is 1.188. Its scales are funnels: moves must accept nine in ten."""
    target = BrownianMotion()
    careful = Tempering(0.95, move=HMC(5, target_acceptance=0.9), chain_length=50, adapt_islands=2)
    method = Automatic(careful, importance_ess=0.05 if path == "importance sampling" else 1.0)
    result = method.run(target, 4, 1000, generator=generator)
    assert result.path == path
    one = evidence(result.log_normalizers)
    assert abs(one.log_normalizer - target.log_normalizer) < 3 * one.standard_error + 0.05
    assert one.standard_error < 0.2
