"""What runs on an accelerator makes its tensors there, and the host waits as seldom as stated."""

import os
import warnings
from functools import partial

import pytest
import torch
from device_mode import DeviceMode
from torch import nn

from latentgeom import (
    Autoencoder,
    Chart,
    ConstantCurvature,
    Ellipsoid,
    Ensemble,
    Euclidean,
    IsometricAutoencoder,
    LocalVariance,
    Perceptron,
    Product,
    Pullback,
    RadialCost,
    Samples,
    Scaled,
    Solver,
    Torus,
    bent_curves,
    distance_matrix,
    distortion,
    ensemble_geodesics,
    frechet_mean,
    geodesics,
    georce,
    graph_curves,
    induced_geodesics,
    poincare_ball,
    spread,
)
from latentgeom.data.partners import Pairs
from latentgeom.metrics import constant_curvature
from latentgeom.reports.storage import codes_dataset, geodesics_dataset
from latentgeom.shell.randomness import keyed_generator

DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))


def smooth(features=6):
    layers = nn.Linear(2, 8, device=DEVICE), nn.Tanh(), nn.Linear(8, features, device=DEVICE)
    return nn.Sequential(*layers).requires_grad_(False)


@pytest.fixture
def ends(generator):
    return (torch.randn(2, 6, 2, generator=generator) / 5).to(DEVICE)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    return smooth()


def test_the_mode_refuses_and_counts():
    with DeviceMode() as mode:
        with pytest.raises(AssertionError, match="zeros without a device"):
            torch.zeros(3)
        x = torch.zeros(3, device=DEVICE)
        assert x.sum().item() == 0
        assert not x[x > 0].numel()
    assert mode.syncs == {"item": 1, "mask index": 1}


@pytest.mark.parametrize("curvature", [-1.0, 0.0, 1.0])
def test_a_training_step_never_waits(generator, monkeypatch, curvature):
    # On an accelerator what far points need is computed without asking whether there are any.
    monkeypatch.setattr(constant_curvature, "nowhere", lambda mask: False)
    torch.manual_seed(0)
    features = 3 if curvature > 0 else 2
    networks = Perceptron(5, 2, [8]), Perceptron(features, 5, [8])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = IsometricAutoencoder(Autoencoder(*networks, ConstantCurvature(2, curvature)))
    model = model.to(DEVICE)
    model.log = lambda *arguments, **options: None
    x = torch.randn(2, 16, 5, generator=generator).to(DEVICE)
    index = torch.arange(16, device=DEVICE)
    batch = Pairs(*(Samples(part, index, index) for part in x))
    with DeviceMode() as mode:
        loss = model.training_step(batch, 0)
        loss.backward()
    assert not mode.syncs


SOLVES = {
    "decoder": lambda d, a, b: partial(geodesics, Chart(d, 2)),
    "decoder, chords": lambda d, a, b: partial(geodesics, Chart(d, 2), polish=False),
    "tensor": lambda d, a, b: partial(georce, Pullback(d, 2).metric_tensor, num_segments=8),
    "data": lambda d, a, b: LocalVariance(torch.cat([a, b]), 1.0, solver=Solver(8)).connect,
    "cost": lambda d, a, b: RadialCost(a, torch.ones_like(a[:, 0]), 1.0, solver=Solver(8)).connect,
    "ensemble": lambda d, a, b: partial(ensemble_geodesics, Ensemble([d, d]), num_segments=8),
    "chosen": lambda d, a, b: ConstantCurvature(2, -1.0).to(DEVICE).connect,
    "ball": lambda d, a, b: Scaled(poincare_ball(2), 2.0).to(DEVICE).connect,
    "product": lambda d, a, b: (
        Product([ConstantCurvature(1, -1.0), Euclidean(1)]).to(DEVICE).connect
    ),
}
# Waits of a solve of six pairs, whatever the pairs: levels, steps, looks between the nodes.
# Waits of a whole solve of six pairs: of its levels and steps, whatever the number of pairs.
WAITS = {"decoder": 60, "decoder, chords": 60, "tensor": 45, "data": 130, "cost": 45,
         "ensemble": 35, "chosen": 0, "ball": 0, "product": 0}  # fmt: skip


@pytest.mark.parametrize("name", SOLVES)
def test_solves_make_their_tensors_where_the_points_are(decoder, ends, monkeypatch, name):
    monkeypatch.setattr(constant_curvature, "nowhere", lambda mask: False)
    solve = SOLVES[name](decoder, *ends)
    with torch.no_grad(), DeviceMode() as mode:
        batch = solve(*ends)
    assert batch.converged.any()
    assert sum(mode.syncs.values()) <= WAITS[name]


def test_narrow_ridges_are_refined_where_the_points_are(ends):
    def ridge(z):
        return torch.cat([z, 2 * torch.exp(-(z[..., :1] / 0.05).square())], -1)

    a, b = (x + torch.tensor([[s, 0.0]], device=DEVICE) for x, s in zip(ends, (-2, 2), strict=True))
    with torch.no_grad(), DeviceMode():
        batch = geodesics(Chart(ridge, 2), a, b, num_segments=16)
    assert batch.converged.any()


def test_surfaces_make_their_tensors_where_the_points_are(generator):
    x = torch.randn(2, 4, 3, generator=generator).to(DEVICE)
    sphere, torus = Ellipsoid(torch.ones(3)).to(DEVICE), Torus(2.0, 0.7).to(DEVICE)
    with torch.no_grad(), DeviceMode():
        assert geodesics(sphere, *sphere.projx(x), num_segments=8).converged.any()
        assert geodesics(torus, *torus.projx(x), num_segments=8).converged.any()


def test_starts_means_and_reports_make_their_tensors_where_the_points_are(decoder, ends):
    a, b = ends
    generator = keyed_generator(0, device=DEVICE)
    metric, flat, chosen = Pullback(decoder, 2), Euclidean(2), ConstantCurvature(2, -1.0).to(DEVICE)
    codes, pair = torch.cat([a, b]), torch.tensor([[0, 7]], device=DEVICE)
    with torch.no_grad(), DeviceMode():
        bent_curves(metric, a, b, amplitude=0.2, generator=generator, num_segments=8)
        spread(metric, a, b, num_starts=2, generator=generator, num_segments=8)
        graph_curves(metric, codes, pair, num_neighbors=3)
        frechet_mean(Chart(decoder, 2), codes)
        chosen.mean(codes)
        batch = induced_geodesics(decoder, flat, a, b, 8)
        distortion(decoder, flat, codes, batch)
        metric.dist(a, b)
        metric.logmap(a[:1], b[:1])
        metric.transp(a[:1], b[:1], a[1:2])


def test_storage_takes_tensors_of_any_device(ends, tmp_path):
    a, b = ends
    index = torch.arange(6, device=DEVICE)
    with torch.no_grad(), DeviceMode() as mode:
        batch = Euclidean(2).connect(a, b)
        geodesics_dataset(batch, torch.stack([index, index], 1))
        codes_dataset(a, index, index)
    # Every tensor is brought to the host before it is an array.
    assert mode.syncs["numpy"] == mode.syncs["cpu"] == 9  # names of functions, not of methods
    with torch.no_grad(), DeviceMode():
        found = distance_matrix(
            Euclidean(2).connect, a, tmp_path / "d.zarr", chunk=4, settings="flat"
        )
    assert found.converged.all()
