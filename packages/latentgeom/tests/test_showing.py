"""What print shows of every public class: one line that says what the object is."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

import latentgeom as lg


def linear():
    return nn.Linear(2, 3)


def pairs():
    return torch.zeros(4, 2), torch.ones(4, 2)


def autoencoder():
    return lg.Autoencoder(lg.Perceptron(5, 2, [4]), lg.Perceptron(2, 5, [4]), lg.Euclidean(2))


def fitted():
    x = np.random.default_rng(0).normal(size=(30, 3))
    return lg.fit(x, num_steps=1, progress=False)


OBJECTS = {
    "Arrays": lambda: lg.Arrays("points.csv"),
    "Autoencoder": autoencoder,
    "Blend": lambda: lg.Blend(lg.Euclidean(2), lg.hyperbolic(2), 0.5),
    "Chart": lambda: lg.Chart(linear(), 2),
    "CheckpointError": lambda: lg.CheckpointError("a.ckpt", "not a checkpoint"),
    "Conformal": lambda: lg.Conformal(lg.Euclidean(2), lambda z: z.sum(-1)),
    "ConstantCurvature": lambda: lg.ConstantCurvature(2, -1.0),
    "Curves": lambda: fitted().geodesics(np.eye(3), np.ones((3, 3)), 8),
    "Diffeomorphism": lambda: lg.poincare_ball(2),
    "Digits": lambda: lg.Digits(),
    "DistortionReport": lambda: lg.DistortionReport(
        1.0, 2.0, 0.1, 0.9, 0.8, 3.0, 4.0, 0.1, 1.0, 5, 6, [1]
    ),
    "Ellipsoid": lambda: lg.Ellipsoid(torch.ones(3)),
    "EnrichedPullback": lambda: lg.EnrichedPullback(linear(), lg.Euclidean(3), 2),
    "Ensemble": lambda: lg.Ensemble([linear(), linear()]),
    "Euclidean": lambda: lg.Euclidean(2),
    "ExpectedMetric": lambda: lg.ExpectedMetric([lg.Euclidean(2), lg.sphere(2)]),
    "Fitted": fitted,
    "FrechetMean": lambda: lg.Euclidean(2).mean(torch.rand(5, 2)),
    "GeodesicBatch": lambda: lg.Euclidean(2).connect(*pairs()),
    "InputError": lambda: lg.InputError("points.csv: no such file"),
    "IsometricAutoencoder": lambda: lg.IsometricAutoencoder(autoencoder()),
    "LatentPlane": lambda: lg.LatentPlane(
        linear(), lg.Euclidean(2), 1.0, torch.zeros(9, 2), torch.zeros(9)
    ),
    "LocalAverage": lambda: lg.LocalAverage(torch.zeros(5, 2), torch.eye(2).expand(5, 2, 2), 1.0),
    "LocalVariance": lambda: lg.LocalVariance(torch.zeros(5, 2), 1.0),
    "Objective": lambda: lg.Objective(torch.tensor(1.0), torch.tensor(2.0)),
    "Observations": lambda: lg.Observations(torch.zeros(5, 2), torch.zeros(5)),
    "Perceptron": lambda: lg.Perceptron(5, 2, [4]),
    "PositiveDefinite": lambda: lg.PositiveDefinite(2),
    "PrincipalReport": lambda: lg.PrincipalReport(3.0, 0.9, 1.5),
    "Product": lambda: lg.Product([lg.Euclidean(1), lg.sphere(2)]),
    "Pullback": lambda: lg.Pullback(linear(), 2),
    "RadialCost": lambda: lg.RadialCost(torch.zeros(5, 2), torch.ones(5), 1.0),
    "RadialDeviation": lambda: lg.RadialDeviation(torch.zeros(4, 2), torch.ones(4), 5),
    "RelaxedPenalty": lambda: lg.RelaxedPenalty(),
    "Samples": lambda: lg.Samples(torch.zeros(5, 2), torch.zeros(5), torch.arange(5)),
    "Scaled": lambda: lg.Scaled(lg.Euclidean(2), 3.0),
    "Scaling": lambda: lg.Scaling(),
    "SizedAutoencoder": lambda: lg.SizedAutoencoder(lg.Euclidean(2)),
    "Solver": lambda: lg.Solver(16),
    "Stacked": lambda: lg.Stacked([linear(), linear()]),
    "TensorField": lambda: lg.TensorField(lambda z: torch.eye(2).expand(*z.shape, 2), 2),
    "Torus": lambda: lg.Torus(2.0, 0.7),
}
ABSTRACT = {"Immersion", "LatentModel", "Metric", "NumericalMetric"}
CLASSES = {name for name in lg._EXPORTS if inspect.isclass(getattr(lg, name))}
SAYS = {
    "ConstantCurvature": ["dim=2", "curvature=-1"],
    "Product": ["Euclidean(dim=1)", "ConstantCurvature("],
    "GeodesicBatch": ["points=[4, 33, 2]", "converged=[True, True, True, True]"],
    "Solver": ["num_segments=16"],
    "Arrays": ["points.csv"],
    "Euclidean": ["dim=2"],
    "Perceptron": ["in_features=5", "out_features=2"],
    "Fitted": ["3 features", "24 learnt"],
}


def test_every_class_is_shown():
    assert set(OBJECTS) == CLASSES - ABSTRACT


@pytest.mark.filterwarnings("ignore:Attribute 'autoencoder'")
@pytest.mark.parametrize("name", OBJECTS)
def test_print_is_one_useful_line(name):
    shown = str(OBJECTS[name]())
    assert "\n" not in shown
    assert len(shown) < 400
    if not name.endswith("Error"):
        assert shown.startswith(f"{name}(")
        assert not shown.endswith("()")
    assert "tensor(" not in shown
    assert " at 0x" not in shown
    for words in SAYS.get(name, []):
        assert words in shown, shown
