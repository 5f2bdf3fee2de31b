import math

import pytest
import torch

from ardm_guidance.guidance.calibration import cross_entropy, inverse_temperature, reliability


def drawn(beta, number=200_000):
    """Labels that follow ``sigmoid(beta * logit)``."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(number, generator=generator, dtype=torch.float64)
    noise = torch.rand(number, generator=generator, dtype=torch.float64)
    return logits, (noise < torch.sigmoid(beta * logits)).long()


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_found(beta):
    logits, real = drawn(beta)
    found = inverse_temperature(logits, real)
    assert found == pytest.approx(beta, rel=0.03)
    best = cross_entropy(found * logits, real)
    for other in (0.97 * found, 1.03 * found):
        assert cross_entropy(other * logits, real) > best


def test_logits_worse_than_nothing_are_turned_off():
    logits, real = drawn(1.0, 5000)
    assert inverse_temperature(-logits, real) == 0.0


def test_knowing_nothing_costs_log_two():
    assert cross_entropy(torch.zeros(6), torch.tensor([0, 1, 1, 0, 1, 0])) == pytest.approx(
        math.log(2)
    )


def test_calibrated_logits_are_reliable_and_others_are_not():
    logits, real = drawn(1.0)
    assert reliability(logits, real).error < 0.005
    assert reliability(3 * logits, real).error > 0.05
    bins = reliability(logits, real)
    assert (bins.predicted.diff() > 0).all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        inverse_temperature(torch.tensor([torch.nan]), torch.tensor([1]))
    with pytest.raises(ValueError, match="at most the 3 objects"):
        reliability(torch.zeros(3), torch.zeros(3))
