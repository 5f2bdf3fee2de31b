"""What a second kind of device would refuse, and what makes the host wait for it."""

import importlib.util
import os
from functools import partial
from pathlib import Path

import pytest
import torch

from neural_lam import (
    ConvLAM,
    DirectForecaster,
    Elliptic,
    Forecaster,
    FullResolution,
    GraphLAM,
    GriddedData,
    HiLAM,
    Rectangular,
    ScaleBalanced,
    WeightedSquare,
)

_spec = importlib.util.spec_from_file_location("mode", Path(__file__).parent / "device_mode.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
DeviceMode = _module.DeviceMode
# `nox -s gpu` runs the same jobs there.
DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))
KINDS = ("GraphLAM", "HiLAM", "ConvLAM", "FullResolution")


def on_device(model, batch):
    """A model and a batch where the tests run."""
    return model.to(DEVICE), type(batch)(*(part.to(DEVICE) for part in batch))


def forecaster(kind, store):
    """A forecaster of each kind on a small domain, and a batch."""
    options = {"lead_steps": 2, "boundary_width": 3, "validation_from": 0.9, "test_from": 0.95}
    mesh = Rectangular(refinement=2, radius=0.75, hierarchical=kind == "HiLAM")
    small = partial(GraphLAM, hidden_size=8, num_layers=2)
    networks = {
        "GraphLAM": small,
        "HiLAM": partial(HiLAM, hidden_size=8, num_layers=1),
        "ConvLAM": partial(ConvLAM, hidden_size=8, coarse_size=8),
        "FullResolution": partial(FullResolution, network=small, hidden_size=8),
    }
    convolutional = kind in {"ConvLAM", "FullResolution"}
    data = GriddedData(
        store, ["height"], guess_reach=2, mesh=mesh, forcings=["hour"],
        derived=["laplacian"] if convolutional else [], rollout_steps=2, **options,
    )  # fmt: skip
    model = Forecaster(
        networks[kind],
        head=Elliptic() if convolutional else None,
        loss=ScaleBalanced(WeightedSquare()) if convolutional else None,
        look_ahead=True,
        show_change=True,
        curriculum={0: 2},
    )
    model.adopt(data.domain)
    return on_device(model, next(iter(data.train_dataloader())))


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_stays_on_its_device(wave_store, kind):
    model, batch = forecaster(kind, wave_store)
    # Plans of the fused layers are made once, at the first step.
    model.training_loss(batch)
    with DeviceMode() as mode:
        model.training_loss(batch).backward()
    assert not mode.syncs, dict(mode.syncs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forecast_stays_on_its_device(wave_store, kind):
    model, batch = forecaster(kind, wave_store)
    with torch.no_grad():
        model.eval()(batch)
        with DeviceMode() as mode:
            model(batch)
    assert not mode.syncs, dict(mode.syncs)


def test_a_direct_forecast_waits_at_most_once(wave_store):
    data = GriddedData(
        wave_store, ["height"], boundary_width=2, day_components=2, lead_steps=4, rollout_steps=4,
        validation_from=0.8, test_from=0.9,
    )  # fmt: skip
    model = DirectForecaster(partial(GraphLAM, hidden_size=8, num_layers=1), num_leads=2)
    model.adopt(data.domain)
    model, batch = on_device(model, next(iter(data.train_dataloader())))
    leads = torch.arange(4, device=DEVICE)
    with torch.no_grad():
        model._forecast(batch, leads)
        with DeviceMode() as mode:
            model._forecast(batch, leads)
    assert sum(mode.syncs.values()) <= 2, dict(mode.syncs)


def test_same_grid_edges_of_points_stay_on_their_device(wave_store):
    model, _ = forecaster("FullResolution", wave_store)
    graph = model.domain.graph._replace(shape=None)
    network = FullResolution(graph, 3, 2, partial(GraphLAM, hidden_size=8, num_layers=1), 8)
    network = network.to(DEVICE)
    x = torch.zeros(len(graph.grid), 2, 3, device=DEVICE)
    network(x, network.embed())
    with DeviceMode() as mode:
        network(x, network.embed()).sum().backward()
    assert not mode.syncs, dict(mode.syncs)
