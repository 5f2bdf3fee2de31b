import pytest
import torch

from diffsmc.smc.estimators import conditional_ess
from diffsmc.smc.schedules import (
    bisect_level,
    cosine_variances,
    geometric_levels,
    transition_variance,
)


def test_cosine_variances_fall_from_one_to_zero():
    variances = cosine_variances(20)
    assert variances[0] == 1
    assert variances[-1] == 0
    assert (variances.diff() < 0).all()


def test_transitions_compose_to_the_whole_diffusion():
    variances = cosine_variances(20)
    steps = transition_variance(variances[:-1], variances[1:])
    torch.testing.assert_close(1 - (1 - steps[3:]).prod(), variances[3])


def test_geometric_levels_have_equal_ratios():
    levels = geometric_levels(8, 0.01)
    ratios = levels[2:] / levels[1:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(7))
    assert levels[0] == 0
    assert levels[-1] == 1


def test_bisection_meets_the_conditional_ess(generator):
    tilt = 30 * torch.randn(4, 500, generator=generator, dtype=torch.float64)
    weights = torch.randn(4, 500, generator=generator, dtype=torch.float64)
    level = bisect_level(weights, tilt, 0.2, 0.9)
    got = conditional_ess(weights, (level - 0.2) * tilt).mean()
    assert got.item() == pytest.approx(0.9, abs=1e-4)


def test_an_easy_target_takes_one_step():
    assert bisect_level(torch.zeros(1, 10), torch.ones(1, 10), 0.0, 0.9) == 1


def test_an_impossible_ess_still_advances():
    tilt = torch.tensor([[0.0, -torch.inf, -torch.inf, -torch.inf]], dtype=torch.float64)
    assert bisect_level(torch.zeros_like(tilt), tilt, 0.0, 0.9) > 0


@pytest.mark.parametrize("steps", [0, -1])
def test_too_few_steps_are_refused(steps):
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        cosine_variances(steps)


def test_islands_without_weight_do_not_stop_the_search(generator):
    tilt = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    alone = bisect_level(torch.zeros(2, 200).double(), tilt[:2], 0.0, 0.7)
    tilt[2] = -torch.inf
    assert bisect_level(torch.zeros(3, 200).double(), tilt, 0.0, 0.7) == alone
    assert bisect_level(torch.zeros(1, 200).double(), tilt[2:], 0.0, 0.7) == 1.0
