"""The public names: one list for the machine, one for editors, and nothing deeper is needed."""

import ast
import re
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path

import pytest

import ardm_guidance as package

NAME = package.__name__
SOURCE = Path(package.__file__)
HOME = Path(__file__).parents[1]


def typed():
    """Names and modules of the re-exports that type checkers read."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname: node.module.removeprefix(f"{NAME}.")
        for node in block.body
        for alias in node.names
        if alias.name == alias.asname
    }


def test_both_lists_agree():
    assert typed() == package._EXPORTS


@pytest.mark.parametrize("name", sorted(package._EXPORTS))
def test_every_public_name_is_an_object_that_says_what_it_is(name):
    found = getattr(package, name)
    assert not isinstance(found, types.ModuleType)
    assert name in dir(package)
    assert callable(found)
    assert found.__doc__


def test_every_module_says_what_it_exports():
    for path in SOURCE.parent.rglob("[a-z]*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = import_module(".".join([NAME, *parts]))
        assert module.__doc__
        assert all(hasattr(module, name) for name in module.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(package, "nothing")


def test_what_users_read_names_nothing_below_the_top():
    """A layout that no configuration, README or page of the documentation names may change."""
    docs = HOME.parents[1] / "docs"
    files = [*HOME.glob("configs/**/*.yaml"), HOME / "README.md", *docs.glob(f"{HOME.name}/*.md")]
    deeper = re.compile(rf"\b{NAME}\.[a-z_]+\.\w+")
    found = {str(path): deeper.findall(path.read_text(encoding="utf-8")) for path in files}
    assert len(files) > 3
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.slow
def test_mypy_refuses_a_wrong_keyword(tmp_path):
    pytest.importorskip("mypy")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        f"import {NAME}\n\n"
        f"{NAME}.GraphTransformer(num_node_classes=4, num_edge_classes=4, max_nodes=9)\n"
        f"{NAME}.GraphTransformer(4, 4, 9, nonsense=3)\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(snippet)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert 'snippet.py:4: error: Unexpected keyword argument "nonsense"' in errors[0]
