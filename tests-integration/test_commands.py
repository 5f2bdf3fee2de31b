"""The command line is the same in all four: fast help, shipped configurations, one-line errors."""

import math
import time

import pytest
import yaml
from conftest import ERA5, MODULES, ROOT

CONFIGS = [
    (package, path)
    for package in MODULES
    for path in sorted((ROOT / "packages" / package / "configs").rglob("*.yaml"))
]


# What some configurations need first is made by the package's own verbs.
ERA5_FIRST = [f"example-data --name era5-uk --source {ERA5} --output out/neural-lam/era5-uk.zarr"]
PREPARATIONS = {
    "two-layer-qg.yaml": [
        "example-data --name two-layer-qg --days 60 --precision single"
        " --output out/neural-lam/two-layer-qg.zarr"
    ],
    "two-layer-qg-conv.yaml": [
        "example-data --name two-layer-qg --days 60 --precision single"
        " --output out/neural-lam/two-layer-qg-long.zarr"
    ],
    "two-layer-qg-conv-raw.yaml": [
        "example-data --name two-layer-qg --days 60 --precision single"
        " --output out/neural-lam/two-layer-qg-long.zarr"
    ],
    "two-layer-qg-long.yaml": [
        "example-data --name two-layer-qg --days 60 --precision single"
        " --output out/neural-lam/two-layer-qg-long.zarr"
    ],
    "era5-uk.yaml": ERA5_FIRST,
    "era5-uk-direct.yaml": ERA5_FIRST,
    "qm9-discriminator.yaml": [
        "fit --config qm9.yaml --trainer.max_steps 2 --trainer.limit_val_batches 1",
        "negatives --config qm9.yaml --ckpt_path out/ardm-guidance/checkpoints/last.ckpt"
        " --num_samples 100",
    ],
    "qm9-shared-discriminator.yaml": [
        "fit --config qm9.yaml --trainer.max_steps 2 --trainer.limit_val_batches 1",
        "negatives --config qm9.yaml --ckpt_path out/ardm-guidance/checkpoints/last.ckpt"
        " --num_samples 100",
    ],
}


# Data of packages that this environment leaves out: the molecules that come along stand in.
OPTIONS = {
    "qm9-full.yaml": ["--data.source", "qm9-sample"],
    "moses.yaml": ["--data.source", "qm9-sample"],
    "array.yaml": ["--data.path", "points.csv"],
}


def first_fit_config(package):
    """A shipped configuration that has a model to fit."""
    for path in (path for owner, path in CONFIGS if owner == package):
        content = yaml.safe_load(path.read_text())
        if "model" in content:
            return path.name, content
    raise AssertionError(f"{package} ships no configuration to fit")


@pytest.mark.parametrize("package", MODULES)
def test_help_takes_half_a_second_at_most(together, package):
    together.run(package, "--help")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = together.run(package, "--help")
        times.append(time.perf_counter() - start)
        assert done.returncode == 0
    assert min(times) <= 0.5
    as_module = together.run("python", "-m", MODULES[package], "--help")
    assert (as_module.returncode, as_module.stdout) == (0, done.stdout)


@pytest.mark.parametrize("package", MODULES)
def test_help_and_import_leave_torch_alone(together, package):
    module = MODULES[package]
    program = (
        f"import sys, {module}, {module}.__main__ as command\n"
        "command.main(['--help'])\n"
        "print([n for n in ('torch', 'lightning', 'numpy') if n in sys.modules])"
    )
    done = together.run("python", "-c", program)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr


def fit_two_steps(environment, package, name, folder, *options):
    # Of the configurations for one's own arrays.
    lines = (f"{k / 60},{math.sin(k)},{math.cos(k)}" for k in range(60))
    (folder / "points.csv").write_text("x,y,z\n" + "\n".join(lines) + "\n")
    for command in PREPARATIONS.get(name, []):
        made = environment.run(package, *command.split(), cwd=folder)
        assert made.returncode == 0, made.stderr[-3000:]
    two_steps = ("--trainer.fast_dev_run", "2", "--trainer.accelerator", "cpu")
    options = (*OPTIONS.get(name, []), *options)
    done = environment.run(package, "fit", "--config", name, *two_steps, *options, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(("package", "path"), CONFIGS, ids=[path.name for _, path in CONFIGS])
def test_a_shipped_configuration_parses_and_trains_two_steps(together, package, path, tmp_path):
    if "model" not in yaml.safe_load(path.read_text()):
        pytest.skip("a configuration of an own verb: the package's tests run it")
    if PREPARATIONS.get(path.name) == ERA5_FIRST and not ERA5.is_file():
        pytest.skip(f"the fields aren't here: {ERA5.name}")
    fit_two_steps(together, package, path.name, tmp_path)


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("ardm-guidance", "qm9.yaml"),
        ("neural-lam", "two-layer-qg.yaml"),
        ("diffsmc", "breast_cancer_potential.yaml"),
        ("latentgeom", "digits-hyperbolic.yaml"),
    ],
)
def test_fit_runs_on_two_devices_launched_as_processes(together, package, name, tmp_path):
    devices = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    fit_two_steps(together, package, name, tmp_path, *devices)


@pytest.mark.parametrize("package", MODULES)
def test_a_class_of_the_user_stands_where_the_command_is_run(together, package, tmp_path):
    _, content = first_fit_config(package)
    module, _, name = content["model"]["class_path"].rpartition(".")
    (tmp_path / "mine.py").write_text(
        f"from {module} import {name}\n\nclass Mine({name}):\n    pass\n"
    )
    content["model"]["class_path"] = "mine.Mine"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    done = together.run(package, "fit", "--config", path, "--print_config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "class_path: mine.Mine" in done.stdout


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("package", MODULES)
def test_a_misspelt_key_gets_one_line(together, package, tmp_path):
    name, content = first_fit_config(package)
    content.setdefault("trainer", {})["max_epoch"] = 1
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content))
    done = together.run(package, "fit", "--config", path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    expected = f"{path}: trainer.max_epoch: not accepted; did you mean 'max_epochs'?"
    assert done.stderr.strip() == f"{package}: {expected}"


@pytest.mark.parametrize("package", MODULES)
def test_a_wrong_type_gets_one_line(together, package, tmp_path):
    name, content = first_fit_config(package)
    content.setdefault("trainer", {})["max_epochs"] = "many"
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content))
    done = together.run(package, "fit", "--config", path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"{package}: {path}: trainer.max_epochs: expected int, got many"


@pytest.mark.parametrize("package", MODULES)
def test_a_missing_file_gets_one_line(together, package):
    name, _ = first_fit_config(package)
    done = together.run(package, "fit", "--config", name.replace(".yaml", ".yml"))
    assert done.returncode == 2
    assert last_line(done).startswith(f"{package}: {name.replace('.yaml', '.yml')}: no such file")
    assert repr(name) in last_line(done)


@pytest.mark.parametrize("package", MODULES)
def test_an_unknown_verb_gets_one_line(together, package):
    done = together.run(package, "fitt")
    assert done.returncode == 2
    assert done.stderr.strip() == f"{package}: fitt: not a verb; did you mean 'fit'?"


@pytest.mark.parametrize("package", MODULES)
def test_version_is_the_distribution_s(together, package):
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    version = together.run("python", "-c", program).stdout.strip()
    assert together.run(package, "--version").stdout.strip() == f"{package} {version}"
