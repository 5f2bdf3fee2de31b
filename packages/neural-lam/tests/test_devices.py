"""What a second kind of device would refuse, and what makes the host wait for it."""

import importlib.util
from functools import partial
from pathlib import Path

import pytest
import torch

from neural_lam import (
    ConvLAM,
    DirectForecaster,
    Elliptic,
    Forecaster,
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


def forecaster(kind, store):
    """A forecaster of each kind on a small domain, and a batch."""
    options = {"lead_steps": 2, "boundary_width": 3, "validation_from": 0.9, "test_from": 0.95}
    mesh = Rectangular(refinement=2, radius=0.75, hierarchical=kind == "HiLAM")
    networks = {
        "GraphLAM": partial(GraphLAM, hidden_size=8, num_layers=2),
        "HiLAM": partial(HiLAM, hidden_size=8, num_layers=1),
        "ConvLAM": partial(ConvLAM, hidden_size=8, coarse_size=8),
    }
    convolutional = kind == "ConvLAM"
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
    return model, next(iter(data.train_dataloader()))


@pytest.mark.parametrize("kind", ["GraphLAM", "HiLAM", "ConvLAM"])
def test_a_training_step_stays_on_its_device(wave_store, kind):
    model, batch = forecaster(kind, wave_store)
    # Plans of the fused layers are made once, at the first step.
    model.training_loss(batch)
    with DeviceMode() as mode:
        model.training_loss(batch).backward()
    assert not mode.syncs, dict(mode.syncs)


@pytest.mark.parametrize("kind", ["GraphLAM", "HiLAM", "ConvLAM"])
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
    batch = next(iter(data.train_dataloader()))
    leads = torch.arange(4)
    with torch.no_grad():
        model._forecast(batch, leads)
        with DeviceMode() as mode:
            model._forecast(batch, leads)
    assert sum(mode.syncs.values()) <= 2, dict(mode.syncs)
