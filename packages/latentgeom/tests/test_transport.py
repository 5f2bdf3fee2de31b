import math

import pytest
import torch

from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.pairs.transport import pole_ladder
from latentgeom.pullback.pullback import ellipsoid
from latentgeom.solvers.solver import Solver


@pytest.mark.parametrize("k", [1.0, -1.0, 0.0])
def test_one_rung_is_exact_on_symmetric_spaces(generator, k):
    metric = ConstantCurvature(3, k)
    a, b, v = torch.randn(3, 40, 3, generator=generator) / 3
    found = pole_ladder(metric, a, b, v)
    torch.testing.assert_close(found, metric.transp(a, b, v), rtol=1e-9, atol=1e-9)


def test_more_rungs_converge_to_the_equation_of_transport(generator):
    metric = ellipsoid([1.0, 1.3, 0.7], Solver(tolerance=1e-6))
    a, b, v = torch.randn(3, 2, 2, generator=generator) * 0.4
    exact = metric.transp(a, b, v)
    errors = [
        (pole_ladder(metric, a, b, v, num_rungs=n, shrink=0.1) - exact).norm(dim=-1).mean().item()
        for n in (1, 2)
    ]
    assert errors[1] < 1e-2
    assert math.log2(errors[0] / errors[1]) > 1.5


def test_impossible_ladders_are_refused():
    a = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="num_rungs must be at least 1, got 0"):
        pole_ladder(ConstantCurvature(2, 1.0), a, a, a, num_rungs=0)
    with pytest.raises(ValueError, match="shrink must be positive"):
        pole_ladder(ConstantCurvature(2, 1.0), a, a, a, shrink=0.0)
