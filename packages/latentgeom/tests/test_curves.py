import math

import pytest
import torch

from latentgeom.relaxation import curves


def circle(num_segments, start=0.3, angle=2.0):
    t = start + angle * torch.linspace(0, 1, num_segments + 1)
    return torch.stack([t.cos(), t.sin()], -1)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_derivatives_are_exact_for_polynomials(order):
    t = torch.linspace(0, 1, 13).unsqueeze(-1)
    derivative = curves.first_derivative(t**order, order)
    torch.testing.assert_close(derivative, order * t ** (order - 1), rtol=1e-9, atol=1e-9)
    second = curves.second_difference(t ** (order + 1), order) * 12**2
    expected = order * (order + 1) * t[1:-1] ** (order - 1)
    if order > 2:
        torch.testing.assert_close(second, expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("order", [4, 6])
def test_length_converges_at_its_order(order):
    errors = [abs(curves.smooth_length(circle(n), order).item() - 2.0) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) > order - 0.5


def test_polygon_length_and_energy_of_a_circle():
    assert curves.chord_length(circle(10)).item() == pytest.approx(20 * math.sin(0.1))
    assert curves.energy(circle(10)).item() == pytest.approx(20 * math.sin(0.1) ** 2)


def test_prolongation_keeps_nodes_and_is_exact_for_parabolas():
    t = torch.linspace(0, 1, 9).unsqueeze(-1)
    finer = curves.prolong(t**2)
    torch.testing.assert_close(finer, torch.linspace(0, 1, 17).unsqueeze(-1) ** 2)
    assert torch.equal(curves.prolong(circle(8))[::2], circle(8))


def test_resampling_a_line_gives_the_line():
    line = torch.linspace(0, 1, 7).unsqueeze(-1)
    torch.testing.assert_close(curves.resample(line, 16), torch.linspace(0, 1, 17).unsqueeze(-1))
