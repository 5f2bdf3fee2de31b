import math

import pytest
import torch

from latentgeom.immersions.immersion import Chart
from latentgeom.relaxation import newton as relaxation
from latentgeom.relaxation.elements import chords
from latentgeom.relaxation.matrix_free import smallest_ritz_value, step
from latentgeom.solvers.boundary import geodesics, initial_curves


def curved(dim, generator):
    weight = torch.randn(dim, 2 * dim, generator=generator) / math.sqrt(dim)
    return Chart(lambda z: torch.cat([z, torch.sin(z @ weight)], -1), dim)


def stereographic(z):
    """The unit sphere of any dimension, without its north pole."""
    square = z.square().sum(-1, keepdim=True)
    return torch.cat([2 * z, square - 1], -1) / (square + 1)


def ends(dim, generator, count=6):
    return torch.randn(2, count, dim, generator=generator) / math.sqrt(dim)


def test_step_is_that_of_the_factored_hessian(generator, monkeypatch):
    chart = curved(4, generator)
    a, b = ends(4, generator)
    grid = chords(8, 4)
    nodes = initial_curves(chart, a, b, 8)
    _, part = relaxation._beginning(chart, grid, nodes)
    bend = relaxation.hessian(chart, part.inner, grid.force(part.image))
    direct = relaxation._direct_step(grid, part._replace(bend=bend))
    monkeypatch.setattr("latentgeom.relaxation.matrix_free._PRECISION", 1e-10)
    free = step(chart, grid, part.inner, part.image, part.damping)
    torch.testing.assert_close(free.delta, direct.delta, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(free.decrement, direct.decrement, rtol=1e-6, atol=1e-12)


def test_both_ways_find_the_same_geodesics(generator, monkeypatch):
    chart = curved(6, generator)
    a, b = ends(6, generator, 20)
    direct = geodesics(chart, a, b, num_segments=16)
    monkeypatch.setattr("latentgeom.relaxation.newton.MAX_FORMED", 0)
    free = geodesics(chart, a, b, num_segments=16)
    assert free.converged.all()
    torch.testing.assert_close(free.length, direct.length, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dim", [51, 120])
def test_many_dimensions_keep_the_closed_form(generator, dim):
    a, b = ends(dim, generator)
    batch = geodesics(Chart(stereographic, dim), a, b, num_segments=16)
    x, y = stereographic(a), stereographic(b)
    exact = 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))
    assert batch.converged.all()
    assert ((batch.length - exact).abs() / exact).max() < 1e-8
    assert (batch.error_estimate >= (batch.length - exact).abs()).all()


def test_conjugate_ends_are_seen_without_a_factorisation(generator):
    a, _ = ends(60, generator)
    antipode = -a / a.square().sum(-1, keepdim=True)
    batch = geodesics(Chart(stereographic, 60), a, antipode, num_segments=16)
    assert not batch.converged.any()


def test_flat_space_is_regular(generator):
    chart = Chart(lambda z: 2 * z, 70)
    a, b = ends(70, generator)
    grid = chords(8, 1)
    nodes = initial_curves(chart, a, b, 8)
    value = smallest_ritz_value(chart, grid, nodes[:, 1:-1], chart.embed(nodes))
    torch.testing.assert_close(value, torch.ones(6))
