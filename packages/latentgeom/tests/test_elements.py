import math

import pytest
import torch

from latentgeom.relaxation.elements import chords, lobatto, resampled


def helix(times, turn=3.0):
    angle = turn * times
    return torch.stack([angle.cos(), angle.sin(), times.exp()], -1)[None]


def exact_energy(turn=3.0):
    return (turn**2 + (math.e**2 - 1) / 2) / 2


@pytest.mark.parametrize("grid", [chords(12, 4), chords(8, 1), lobatto(12, 4), lobatto(8, 2)])
def test_force_is_the_gradient_of_the_energy(generator, grid):
    x = torch.randn(3, len(grid.times), 5, generator=generator, requires_grad=True)
    (gradient,) = torch.autograd.grad(grid.energy(x).sum(), x)
    torch.testing.assert_close(gradient[:, 1:-1], grid.force(x))


def test_chords_measure_the_polygon():
    grid = chords(6, 3)
    x = helix(grid.times)
    torch.testing.assert_close(grid.energy(x), 3 * x.diff(dim=1).square().sum((1, 2)))


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 8])
def test_polynomials_of_their_degree_are_exact(degree):
    grid = lobatto(4 * degree, degree)
    x = (grid.times**degree)[None, :, None]
    exact = degree**2 / (2 * degree - 1) / 2
    assert grid.energy(x).item() == pytest.approx(exact, rel=1e-12)
    times = torch.linspace(0, 1, 29)
    torch.testing.assert_close(resampled(grid, x, times)[0, :, 0], times**degree)


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_energy_of_a_curve_converges_at_twice_the_degree_less_two_or_better(degree):
    errors = []
    for count in (4, 8):
        grid = lobatto(count * degree, degree)
        errors.append(abs(grid.energy(helix(grid.times)).item() - exact_energy()))
    assert math.log2(errors[0] / errors[1]) > 2 * degree - 0.5


def test_truncated_modes_bound_the_error_of_smooth_curves():
    for degree in (4, 8):
        grid = lobatto(2 * degree, degree)
        x = helix(grid.times)
        assert grid.truncation(x).item() > abs(grid.energy(x).item() - exact_energy())


@pytest.mark.parametrize("grid", [chords(16, 8), chords(3, 3), lobatto(16, 8)])
def test_curves_are_read_at_other_times(grid):
    times = torch.linspace(0, 1, 33)
    cubic = (grid.times**3 - grid.times)[None, :, None]
    torch.testing.assert_close(resampled(grid, cubic, times)[0, :, 0], times**3 - times)
    torch.testing.assert_close(resampled(grid, cubic, grid.times), cubic)
