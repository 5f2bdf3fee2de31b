import math

import pytest
import torch
from torch import nn

from latentgeom.immersions.immersion import Chart, jacobian
from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.solvers.boundary import geodesics
from latentgeom.solvers.memory import pairs_at_once


def sphere(z):
    """Polar angle and azimuth of the unit sphere."""
    theta, phi = z.unbind(-1)
    return torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)


def pseudosphere(z):
    u, v = z.unbind(-1)
    s = 1 / torch.cosh(u)
    return torch.stack([s * v.cos(), s * v.sin(), u - torch.tanh(u)], -1)


def network(generator):
    layers = [nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 20)]
    for layer in layers[::2]:
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * 0.7
    return nn.Sequential(*layers).requires_grad_(False)


def pairs(generator, low, high, count=60):
    low, high = torch.tensor(low), torch.tensor(high)
    return low + (high - low) * torch.rand(2, count, 2, generator=generator)


def sphere_dist(a, b):
    x, y = sphere(a), sphere(b)
    return 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))


def pseudosphere_dist(a, b):
    half_plane = [torch.stack([z[:, 1], torch.cosh(z[:, 0])], -1) for z in (a, b)]
    return cc.half_plane_dist(*half_plane)


CASES = {
    "sphere": (sphere, sphere_dist, [0.6, -1.2], [2.5, 1.2]),
    "pseudosphere": (pseudosphere, pseudosphere_dist, [0.4, -0.8], [2.0, 0.8]),
}


@pytest.mark.parametrize("case", CASES)
def test_lengths_are_those_of_the_closed_form(generator, case):
    immersion, exact, low, high = CASES[case]
    a, b = pairs(generator, low, high)
    batch = geodesics(Chart(immersion, 2), a, b, num_segments=64)
    error = (batch.length - exact(a, b)).abs() / exact(a, b)
    assert batch.converged.all()
    assert error.median() < 1e-10
    assert error.max() < 1e-8


@pytest.mark.parametrize("case", CASES)
def test_single_precision_keeps_four_digits(generator, case):
    immersion, exact, low, high = CASES[case]
    a, b = pairs(generator, low, high, count=200)
    batch = geodesics(Chart(immersion, 2), a.float(), b.float(), tolerance=1e-6)
    error = (batch.length - exact(a, b)).abs() / exact(a, b)
    assert batch.converged.all()
    assert error.max() < 1e-4


@pytest.mark.parametrize(("polish", "sizes", "order"), [(False, (32, 64), 4), (True, (8, 12), 8)])
def test_length_converges_at_its_order(generator, polish, sizes, order):
    a, b = pairs(generator, [0.4, -0.8], [2.0, 0.8])
    errors = [
        (geodesics(Chart(pseudosphere, 2), a, b, num_segments=n, polish=polish).length
         - pseudosphere_dist(a, b)).abs().mean()
        for n in sizes
    ]  # fmt: skip
    rate = torch.log(errors[0] / errors[1]) / math.log(sizes[1] / sizes[0])
    assert rate > order - 1


@pytest.fixture(scope="module")
def on_a_network():
    """Pairs with distances on ten times as many segments as the finest curve that is judged."""
    generator = torch.Generator().manual_seed(0)
    torch.set_default_dtype(torch.float64)
    chart = Chart(network(generator), 2)
    a, b = pairs(generator, [-1.5, -1.5], [1.5, 1.5], count=100)
    return chart, a, b, geodesics(chart, a, b, num_segments=320, tolerance=1e-13).length


SEGMENTS = [
    pytest.param(n, polish, marks=pytest.mark.slow if n in (12, 16) else ())
    for n in (8, 12, 16, 32)
    for polish in (True, False)
]


@pytest.mark.parametrize(("num_segments", "polish"), SEGMENTS)
@pytest.mark.parametrize("case", [*CASES, "network"])
def test_error_estimate_is_above_the_error(generator, on_a_network, case, num_segments, polish):
    if case == "network":
        chart, a, b, exact = on_a_network
    else:
        chart, low, high = Chart(CASES[case][0], 2), *CASES[case][2:]
        a, b = pairs(generator, low, high, count=200)
        exact = CASES[case][1](a, b)
    for tolerance in (1e-4, 1e-10):
        options = {"num_segments": num_segments, "polish": polish, "tolerance": tolerance}
        batch = geodesics(chart, a, b, **options)
        covered = (batch.length - exact).abs() <= batch.error_estimate
        assert covered.double().mean() >= 0.99
    assert (batch.error_estimate < 0.1 * exact).all()  # and tells something


def test_points_lie_on_the_great_circle_at_equal_steps(generator):
    a, b = pairs(generator, [0.6, -1.2], [2.5, 1.2])
    x = sphere(geodesics(Chart(sphere, 2), a, b, num_segments=32).points)
    normal = torch.linalg.cross(x[:, :1], x[:, -1:])
    normal = normal / normal.norm(dim=-1, keepdim=True)
    assert (x * normal).sum(-1).abs().max() < 1e-6
    steps = x.diff(dim=1).norm(dim=-1)
    assert ((steps.amax(1) - steps.amin(1)) / steps.mean(1)).max() < 1e-5


def test_network_geodesics_are_shorter_than_lines_and_symmetric(generator):
    decoder = network(generator)
    chart = Chart(decoder, 2)
    a, b = pairs(generator, [-1.5, -1.5], [1.5, 1.5])
    there, back = geodesics(chart, a, b), geodesics(chart, b, a)
    t = torch.linspace(0, 1, 1001)[:, None]
    line = decoder(torch.lerp(a[:, None], b[:, None], t)).diff(dim=1).norm(dim=-1).sum(1)
    assert there.converged.all()
    assert (there.length <= line * (1 + 1e-6)).all()
    assert (there.length >= (decoder(a) - decoder(b)).norm(dim=-1) * (1 - 1e-9)).all()
    torch.testing.assert_close(there.length, back.length, rtol=1e-6, atol=0)


def test_coinciding_end_points_have_length_zero(generator):
    a, _ = pairs(generator, [0.6, -1.2], [2.5, 1.2])
    batch = geodesics(Chart(sphere, 2), a, a)
    assert batch.converged.all()
    assert torch.equal(batch.length, torch.zeros(60))
    assert torch.allclose(batch.points, a[:, None], rtol=1e-14)


def test_parts_of_a_batch_give_the_same(generator):
    a, b = pairs(generator, [0.6, -1.2], [2.5, 1.2], count=10)
    whole = geodesics(Chart(sphere, 2), a, b, num_segments=16)
    parts = geodesics(Chart(sphere, 2), a, b, num_segments=16, memory_gb=1e-5)
    chart = Chart(sphere, 2)
    assert 1 <= pairs_at_once(chart, lambda x: jacobian(chart, x), a, 16, 1e-5) < 10
    for x, y in zip(whole, parts, strict=True):
        torch.testing.assert_close(x, y)
    with pytest.raises(ValueError, match="memory_gb must be positive"):
        geodesics(Chart(sphere, 2), a, b, memory_gb=0.0)


def test_antipodes_are_flagged():
    a = torch.tensor([[1.0, 0.2], [1.0, 0.2]])
    b = torch.tensor([[math.pi - 1.0, 0.2 + math.pi], [1.5, 0.9]])
    batch = geodesics(Chart(sphere, 2), a, b)
    assert batch.converged.tolist() == [False, True]


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), {}, "end points must be"),
        (torch.zeros(3, 3), torch.zeros(3, 3), {}, "a must have 2 coordinates"),
        (torch.zeros(3, 2), torch.full((3, 2), torch.nan), {}, "b must be finite"),
        (torch.zeros(3, 2), torch.ones(3, 2), {"num_segments": 10}, "multiple of 4 from 8 on"),
    ],
)
def test_bad_end_points_are_refused(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        geodesics(Chart(sphere, 2), a, b, **options)


@pytest.mark.parametrize("dim", [20, 35, 50])
def test_many_dimensions_have_no_cliff(generator, dim):
    # A sphere, turned isometrically into more dimensions: distances are known.
    turn = torch.linalg.qr(torch.randn(dim + 11, dim + 1, generator=generator))[0]
    chart = Chart(lambda z: cc.tangent_to_ambient(z, 1.0) @ turn.mT, dim)
    a, b = torch.randn(2, 3, dim, generator=generator) / dim**0.5
    batch = geodesics(chart, a, b)
    exact = ConstantCurvature(dim, 1.0).dist(a, b)
    assert batch.converged.all()
    assert ((batch.length - exact).abs() <= 1e-13 * exact).all()
    assert (batch.error_estimate <= 1e-10 * exact).all()


def test_networks_of_twenty_coordinates_are_solved_as_finely_as_those_of_ten(generator):
    weights = [torch.randn(n, m, generator=generator) / n**0.5 for n, m in ((20, 48), (48, 60))]
    chart = Chart(lambda z: torch.tanh(6 * z @ weights[0]) @ weights[1], 20)
    a, b = torch.randn(2, 2, 20, generator=generator) / 20**0.5
    found, best = (geodesics(chart, a, b, num_segments=n) for n in (32, 64))
    assert best.converged.all()
    assert ((found.length - best.length).abs() <= 1e-11 * best.length).all()
