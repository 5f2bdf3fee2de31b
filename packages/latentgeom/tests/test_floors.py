"""Folders are floors: imports between them go down only."""

import ast
from pathlib import Path

import pytest

import latentgeom

PACKAGE = Path(latentgeom.__file__).parent
FLOORS = (
    "shell",
    "metrics",
    "immersions",
    "relaxation",
    "solvers",
    "pullback",
    "pairs",
    "models",
    "data",
    "reports",
    "training",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path):
    """Modules of this package that a file imports, wherever in it; not those for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "latentgeom":
            inside = node.module.removeprefix("latentgeom").lstrip(".")
            for alias in node.names:
                deeper = f"{inside}.{alias.name}".lstrip(".")
                found.add(deeper if deeper in MODULES else inside)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("latentgeom.")
                for alias in node.names
                if alias.name.startswith("latentgeom.")
            }
    return found - {""}


MODULES = {module_of(path) for path in FILES}
GRAPH = {module_of(path): imports_of(path) for path in FILES if module_of(path)}


def test_every_folder_is_a_floor():
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in FILES} - {"."}
    assert folders == set(FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor):
    allowed = set(FLOORS[: FLOORS.index(floor) + 1])
    upward = {
        (module, other)
        for module, others in GRAPH.items()
        for other in others
        if module.split(".")[0] == floor and other.split(".")[0] not in allowed
    }
    assert not upward


def test_no_file_imports_itself_by_a_detour():
    done, open_ = set(), []

    def visit(module):
        assert module not in open_, f"circle: {[*open_, module]}"
        if module in done:
            return
        open_.append(module)
        for other in GRAPH.get(module, ()):
            visit(other)
        open_.pop()
        done.add(module)

    for module in GRAPH:
        visit(module)


def test_no_file_has_two_subjects():
    long = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if len(path.read_text().splitlines()) > 400
    }
    assert not long


def test_rooms_have_no_more_than_ten_files():
    for floor in FLOORS:
        files = [path for path in (PACKAGE / floor).glob("*.py") if path.name != "__init__.py"]
        # The ground floor is the same in all four packages of the workspace.
        assert 2 <= len(files) <= (16 if floor == "shell" else 10), floor
