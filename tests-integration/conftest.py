"""Wheels of the four packages, and environments that hold one of them or all."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "packages" / "constraints.txt"
ERA5 = ROOT.parent / "shared" / "data" / "era5_uk_2m_temperature_2019-03.nc"
MODULES = {
    "ardm-guidance": "ardm_guidance",
    "neural-lam": "neural_lam",
    "diffsmc": "diffsmc",
    "latentgeom": "latentgeom",
}


def pytest_configure(config):
    # The environment of the session needs nothing of ours: everything is asked of wheels.
    os.environ["PYTHONPATH"] = ""
    os.environ["OMP_NUM_THREADS"] = "1"


def uv(*arguments, **options):
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


class Environment(NamedTuple):
    """A virtual environment."""

    folder: Path

    @property
    def python(self):
        return self.folder / "bin" / "python"

    def run(self, *command, **options):
        """Run a command of the environment, in an empty folder of its own."""
        program = [str(self.folder / "bin" / command[0]), *map(str, command[1:])]
        work = self.folder.parent / "work"
        work.mkdir(exist_ok=True)
        defaults = {"capture_output": True, "text": True, "cwd": work}
        return subprocess.run(program, **{**defaults, **options})


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """The wheel of each distribution, built from a clean copy of the tracked files."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in MODULES:
        uv(
            "build",
            "--wheel",
            "--quiet",
            "--out-dir",
            folder / package,
            ROOT / "packages" / package,
        )
    return {package: next((folder / package).glob("*.whl")) for package in MODULES}


def make_environment(folder, *installed):
    environment = Environment(folder / "venv")
    uv("venv", "--quiet", "--python", sys.executable, environment.folder)
    install = ("pip", "install", "--quiet", "--python", environment.python, "-c", CONSTRAINTS)
    uv(*install, "torch")
    uv(*install, *installed)
    return environment


@pytest.fixture(scope="session", params=list(MODULES))
def alone(request, wheels, tmp_path_factory):
    """``(package, environment)``: a fresh environment that holds one distribution."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, make_environment(folder, wheels[request.param])


@pytest.fixture(scope="session")
def together(wheels, tmp_path_factory):
    """A fresh environment that holds all four."""
    return make_environment(tmp_path_factory.mktemp("together"), *wheels.values())


def pytest_addoption(parser):
    parser.addoption("--write-page", action="store_true", help="write docs/guides/faults.md anew")
