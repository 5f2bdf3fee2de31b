"""What runs on an accelerator makes its tensors there, and the host waits as seldom as stated."""

import importlib.util
import os
import warnings
from pathlib import Path

import pytest
import torch

from ardm_guidance import (
    Discriminator,
    GraphTransformer,
    Guided,
    LateStart,
    MoleculeAlphabet,
    MoleculeARDM,
    fully_adapted,
    run,
    sample,
)
from ardm_guidance.data.modules import Batch
from ardm_guidance.guidance.discriminator import losses
from ardm_guidance.guidance.smc import select
from ardm_guidance.shell.randomness import keyed_generator
from ardm_guidance.sites.constraints import completable
from ardm_guidance.sites.molecules import read_smiles
from ardm_guidance.sites.shortcuts import shortcuts

spec = importlib.util.spec_from_file_location(
    "device_mode", Path(__file__).with_name("device_mode.py")
)
device_mode = importlib.util.module_from_spec(spec)
spec.loader.exec_module(device_mode)
DeviceMode = device_mode.DeviceMode
ALPHABET = MoleculeAlphabet()
# `nox -s gpu` runs the same jobs there.
DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))


def network():
    return GraphTransformer(8, 4, 9, width=16, pair_width=8, num_layers=2, num_heads=2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MoleculeARDM(network()).eval().to(DEVICE)
    model.size_counts[4] = 5
    model.log = lambda *arguments, **options: None
    return model


@pytest.fixture(scope="module")
def batch():
    smiles = ["CCO", "C1CC1N", "C#N", "CC(=O)O"]
    sites = torch.stack([ALPHABET.encode(read_smiles(text)) for text in smiles])
    return Batch(sites.to(DEVICE), torch.arange(4, device=DEVICE))


def test_the_mode_sees_what_it_is_for():
    mode = DeviceMode()
    with mode, pytest.raises(AssertionError, match=r"torch\.zeros without a device"):
        torch.zeros(3)
    with mode:
        x = torch.zeros(3, device=DEVICE)
        x[x > 0].sum().item()
        torch.ones_like(x).nonzero()
    assert mode.syncs == {"mask index": 1, "item": 1, "nonzero": 1}


def test_a_training_step_makes_nothing_elsewhere_and_never_waits(model, batch):
    model._fabric = None
    with DeviceMode() as mode:
        model.training_step(batch, 0).backward()
    assert mode.syncs == {}


def test_a_discriminator_s_step_never_waits(batch):
    discriminator = Discriminator(network()).to(DEVICE)
    with DeviceMode() as mode:
        partial = torch.where(batch.sites > 0, -1, batch.sites)
        losses(discriminator, batch.sites, partial, torch.ones_like(batch.rows)).sum().backward()
    assert mode.syncs == {}


def test_sampling_never_waits(model):
    with torch.no_grad(), shortcuts(False), DeviceMode() as mode:
        start = model.start(torch.arange(3, device=DEVICE), 0)
        sample(model.ardm(), *start)
    assert mode.syncs == {}


def guided(model, potential):
    start = model.start(torch.arange(6, device=DEVICE), 0)
    groups = [values.view(2, 3, -1) for values in start]
    generator = keyed_generator(0, 1, device=DEVICE)
    done = run(model.ardm(), potential, *groups, propose=fully_adapted, generator=generator)
    noise = torch.full((2,), 0.5, device=DEVICE, dtype=torch.float64)
    return done, select(done, noise), sample(Guided(model.ardm(), potential), *start)


def test_guided_sampling_waits_twice_a_site_and_makes_nothing_elsewhere(model):
    """Twice for the last site of a molecule, which is judged on complete objects."""
    torch.manual_seed(1)
    potential = Discriminator(network()).eval().to(DEVICE)
    with torch.no_grad(), shortcuts(False), DeviceMode() as mode:
        done, *_ = guided(model, potential)
    assert sum(mode.syncs.values()) <= 5 * done.sites.shape[-1], mode.syncs


def test_shortcuts_change_nothing(model):
    torch.manual_seed(1)
    potential = LateStart(Discriminator(network()).eval().to(DEVICE), 3)
    with torch.no_grad(), shortcuts(True):
        done, chosen, alone = guided(model, potential)
    with torch.no_grad(), shortcuts(False):
        other = guided(model, potential)
    assert torch.equal(done.sites, other[0].sites)
    torch.testing.assert_close(done.log_weights, other[0].log_weights, rtol=0, atol=1e-5)
    assert torch.equal(chosen, other[1])
    assert torch.equal(alone.sites, other[2].sites)


def test_completable_graphs_are_the_same_everywhere():
    generator = torch.Generator().manual_seed(0)
    capacities = torch.tensor(ALPHABET.capacities, device=DEVICE)
    for size in (1, 2, 4, 7):
        shape = (400, size * (size - 1) // 2)
        nodes = torch.randint(-1, 8, (400, size), generator=generator)
        orders = torch.randint(-1, 3, shape, generator=generator)
        thin = torch.rand(shape, generator=generator) < 0.6
        sites = torch.cat([nodes, torch.where(thin & (orders > 0), 0, orders)], 1).to(DEVICE)
        with shortcuts(True):
            expected = completable(sites, capacities)
        with shortcuts(False):
            assert torch.equal(completable(sites, capacities), expected)
        assert size < 3 or 0 < int(expected.sum()) < 400
