import pytest
import torch

from diffsmc.checkpoints import CheckpointError
from diffsmc.methods import Diffusion, Monitor, Tempering
from diffsmc.potentials import MonteCarloPotential
from diffsmc.reference_mixture import MixtureDiffusion, MixtureFit, ReferenceMixture
from diffsmc.resume import RunStore
from diffsmc.selection import Automatic
from diffsmc.targets import correlated_gaussian

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
