"""What users import, what configurations name, and what the type checker knows of it."""

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import neural_lam

ROOT = Path(neural_lam.__file__).parent
PACKAGE = Path(__file__).parents[1]
DOCS = PACKAGE.parents[1] / "docs"


def _typed_names():
    """Names that the type checker sees, with their modules."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    found = {}
    for line in block.body:
        (alias,) = line.names
        assert alias.asname == alias.name, alias.name
        found[alias.name] = line.module.removeprefix("neural_lam.")
    return found


def test_both_lists_of_names_agree():
    assert _typed_names() == neural_lam._EXPORTS


@pytest.mark.parametrize("name", sorted(neural_lam._EXPORTS))
def test_every_name_is_an_object_of_its_module(name):
    found = getattr(neural_lam, name)
    assert not isinstance(found, ModuleType)
    assert found.__module__ == f"neural_lam.{neural_lam._EXPORTS[name]}"


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'GraphLAMM'"):
        _ = neural_lam.GraphLAMM


def _class_paths(node):
    if isinstance(node, dict):
        for value in node.values():
            yield from _class_paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from _class_paths(value)
    elif isinstance(node, str) and node.startswith("neural_lam."):
        yield node


@pytest.mark.parametrize("path", sorted((PACKAGE / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_name_nothing_deeper_than_the_top(path):
    names = list(_class_paths(yaml.safe_load(path.read_text())))
    assert names
    for name in names:
        assert name.removeprefix("neural_lam.") in neural_lam._EXPORTS, name


def test_texts_name_nothing_deeper_than_the_top():
    texts = [PACKAGE / "README.md", *DOCS.glob("neural-lam/*.md"), *DOCS.glob("guides/*.md")]
    texts.remove(DOCS / "guides" / "faults.md")  # shows names that don't exist
    for path in texts:
        for name in re.findall(r"neural_lam\.([\w.]+)", path.read_text()):
            assert name.rstrip(".") in neural_lam._EXPORTS, f"{path.name}: neural_lam.{name}"
        for names in re.findall(r"from neural_lam import \(?([\w, ]+)", path.read_text()):
            for name in names.split(","):
                assert name.strip() in neural_lam._EXPORTS, f"{path.name}: {name}"


def test_the_short_name_is_what_checkpoints_hold():
    from jsonargparse._util import get_import_path

    for name in neural_lam._EXPORTS:
        found = getattr(neural_lam, name)
        if inspect.isclass(found):
            assert get_import_path(found) == f"neural_lam.{name}"


@pytest.mark.slow
def test_a_wrong_keyword_is_refused_by_mypy(tmp_path):
    from mypy import api

    script = tmp_path / "script.py"
    script.write_text(
        "import neural_lam\n"
        "neural_lam.Rectangular(nonsense=3)\n"
        "neural_lam.GriddedData('a.zarr', ['t'], nonsense=3)\n"
    )
    answer, _, code = api.run([str(script), "--cache-dir", str(tmp_path / "cache")])
    assert code == 1
    assert answer.count('Unexpected keyword argument "nonsense"') == 2, answer
