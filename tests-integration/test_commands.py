"""The command line is the same in all four: fast help, shipped configurations, one-line errors."""

import time

import pytest
import yaml
from conftest import MODULES, ROOT

CONFIGS = [
    (package, path.name)
    for package in MODULES
    for path in sorted((ROOT / "packages" / package / "configs").glob("*.yaml"))
]


# Configurations whose data are made or taken from a file first, by the package's own verb.
ERA5 = ROOT.parent / "shared" / "data" / "era5_uk_2m_temperature_2019-03.nc"
PREPARATIONS = {
    ("neural-lam", "two-layer-qg.yaml"): ["--name", "two-layer-qg", "--days", "20"],
    ("neural-lam", "era5-uk.yaml"): ["--name", "era5-uk", "--source", ERA5],
}


def first_fit_config(package):
    """A shipped configuration that has a model to fit."""
    for name in (name for owner, name in CONFIGS if owner == package):
        content = yaml.safe_load((ROOT / "packages" / package / "configs" / name).read_text())
        if "model" in content:
            return name, content
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


@pytest.mark.parametrize(("package", "name"), CONFIGS)
def test_a_shipped_configuration_parses_and_trains_two_steps(together, package, name, tmp_path):
    content = yaml.safe_load((ROOT / "packages" / package / "configs" / name).read_text())
    if "model" not in content:
        pytest.skip("a configuration of an own verb: the package's tests run it")
    if options := PREPARATIONS.get((package, name)):
        if ERA5 in options and not ERA5.is_file():
            pytest.skip(f"the data of {name} aren't here: {ERA5.name}")
        output = content["data"]["init_args"]["path"]
        made = together.run(package, "example-data", *options, "--output", output, cwd=tmp_path)
        assert made.returncode == 0, made.stderr[-3000:]
    done = together.run(
        package, "fit", "--config", name, "--trainer.fast_dev_run", "2",
        "--trainer.accelerator", "cpu", "--trainer.default_root_dir", tmp_path, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


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
