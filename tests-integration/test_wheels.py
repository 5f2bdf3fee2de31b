"""Each wheel holds what it needs, works alone, and gets along with the other three."""

import json
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


def test_all_public_names_import(alone):
    package, environment = alone
    module = MODULES[package]
    program = f"import {module}\nfor name in {module}.__all__: getattr({module}, name)"
    done = environment.run("python", "-W", "ignore", "-c", program)
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
