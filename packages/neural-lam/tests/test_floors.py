"""The house: imports between rooms go down only, and no file holds two subjects."""

import ast
from pathlib import Path

import pytest

import neural_lam

ROOT = Path(neural_lam.__file__).parent
FLOORS = (
    "cli",
    "training",
    "verification",
    "data",
    "fields",
    "predictors",
    "upstream",
    "networks",
    "graphs",
    "known_answers",
    "shell",
)
ROOF = ("__init__", "__main__", "cli", "verbs")
FILES = sorted(path for path in ROOT.rglob("*.py") if "configs" not in path.parts)
# Files that still have more than 400 lines.
LONG: set[str] = set()


def _room(parts):
    return "cli" if parts[0] in ROOF else parts[0]


def _imports(path):
    """Modules of the package that a file imports, as parts below its top."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neural_lam"):
            parts = node.module.split(".")[1:]
            if not parts:
                continue
            for alias in node.names:
                # A file is imported from its folder by name.
                inside = (ROOT.joinpath(*parts) / f"{alias.name}.py").is_file()
                yield (*parts, alias.name) if inside else tuple(parts)


def _edges():
    for path in FILES:
        if path.name == "__init__.py" and path.parent == ROOT:
            continue
        own = path.relative_to(ROOT).with_suffix("").parts
        for other in _imports(path):
            yield own, other


def test_every_folder_is_a_room():
    rooms = {path.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT}
    assert rooms == set(FLOORS) - {"cli"}
    assert {path.stem for path in FILES if path.parent == ROOT} == set(ROOF)
    assert all(len(path.relative_to(ROOT).parts) <= 2 for path in FILES)


def test_imports_between_rooms_go_down():
    # The shell's commands name the Trainer's callbacks until the roof does.
    exempt = {("shell", "commands")}
    for own, other in _edges():
        above, below = _room(own), _room(other)
        if own not in exempt and above != below:
            assert FLOORS.index(above) < FLOORS.index(below), f"{own} imports {other}"


def test_no_file_imports_in_a_circle():
    graph = {}
    for own, other in _edges():
        if own != ("shell", "commands"):
            graph.setdefault(own, set()).add(other)

    def walk(node, trail):
        assert node not in trail, " -> ".join("/".join(n) for n in (*trail, node))
        for following in graph.get(node, ()):
            if following not in done:
                walk(following, (*trail, node))
        done.add(node)

    done = set()
    for start in list(graph):
        walk(start, ())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_below_400_lines(path):
    if str(path.relative_to(ROOT)) not in LONG:
        assert len(path.read_text().splitlines()) <= 400


def test_rooms_have_at_most_a_dozen_files():
    for room in FLOORS[1:-1]:  # the ground floor is the same in all four packages
        count = len([path for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"])
        assert count <= 12, room
