import pytest
import torch
from torch import nn

from latentgeom.immersions.curvature import levi_civita
from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.charts import Scaled
from latentgeom.metrics.explicit import ConstantCurvature, Euclidean, Product
from latentgeom.pullback.data_metrics import LocalAverage, LocalVariance, RadialCost
from latentgeom.pullback.deviation import RadialDeviation
from latentgeom.pullback.numerical import TensorField
from latentgeom.pullback.pullback import (
    Blend,
    Conformal,
    EnrichedPullback,
    Pullback,
    Stacked,
    ellipsoid,
    torus,
)
from latentgeom.solvers.memory import bytes_a_point
from latentgeom.solvers.solver import Solver

SPHERE = ConstantCurvature(2, 1.0)


def ambient(z):
    return cc.tangent_to_ambient(z, 1.0)


METRICS = {
    "pullback": lambda: Pullback(ambient, 2),
    "enriched": lambda: EnrichedPullback(lambda z: z, SPHERE, 2),
    "conformal": lambda: Conformal(Euclidean(2), lambda z: (2 / (1 + z.square().sum(-1))).log()),
    "blend": lambda: Blend(Euclidean(2), Pullback(lambda z: z, 2), 3.0),
}


def exact(name, a, b):
    if name == "conformal":
        a, b = (cc.stereographic_to_tangent(z, 1.0) for z in (a, b))
    return 2 * (a - b).norm(dim=-1) if name == "blend" else SPHERE.dist(a, b)


@pytest.fixture
def ends(generator):
    return torch.randn(2, 12, 2, generator=generator) * 0.5


@pytest.mark.parametrize("name", METRICS)
def test_solved_distances_are_those_of_the_closed_form(ends, name):
    metric = METRICS[name]()
    torch.testing.assert_close(metric.dist(*ends), exact(name, *ends), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", METRICS)
def test_exponential_inverts_logarithm(ends, name):
    metric = METRICS[name]()
    a, b = ends[:, :3]
    velocity = metric.logmap(a, b)
    assert (metric.expmap(a, velocity) - b).abs().max() < 1e-8
    torch.testing.assert_close(metric.norm(a, velocity), metric.dist(a, b), rtol=1e-5, atol=1e-7)


def test_distance_has_the_gradient_of_the_first_variation(ends):
    metric = Pullback(ambient, 2)
    a, b = (x.clone().requires_grad_() for x in ends)
    found = torch.autograd.grad(metric.dist(a, b).sum(), (a, b))
    expected = torch.autograd.grad(SPHERE.dist(a, b).sum(), (a, b))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)
    (at_same,) = torch.autograd.grad(metric.dist(a, a.detach()).sum(), a)
    assert torch.equal(at_same, torch.zeros_like(a))


def test_transport_is_that_of_the_sphere(ends, generator):
    a, b = ends[:, :2]
    v = torch.randn(2, 2, generator=generator)
    found = Pullback(ambient, 2).transp(a, b, v)
    torch.testing.assert_close(found, SPHERE.transp(a, b, v), rtol=1e-5, atol=1e-5)


def test_unconverged_distances_are_not_numbers():
    metric = Pullback(ambient, 2)
    a, b = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.5 - torch.pi, 0.0]])
    assert metric.dist(a, b).isnan().all()


def test_stacked_map_pulls_back_the_expected_metric(generator):
    mean = nn.Sequential(nn.Linear(2, 5), nn.Tanh())
    deviation = RadialDeviation(torch.randn(4, 2, generator=generator), torch.ones(4), 5)
    z = torch.randn(10, 2, generator=generator)
    parts = [Pullback(part, 2).metric_tensor(z) for part in (mean, deviation)]
    stacked = Pullback(Stacked([mean, deviation]), 2).metric_tensor(z)
    torch.testing.assert_close(stacked, parts[0] + parts[1])


def test_second_derivatives_of_the_map_are_its_connection(generator):
    weight = torch.randn(2, 6, generator=generator)
    metric = Pullback(lambda z: torch.sin(z @ weight), 2)
    z, u = torch.randn(2, 5, 2, generator=generator)
    w = torch.randn(5, 3, 2, generator=generator)
    by_tensor = levi_civita(metric.metric_tensor)(z, u, w)
    torch.testing.assert_close(metric.connection(z, u, w), by_tensor)
    silu = Pullback(nn.Sequential(nn.Linear(2, 5), nn.SiLU(), nn.Linear(5, 5)), 2)
    by_tensor = levi_civita(silu.metric_tensor)(z, u, w)
    torch.testing.assert_close(silu.connection(z, u, w), by_tensor)


SURFACES = {
    "ellipsoid": lambda solver: ellipsoid([1.0, 1.2, 0.8], solver),
    "torus": lambda solver: torus(2.0, 0.7, solver),
}


@pytest.mark.parametrize("tolerance", [1e-6, pytest.param(1e-9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_stand_behind_the_same_interface(ends, generator, name, tolerance):
    metric = SURFACES[name](Solver(tolerance=tolerance))
    a, b = ends[:, :2]
    bound = 10 * tolerance
    velocity = metric.logmap(a, b)
    close = torch.testing.assert_close
    close(metric.norm(a, velocity), metric.dist(a, b), rtol=bound, atol=0)
    close(metric.expmap(a, velocity), b, rtol=bound, atol=bound)
    v, w = torch.randn(2, 2, 2, generator=generator)
    moved = [metric.transp(a, b, x) for x in (v, w)]
    close(metric.inner(b, *moved), metric.inner(a, v, w), rtol=bound, atol=bound)


def test_impossible_surfaces_are_refused():
    with pytest.raises(ValueError, match="axes must be"):
        ellipsoid([1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match="radii must be"):
        torus(1.0, 2.0)


def test_distance_has_the_gradient_of_the_decoder_by_the_envelope_theorem(ends):
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))
    metric = Pullback(decoder, 2)
    a, b = ends[:, :3]
    total = metric.dist(a, b).sum()
    places = list(decoder.parameters())[:-1]  # a shift of all images moves nothing
    found = torch.autograd.grad(total, places)
    for place, gradient in zip(places, found, strict=True):
        step = 1e-5 * torch.randn_like(place)
        lengths = []
        for sign in (1, -1):
            with torch.no_grad():
                place += sign * step
                lengths.append(metric.dist(a, b).sum())
                place -= sign * step
        expected = (lengths[0] - lengths[1]) / 2
        assert abs(float((gradient * step).sum() - expected)) < 1e-3 * step.norm() * 1e-2 + 1e-9


SECOND = {
    "pullback": lambda: Pullback(ambient, 2),
    "tensors": lambda: TensorField(SPHERE.metric_tensor, 2),
    "enriched": lambda: EnrichedPullback(lambda z: z, SPHERE, 2),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_are_those_of_the_closed_form(ends, name):
    metric = SECOND[name]()
    a, b = ends[:, :4]

    def hessian(function):
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        first = torch.autograd.grad(function(x, y).sum(), (x, y), create_graph=True)
        rows = [
            torch.autograd.grad(part[:, i].sum(), (x, y), retain_graph=True)
            for part in first
            for i in range(2)
        ]
        return torch.stack([torch.cat(row, -1) for row in rows], -2)

    for what in ("dist", "squared_dist"):
        found, expected = hessian(getattr(metric, what)), hessian(getattr(SPHERE, what))
        # The distance's divides by the distance, which a tensor's solver knows to 1e-5.
        bound = 1e-4 if what == "dist" and name != "pullback" else 1e-6
        torch.testing.assert_close(found, expected, rtol=bound, atol=bound)


def test_solved_squares_have_twice_the_tensor_as_hessian_where_points_coincide(ends):
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6)).requires_grad_(False)
    metric, a = Pullback(decoder, 2), ends[0, :3]
    x = a.clone().requires_grad_()
    (slope,) = torch.autograd.grad(metric.squared_dist(x, a).sum(), x, create_graph=True)
    assert slope.abs().max() < 1e-12
    rows = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0] for i in range(2)]
    torch.testing.assert_close(torch.stack(rows, -2), 2 * metric.metric_tensor(a))


def test_second_derivatives_by_ends_and_weights_are_those_of_differences(ends):
    decoder = nn.Sequential(nn.Linear(2, 6), nn.SiLU(), nn.Linear(6, 5))
    metric, b = Pullback(decoder, 2), ends[1, :2]
    weight = decoder[0].weight
    x = ends[0, :2].clone().requires_grad_()
    slope, by_weight = torch.autograd.grad(metric.dist(x, b).sum(), (x, weight), create_graph=True)
    direction = torch.randn_like(weight)
    found = torch.autograd.grad((by_weight * direction).sum(), x, retain_graph=True)[0]
    mixed = torch.autograd.grad(slope.sum(), weight)[0]
    step, slopes = 1e-4, []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * direction
        again = x.detach().requires_grad_()
        slopes.append(torch.autograd.grad(metric.dist(again, b).sum(), again, create_graph=True)[0])
        with torch.no_grad():
            weight -= sign * step * direction
    expected = ((slopes[0] - slopes[1]) / (2 * step)).detach()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((mixed * direction).sum(), expected.sum(), rtol=1e-4, atol=1e-6)


def test_both_ways_to_a_gradient_agree(ends):
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))
    metric = Pullback(decoder, 2)
    x = ends[0, :3].clone().requires_grad_()
    places = [x, *list(decoder.parameters())[:-1]]
    cheap, implicit = (
        torch.autograd.grad(metric.dist(x, ends[1, :3]).sum(), places, create_graph=twice)
        for twice in (False, True)
    )
    for first, second in zip(cheap, implicit, strict=True):
        # The cheap way takes a polygon of 128 chords, off by about a part in 128².
        torch.testing.assert_close(first, second.detach(), rtol=1e-3, atol=2e-5)


def test_derivatives_of_what_did_not_converge_are_no_numbers():
    metric = Pullback(ambient, 2)
    a = torch.tensor([[0.5, 0.0], [0.1, 0.2]]).requires_grad_()
    b = torch.tensor([[0.5 - torch.pi, 0.0], [0.6, 0.3]])
    for twice in (False, True):
        square = metric.squared_dist(a, b)
        (slope,) = torch.autograd.grad(square.sum(), a, create_graph=twice)
        assert slope[0].isnan().all()
        assert slope[1].isfinite().all()


def test_any_metric_has_means(ends):
    points = ends[0]
    found = Pullback(ambient, 2).mean(points)
    assert found.converged
    torch.testing.assert_close(found.mean, SPHERE.mean(points).mean, rtol=0, atol=1e-6)


AMBIENTS = {
    "variance": lambda x: LocalVariance(x, 1.5),
    "cost": lambda x: RadialCost(x, torch.rand(len(x)), 1.5),
    "average": lambda x: LocalAverage(x[:3], torch.diag_embed(torch.rand(3, 6) + 0.5), 1.5),
    "flat": lambda x: Euclidean(6),
    "sphere": lambda x: ConstantCurvature(6, 0.3),
    "product": lambda x: Product([ConstantCurvature(2, -1.0), Scaled(Euclidean(4), 2.0)]),
}


@pytest.mark.parametrize("name", AMBIENTS)
def test_covectors_are_those_of_the_tensor(generator, name):
    torch.manual_seed(0)
    data = torch.randn(20, 6, generator=generator)
    metric = AMBIENTS[name](data)
    z = torch.randn(7, 6, generator=generator) / 2
    vectors = torch.randn(7, 6, 2, generator=generator)
    expected = metric.metric_tensor(z) @ vectors
    torch.testing.assert_close(metric.lower(z, vectors), expected)


@pytest.mark.parametrize("name", ["variance", "cost", "flat", "sphere", "product"])
def test_the_ambient_tensor_is_never_formed(generator, name):
    features = 3000  # a matrix of doubles of that width takes 72 MB a point
    data = torch.randn(5, features, generator=generator)
    ambient = {
        "variance": lambda: LocalVariance(data, 50.0),
        "cost": lambda: RadialCost(data, torch.ones(5), 50.0),
        "flat": lambda: Euclidean(features),
        "sphere": lambda: ConstantCurvature(features, 1e-3),
        "product": lambda: Product([Euclidean(1000), ConstantCurvature(2000, 1e-3)]),
    }[name]()
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, features))
    metric = EnrichedPullback(decoder.requires_grad_(False), ambient, 2)
    assert bytes_a_point(metric.metric_tensor, torch.zeros(2)) < 8 * features * 150
