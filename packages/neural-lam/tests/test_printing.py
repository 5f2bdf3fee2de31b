"""``print`` of every public object is one line that tells its settings."""

import inspect
from functools import partial

import pytest
import torch

import neural_lam
from neural_lam import (
    ConvLAM,
    DirectForecaster,
    Forecaster,
    FullResolution,
    GraphLAM,
    Grid,
    GriddedData,
    HiLAM,
    HiLAMParallel,
    Rectangular,
    WeightedSquare,
)
from neural_lam.data.upstream import UpstreamData
from neural_lam.graphs.construction import Icosahedral, Triangular
from neural_lam.networks.layers import MLP, Edges, InteractionNet, PropagationNet
from neural_lam.predictors.heads import Elliptic, Increment
from neural_lam.predictors.step import BoundaryForced, Clamped, Residual, Standardised

# Abstract, or functions, errors and what Lightning prints.
CLASSES = {
    name
    for name in neural_lam.__all__
    if inspect.isclass(found := getattr(neural_lam, name))
    and not inspect.isabstract(found)
    and not issubclass(found, Exception)
}


MADE = {}


@pytest.fixture
def objects(wave_store):
    """One of each, made once."""
    if not MADE:
        MADE.update(_objects(wave_store))
    return MADE


def _objects(wave_store):
    data = GriddedData(
        wave_store, ["height"], boundary_width=3, guess_reach=2, day_components=2, lead_steps=2,
        rollout_steps=4, validation_from=0.88, test_from=0.94,
    )  # fmt: skip
    graph, small = data.domain.graph, {"hidden_size": 8, "num_layers": 1}
    nested = Rectangular(refinement=2, radius=0.75, hierarchical=True).build(
        Grid(graph.grid, graph.shape)
    )
    model = Forecaster(partial(GraphLAM, **small), look_ahead=True)
    model.adopt(data.domain)
    direct = DirectForecaster(partial(GraphLAM, **small))
    direct.adopt(data.domain)
    batch = next(iter(data.train_dataloader()))
    clamped = Clamped(model.predictor, torch.zeros(1), torch.ones(1))
    found = [
        batch, clamped, data, data.domain, data.store, data.store.features[0], model, direct, graph,
        graph.m2m[0], GraphLAM(graph, 3, 2, **small), HiLAM(nested, 3, 2, **small),
        HiLAMParallel(nested, 3, 2, **small), ConvLAM(graph, 3, 2, 8, 8),
        FullResolution(graph, 3, 2, partial(GraphLAM, **small), 8), Rectangular(), Triangular(2.0),
        Icosahedral(3), Grid(graph.grid, graph.shape), MLP(2, 4, 3), Edges(graph.m2m[0]),
        InteractionNet(Edges(graph.m2m[0]), 4), PropagationNet(Edges(graph.m2m[0]), 4),
        direct.predictor, Elliptic(), Increment(), WeightedSquare(), neural_lam.WeightedAbsolute(),
        neural_lam.Crps(), neural_lam.Likelihood(), neural_lam.LeadWeighted(WeightedSquare()),
        neural_lam.ScaleBalanced(WeightedSquare()), neural_lam.RunTimer(),
        neural_lam.ForecastWriter("out.zarr"), neural_lam.TwoLayerFlow(),
        neural_lam.UpstreamCheckpoint({}, {"model": "graph_lam"}), UpstreamData("config.yaml"),
    ]  # fmt: skip
    parts = list(model.predictor.modules())
    found += [
        next(p for p in parts if isinstance(p, kind))
        for kind in (BoundaryForced, Standardised, Residual, neural_lam.LinearGuess)
    ]
    return {type(one).__name__: one for one in found}


# Made from other people's files alone; and the ground floor's own, tested there.
ELSEWHERE = {"UpstreamForecaster", "Verification", "NonFiniteGuard"}


@pytest.mark.parametrize("name", sorted(CLASSES - ELSEWHERE))
def test_printing_gives_one_useful_line(objects, name):
    line = str(objects[name])
    assert line.startswith(name)
    assert "\n" not in line
    assert len(line) <= 400
    assert not any(word in line for word in ("tensor(", " object at ", "0x", "array("))
    # Something of its own, or nothing to tell.
    told = line.removeprefix(name).strip("()")
    assert told or not inspect.signature(type(objects[name])).parameters
