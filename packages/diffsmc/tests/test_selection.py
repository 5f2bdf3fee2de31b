import pytest

from diffsmc.estimators import evidence
from diffsmc.methods import Tempering
from diffsmc.reference_mixture import MixtureFit, ReferenceMixture
from diffsmc.selection import Automatic
from diffsmc.targets import Funnel, correlated_gaussian, two_modes

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
    assert abs(one.log_normalizer - target.log_normalizer) < 4 * one.standard_error + 0.05


def test_the_pilot_is_counted(generator):
    target = correlated_gaussian(3)
    chosen = METHOD.run(target, 2, 50, generator=generator)
    asked = METHOD.tempering.run(target, 2, 50, generator=generator)
    assert chosen.num_evaluations > asked.num_evaluations
    assert asked.reason == "asked for"
