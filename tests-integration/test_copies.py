"""The shell is the same in all four but for the package's name: a fault is mended everywhere."""

import pytest
from conftest import MODULES, ROOT

FIRST, *OTHERS = MODULES
# Of the source: the ground floor. Of the tests: what holds it.
PARTS = ("src/{module}/shell", "tests/shell")


def copies(package, part):
    folder = ROOT / "packages" / package / part.format(module=MODULES[package])
    files = sorted(folder.glob("*.py"))
    assert files, folder
    return {path.name: anonymous(package, path.read_text(encoding="utf-8")) for path in files}


def anonymous(package, text):
    """A text without its package's name, and without what a longer name moves."""
    text = text.replace(MODULES[package], "PACKAGE").replace(package, "PACKAGE")
    return "".join(text.split()).replace(",)", ")").replace("import(", "import").replace(")", "")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("package", OTHERS)
def test_the_shell_is_the_same_in_all_four(package, part):
    ours, others = copies(FIRST, part), copies(package, part)
    assert ours.keys() == others.keys()
    assert [name for name in ours if ours[name] != others[name]] == []


@pytest.mark.parametrize("package", OTHERS)
def test_the_clock_of_the_devices_is_the_same_in_all_four(package):
    first, other = (ROOT / "packages" / name / "bench/on_device.py" for name in (FIRST, package))
    assert first.read_text(encoding="utf-8") == other.read_text(encoding="utf-8")


def test_a_changed_line_would_be_seen():
    text = "def f(x):\n    return x + 1\n"
    assert anonymous(FIRST, text) != anonymous(FIRST, text.replace("+ 1", "+ 2"))


@pytest.mark.parametrize("package", MODULES)
def test_the_shell_imports_nothing_else_of_its_package(package):
    module = MODULES[package]
    for path in (ROOT / "packages" / package / "src" / module / "shell").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        own = [
            line
            for line in lines
            if line.lstrip().startswith(("from " + module, "import " + module))
        ]
        assert all(f"{module}.shell." in line for line in own), path
