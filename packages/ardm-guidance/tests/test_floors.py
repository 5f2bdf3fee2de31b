"""The rooms of the package: imports between them go down only, and no file has two subjects."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ardm_guidance as package

NAME = package.__name__
HOME = Path(package.__file__).parent
# From the roof down; a room imports from rooms to its right.
FLOORS = ["roof", "training", "scores", "data", "methods", "guidance", "models", "sites", "shell"]
FILES = sorted(HOME.rglob("*.py"))


def module_of(path):
    return ".".join(path.relative_to(HOME).with_suffix("").parts)


MODULES = {module_of(path) for path in FILES}


def room(module):
    return module.partition(".")[0] if "." in module else "roof"


def imported(path, lazy=True):
    """Modules of the package that a file imports; without those inside functions if not lazy."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{NAME}."):
            base = node.module.removeprefix(f"{NAME}.")
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in MODULES else base


def test_every_file_lies_in_a_known_room():
    assert {room(module_of(path)) for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down_only(path):
    here = room(module_of(path))
    below = FLOORS[FLOORS.index(here) :]
    if path == HOME / "__init__.py":
        return
    found = {other: room(other) for other in imported(path)}
    assert not {other: floor for other, floor in found.items() if floor not in below}


def test_the_ground_floor_knows_nothing_of_the_package():
    for path in (HOME / "shell").glob("*.py"):
        assert {room(other) for other in imported(path)} <= {"shell"}


def test_no_files_import_each_other():
    graph = {
        module_of(path): set(imported(path, lazy=False))
        for path in FILES
        if path.name != "__init__.py"
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_file_has_more_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
