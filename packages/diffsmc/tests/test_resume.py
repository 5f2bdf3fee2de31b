import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

from diffsmc import correlated_gaussian
from diffsmc.methods.automatic import Automatic
from diffsmc.methods.denoising import Diffusion
from diffsmc.methods.method import Monitor
from diffsmc.methods.mixture_diffusion import MixtureDiffusion
from diffsmc.methods.mixture_fit import MixtureFit
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.resume import RunStore
from diffsmc.methods.tempering import Tempering
from diffsmc.potentials.monte_carlo import MonteCarloPotential
from diffsmc.results.files import read_result
from diffsmc.shell.checkpoints import CheckpointError

PILOT = Tempering(0.5, num_moves=1, adapt_islands=None)
FIT = MixtureFit(num_chains=16, search_moves=30, revisit_moves=4, weight_points=100)
METHODS = {
    "tempered": Tempering(0.6, num_moves=1),
    "diffusion": Diffusion(MonteCarloPotential(4), 6, pilot=PILOT, pilot_particles=60),
    "bridge": ReferenceMixture(FIT, target_ess=0.99, importance_ess=1.0),
    "mixture diffusion": MixtureDiffusion(ReferenceMixture(FIT, target_ess=0.99), num_steps=4),
    "automatic": Automatic(Tempering(0.6, num_moves=1), importance_ess=1.0),
}


class Killed(Exception):
    pass


def run(method, monitor=None):
    generator = torch.Generator().manual_seed(3)
    target = correlated_gaussian(3)
    return method.run(target, 3, 40, generator=generator, monitor=monitor or Monitor())


def killed_after(steps):
    left = [steps]

    def report(name, state, info):
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return report


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_resumes_bit_for_bit(name, tmp_path):
    whole = run(METHODS[name])
    steps, path = 0, tmp_path / "run"
    while True:
        try:
            store = RunStore(path, "same", every_seconds=0.0)
            resumed = run(METHODS[name], Monitor(killed_after(2), store))
            break
        except Killed:
            steps += 1
    assert steps > 1
    assert torch.equal(resumed.particles, whole.particles)
    assert torch.equal(resumed.log_weights, whole.log_weights)
    assert torch.equal(resumed.log_normalizers, whole.log_normalizers)
    assert len(resumed.history) == len(whole.history)
    for a, b in zip(resumed.history, whole.history, strict=True):
        assert torch.equal(a.ess, b.ess)
        assert torch.equal(a.mass.factor, b.mass.factor)


def test_another_run_is_refused(tmp_path):
    run(METHODS["tempered"], Monitor(store=RunStore(tmp_path / "run", "one", 0.0)))
    with pytest.raises(CheckpointError, match="belongs to a run with other settings"):
        RunStore(tmp_path / "run", "two")


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "run").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        RunStore(tmp_path / "run", "one")


def test_writes_are_spaced_in_time(tmp_path):
    store = RunStore(tmp_path / "run", "one", every_seconds=1e9)
    with pytest.raises(Killed):
        run(METHODS["tempered"], Monitor(killed_after(2), store))
    assert not (tmp_path / "run").exists()


def test_a_finished_run_leaves_no_file(tmp_path):
    store = RunStore(tmp_path / "run", "one", 0.0)
    run(METHODS["tempered"], Monitor(store=store))
    store.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_process_killed_by_the_system_resumes_bit_for_bit(tmp_path):
    """SIGKILL in the second pass of `diffsmc sample`; the same command goes on."""

    def command(name):
        asked = {
            "target": {"class_path": "diffsmc.Funnel", "init_args": {"dim": 10}},
            "method": {"class_path": "diffsmc.Tempering", "init_args": {"adapt_islands": 1}},
            "num_islands": 4,
            "num_particles": 2000,
            "output": str(tmp_path / f"{name}.nc"),
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(asked))
        config = str(tmp_path / f"{name}.yaml")
        return [sys.executable, "-m", "diffsmc", "sample", "--config", config]

    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed.nc.run").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.nc").exists()
    subprocess.run(command("killed"), check=True, capture_output=True)
    assert not (tmp_path / "killed.nc.run").exists()
    whole, resumed = (read_result(tmp_path / f"{name}.nc") for name in ("whole", "killed"))
    for group in whole.groups():
        for name, values in whole[group].variables.items():
            assert np.array_equal(values.values, resumed[group][name].values), (group, name)
