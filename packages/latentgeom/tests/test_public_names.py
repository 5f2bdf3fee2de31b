import ast
import inspect
import re
from pathlib import Path

import pytest
from mypy import api

import latentgeom

PACKAGE = Path(latentgeom.__file__).parent
ROOT = Path(__file__).parents[1]


def typed_names():
    """Names that type checkers see, with the modules they come from."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guard = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname: node.module.removeprefix("latentgeom.")
        for node in guard.body
        for alias in node.names
    }


def test_both_lists_agree():
    assert typed_names() == latentgeom._EXPORTS
    assert sorted(latentgeom.__all__) == sorted([*latentgeom._EXPORTS, "__version__"])


@pytest.mark.parametrize("name", sorted(latentgeom._EXPORTS))
def test_every_name_is_an_object_with_a_description(name):
    thing = getattr(latentgeom, name)
    assert not inspect.ismodule(thing)
    assert thing.__doc__
    assert name in dir(latentgeom)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'Metrik'"):
        latentgeom.Metrik  # noqa: B018


def test_no_name_is_shadowed_by_a_room():
    rooms = {path.stem for path in PACKAGE.iterdir()}
    assert not rooms & set(latentgeom._EXPORTS)


def texts():
    shared = ROOT.parents[1] / "docs"
    return [
        ROOT / "README.md",
        ROOT / "pyproject.toml",
        *sorted((ROOT / "configs").glob("*.yaml")),
        *sorted((shared / "latentgeom").glob("*.md")),
        # The page of mistakes shows names that don't exist.
        *sorted(set((shared / "guides").glob("*.md")) - {shared / "guides" / "faults.md"}),
    ]


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_texts_use_the_top_names_alone(path):
    text = path.read_text()
    if path.name == "faults.md":  # a table of mistakes, misspelt names among them
        text = text.replace("latentgeom.Spere", "")
    deeper = re.findall(r"latentgeom\.[a-z]\w*\.[A-Za-z]\w*|from latentgeom\.[\w.]+", text)
    assert not deeper
    used = re.findall(r"(?<![\w/.-])latentgeom\.([A-Za-z]\w*)", text)
    used += re.findall(r"from latentgeom import ([\w, ]+)", text)
    names = {name.strip() for entry in used for name in entry.split(",")}
    assert names - {"__main__"} <= set(latentgeom._EXPORTS)


@pytest.mark.slow
def test_a_wrong_keyword_is_refused_by_a_type_checker(tmp_path):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "import latentgeom\n"
        "latentgeom.ConstantCurvature(2, -1.0)\n"
        "latentgeom.ConstantCurvature(2, nonsense=3)\n"
    )
    out, _, code = api.run(["--strict", "--follow-imports=silent", str(snippet)])
    assert code == 1
    assert "snippet.py:3" in out
    assert 'Unexpected keyword argument "nonsense"' in out
    assert "snippet.py:2" not in out
