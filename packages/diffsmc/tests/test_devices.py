"""Nothing is made on the CPU beside a target on a device; what waits for the host is counted."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

import diffsmc
from diffsmc import (
    HMC,
    MALA,
    PCN,
    RWM,
    ULA,
    Automatic,
    Diffusion,
    Funnel,
    LogDensity,
    MixtureDiffusion,
    MixtureFit,
    ReferenceMixture,
    Tempering,
    two_modes,
)
from diffsmc.__main__ import main
from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import isotropic
from diffsmc.smc.engine import Settings, start, step
from diffsmc.smc.schedules import FixedSchedule

spec = importlib.util.spec_from_file_location(
    "device_mode", Path(__file__).with_name("device_mode.py")
)
device_mode = importlib.util.module_from_spec(spec)
spec.loader.exec_module(device_mode)
DeviceMode = device_mode.DeviceMode
# `nox -s gpu` runs the same jobs there
DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))

SMALL = MixtureFit(num_chains=30, search_moves=9, revisit_chains=24, revisit_moves=6)
METHODS = {
    "automatic": Automatic(),
    "pilot": Automatic(mixture=ReferenceMixture(SMALL), climb=False),
    "bridge": ReferenceMixture(SMALL, importance_ess=1.0),
    "tempering": Tempering(0.5),
    "waste-free": Tempering(0.5, move=RWM(), chain_length=5),
    "diffusion": Diffusion(num_steps=4),
    "piloted diffusion": Diffusion(num_steps=4, pilot=Tempering(0.5), pilot_particles=50),
    "mixture diffusion": MixtureDiffusion(ReferenceMixture(SMALL), num_steps=4),
}


@pytest.fixture
def generator():
    return torch.Generator(DEVICE).manual_seed(0)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_made_beside_the_target(name, generator):
    target = two_modes(2).to(DEVICE)
    with DeviceMode():
        result = METHODS[name].run(target, 2, 40, generator=generator)
    assert bool(result.log_normalizers.isfinite().all())
    assert {result.particles.device.type, result.log_weights.device.type} == {DEVICE.type}
    assert result.summary()
    assert result.to_inference_data() is not None


def test_a_funnel_and_a_posterior_stay_on_their_device(generator):
    from torch.distributions import Normal, constraints

    space = {"mu": diffsmc.Parameter(), "tau": diffsmc.Parameter(constraints.positive)}
    target = diffsmc.Posterior(
        space,
        lambda p: Normal(0.0, 1.0).log_prob(p["mu"]) - p["tau"],
        lambda p: Normal(p["mu"], 1.0).log_prob(p["tau"]),
    ).to(DEVICE)
    with DeviceMode():
        METHODS["pilot"].run(Funnel(4).to(DEVICE), 2, 40, generator=generator)
    # torch.distributions makes tensors of its own numbers: those of the package are looked at
    METHODS["automatic"].run(target, 2, 40, generator=generator)


def test_the_command_line_chooses_the_device(tmp_path, capsys):
    command = ["sample", "--target", "diffsmc.two_modes", "--num_particles", "100"]
    assert main([*command, "--device", "auto", "--output", str(tmp_path / "a.nc")]) == 0
    capsys.readouterr()
    assert main([*command, "--device", "cuda:77", "--output", str(tmp_path / "b.nc")]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "device 'cuda:77' can't be used here" in told
    assert not (tmp_path / "b.nc").exists()


def test_a_generator_elsewhere_is_refused():
    class Elsewhere(LogDensity):
        pass

    target = Elsewhere(lambda x: -x.square().sum(-1), 2).to("meta")
    with pytest.raises(ValueError, match="generator must be on the target's device, meta, got cpu"):
        Tempering().run(target, 2, 10, generator=torch.Generator())


@pytest.mark.parametrize(
    "move", [HMC(4), MALA(), ULA(), RWM(), PCN()], ids=lambda m: type(m).__name__
)
def test_a_step_waits_a_fixed_number_of_times(move, generator):
    """Two checks of validity, the level, and what resampling asks: the same for any sizes."""
    target = two_modes(2).to(DEVICE)
    path = TemperedPath(
        target, isotropic(2, 3.0, like=target.start_mean), gradient=move.uses_gradient
    )
    counts = []
    for num in (20, 200):
        settings = Settings(move, num_moves=1)
        state = start(path, settings, 3, num, generator=generator)
        with DeviceMode() as mode:
            step(state, path, FixedSchedule([0.0, 0.01, 1.0]), settings, generator=generator)
        counts.append(sum(mode.syncs.values()))
    assert counts[0] == counts[1] <= 6
