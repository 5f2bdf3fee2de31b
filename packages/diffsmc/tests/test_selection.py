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
EXPECTED = {
    "one mode": (correlated_gaussian(3), "tempered", "found one mode of one width"),
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
