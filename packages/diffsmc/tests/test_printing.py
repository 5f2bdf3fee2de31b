"""``print()`` of every public object is one useful line."""

import inspect

import pytest
import torch

import diffsmc
from diffsmc.references.mixture import Mixture
from diffsmc.shell.showing import in_a_line

POINT = torch.zeros(1, 2, dtype=torch.float64)
ONE = torch.zeros(1, dtype=torch.float64)


def target():
    return diffsmc.two_modes(2)


def gaussian():
    return diffsmc.GaussianReference(POINT[0], torch.eye(2, dtype=torch.float64))


def cloud():
    return diffsmc.Cloud(POINT, ONE, ONE, POINT, POINT)


def mixture_path():
    mixture = Mixture(ONE + 1, POINT, torch.eye(2).double()[None])
    return diffsmc.MixtureDiffusionPath(target(), mixture, diffsmc.UnitRatio())


def stratified():
    mixture = Mixture(ONE + 1, POINT, torch.eye(2).double()[None])
    return diffsmc.StratifiedPath(target(), mixture)


def posterior():
    return diffsmc.Posterior({"a": diffsmc.Parameter()}, lambda p: 0 * p["a"], lambda p: -p["a"])


def trained():
    potential = diffsmc.TrainedPotential.__new__(diffsmc.TrainedPotential)
    potential.checkpoint = "potential.ckpt"
    potential.network, potential.reference = diffsmc.VectorNetwork(2), gaussian()
    return potential


# what can't be made without arguments, and what its line must hold
MADE = {
    "Cloud": (cloud, "particles=[1, 2] float64"),
    "Density": (lambda: diffsmc.Density(lambda x: cloud(), 0.5), "temperature=0.5"),
    "DiffusionPath": (
        lambda: diffsmc.DiffusionPath(diffsmc.MonteCarloPotential(8), 2, ONE), "num_draws=8"
    ),
    "Evidence": (lambda: diffsmc.Evidence(1.5, 0.1, 1.3, 1.7, 8), "log Z = 1.500, 95 % [1.300"),
    "FixedSchedule": (lambda: diffsmc.FixedSchedule([0.0, 0.3, 1.0]), "[0.0, 0.3, 1.0]"),
    "Gaussian": (lambda: diffsmc.Gaussian([0.0, 1.0]), "in 2 dimensions, log Z = 0"),
    "GaussianMixture": (target, "2 dimensions"),
    "GaussianReference": (gaussian, "mean=[0.0, 0.0]"),
    "LatticeField": (lambda: diffsmc.LatticeField([2, 2]), "4 dimensions"),
    "LearnedPotential": (lambda: diffsmc.LearnedPotential(diffsmc.VectorNetwork(2)), "Vector"),
    "LinearRegression": (lambda: diffsmc.LinearRegression([[1.0]], [2.0]), "1 dimension, log Z"),
    "LogDensity": (lambda: diffsmc.LogDensity(lambda x: -x.square().sum(-1), 3), "3 dimensions"),
    "LogGaussianCox": (lambda: diffsmc.LogGaussianCox([[1.0, 0.0], [0.0, 2.0]]), "4 dim"),
    "LogisticRegression": (lambda: diffsmc.LogisticRegression([[1.0], [2.0]], [0.0, 1.0]), "dim"),
    "Mass": (lambda: diffsmc.Mass(POINT, torch.ones(1, 2)), "factor=[1, 2] float32"),
    "MixtureDiffusionPath": (mixture_path, "UnitRatio()"),
    "MoveInfo": (lambda: diffsmc.MoveInfo(ONE + 0.5, ONE, cloud()), "acceptance=[0.5]"),
    "ParticleData": (
        lambda: diffsmc.ParticleData(target(), diffsmc.Tempering(), batch_size=32), "batch_size=32"
    ),
    "Posterior": (posterior, "1 dimension"),
    "PotentialTraining": (
        lambda: diffsmc.PotentialTraining(diffsmc.VectorNetwork(2)), "learning_rate=0.002"
    ),
    "StratifiedPath": (stratified, "target=GaussianMixture in 2 dimensions"),
    "StudentMixture": (lambda: diffsmc.StudentMixture([[0.0]], [1.0], [1.0]), "1 dimension"),
    "TemperedPath": (lambda: diffsmc.TemperedPath(target(), gaussian()), "mean=[0.0, 0.0]"),
    "TrainedPotential": (trained, "potential.ckpt"),
    "Tempering": (lambda: diffsmc.Tempering(0.7, move=diffsmc.RWM()), "move=RWM(target"),
    "VectorNetwork": (lambda: diffsmc.VectorNetwork(3, 8), "dim=3, width=8"),
}  # fmt: skip
ABSTRACT = {"Method", "MixturePotential", "Move", "Path", "Potential", "Target"}
CLASSES = [
    name
    for name in diffsmc._EXPORTS
    if inspect.isclass(getattr(diffsmc, name))
    and not issubclass(getattr(diffsmc, name), Exception)
    and name not in {*ABSTRACT, "Result"}  # whose summary takes some lines
]


@pytest.mark.filterwarnings("ignore:Attribute 'network' is an instance")
@pytest.mark.parametrize("name", CLASSES)
def test_an_object_prints_one_useful_line(name):
    make, told = MADE.get(name, (getattr(diffsmc, name), name))
    line = str(make())
    assert "\n" not in line
    assert told in line
    assert " at 0x" not in line
    assert "tensor(" not in line
    assert len(line) < 360


def test_a_state_of_many_particles_prints_shapes():
    many = torch.zeros(3, 500, 2)
    line = repr(diffsmc.Cloud(many, many[..., 0], many[..., 0], many, many))
    assert "particles=[3, 500, 2] float32, base=[3, 500] float32" in line


def test_nested_settings_stand_in_the_line():
    line = repr(diffsmc.Automatic(tempering=diffsmc.Tempering(0.5), budget=1000))
    assert "tempering=Tempering(target_ess=0.5, " in line
    assert "budget=1000" in line
    assert "resample=multinomial" in repr(diffsmc.Tempering(resample=diffsmc.multinomial))


def test_objects_print_with_the_words_of_the_shell():
    assert type(diffsmc.HMC()).__str__ is in_a_line
    assert type(diffsmc.Automatic()).__repr__ is in_a_line
