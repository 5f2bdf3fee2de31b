"""Each wheel holds what it needs, works alone, and gets along with the other three."""

import json
import re
import zipfile

import pytest
from conftest import MODULES, ROOT, uv


@pytest.mark.parametrize("package", MODULES)
def test_a_wheel_holds_code_types_configurations_and_licence(wheels, package):
    names = set(zipfile.ZipFile(wheels[package]).namelist())
    module = MODULES[package]
    folder = ROOT / "packages" / package
    configs = {str(path.relative_to(folder)) for path in folder.glob("configs/**/*.yaml")}
    assert configs
    assert {f"{module}/{name}" for name in configs} <= names
    assert {f"{module}/py.typed", f"{module}/__main__.py"} <= names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {module}


def test_a_wheel_installed_alone_brings_none_of_the_others(alone):
    package, environment = alone
    program = (
        "import importlib.util as u, sys\n"
        "print(*[name for name in sys.argv[1:] if u.find_spec(name)])"
    )
    done = environment.run("python", "-c", program, *MODULES.values())
    assert done.stdout.split() == [MODULES[package]], done.stderr
    uv("pip", "check", "--python", environment.python)


def test_a_wheel_was_installed_from_its_file(alone):
    package, environment = alone
    program = (
        "import importlib.metadata as m, sys\n"
        "print(m.distribution(sys.argv[1]).read_text('direct_url.json'))"
    )
    done = environment.run("python", "-c", program, package)
    assert json.loads(done.stdout)["url"].startswith("file://")


def test_public_names_stay_what_they_are_once_all_modules_are_imported(alone):
    """A function of a module's name would be replaced by the module when that is imported."""
    package, environment = alone
    module = MODULES[package]
    program = (
        f"import importlib, pkgutil, types, {module}\n"
        f"for found in pkgutil.walk_packages({module}.__path__, '{module}.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        f"for name in {module}.__all__:\n"
        f"    assert not isinstance(getattr({module}, name), types.ModuleType), name"
    )
    done = environment.run("python", "-W", "ignore", "-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", MODULES)
def test_the_python_of_a_readme_runs(together, package, tmp_path):
    text = (ROOT / "packages" / package / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    if package == "neural-lam":
        data = "example-data --name two-layer-qg --days 60 --precision single"
        output = ("--output", "out/neural-lam/two-layer-qg.zarr")
        assert together.run(package, *data.split(), *output, cwd=tmp_path).returncode == 0
    done = together.run("python", "-W", "ignore", "-c", "\n".join(blocks), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_four_get_along(together):
    uv("pip", "check", "--python", together.python)
    program = f"import {', '.join(MODULES.values())}"
    assert together.run("python", "-c", program).returncode == 0


def test_no_accelerator_build_replaced_the_pinned_torch(together):
    program = "import torch; print(torch.__version__)"
    version = together.run("python", "-c", program).stdout.strip()
    pinned = (ROOT / "packages" / "constraints.txt").read_text()
    assert f"torch=={version.split('+')[0]}\n" in pinned
