"""Rooms of the package: imports between them go down only, and nothing is in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "diffsmc"
# from the ground up; what stands in the package's folder itself is the roof
FLOORS = (
    "shell", "targets", "smc", "references", "potentials", "paths", "results", "methods",
    "training",
)  # fmt: skip
LONG = 400


def modules():
    return {
        ".".join(("diffsmc", *path.relative_to(SOURCE).with_suffix("").parts)): path
        for path in sorted(SOURCE.rglob("*.py"))
        if path.name != "__init__.py"
    }


def imports(path):
    """Modules of the package that a file names anywhere but under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {node.module, *full}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name in modules()}


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) == 3 else "roof"


def test_every_folder_is_a_floor():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms == set(FLOORS)
    assert all(len(module.split(".")) <= 3 for module in modules())


def test_imports_go_down_only():
    height = {name: k for k, name in enumerate((*FLOORS, "roof"))}
    upward = [
        (module, other)
        for module, path in modules().items()
        for other in imports(path)
        if height[room(other)] > height[room(module)]
    ]
    assert not upward


def test_the_shell_knows_nothing_of_the_package():
    for module, path in modules().items():
        if room(module) == "shell":
            assert {room(other) for other in imports(path)} <= {"shell"}, module


def test_no_files_are_in_a_circle():
    graph = {module: imports(path) - {module} for module, path in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_file_has_two_subjects(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONG
