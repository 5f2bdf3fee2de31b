"""What users import stands at the package's top, typed, and is all that documents name."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffsmc

PACKAGE = Path(__file__).parents[1]
SOURCE = PACKAGE / "src" / "diffsmc"


def typed_names():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    guard = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: node.module.removeprefix("diffsmc.")
        for node in guard.body
        for alias in node.names
        if alias.asname == alias.name
    }


def test_lazy_and_typed_names_agree():
    assert typed_names() == diffsmc._EXPORTS


def test_every_export_is_a_thing_of_its_module_and_no_module():
    for name in diffsmc._EXPORTS:
        thing = getattr(diffsmc, name)
        assert not inspect.ismodule(thing)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__module__ == f"diffsmc.{diffsmc._EXPORTS[name]}", name
    assert set(diffsmc._EXPORTS) <= set(dir(diffsmc))
    assert set(diffsmc.__all__) == {"__version__", *diffsmc._EXPORTS}
    with pytest.raises(AttributeError, match="no attribute 'Funel'"):
        diffsmc.Funel  # noqa: B018


def documents():
    found = [*PACKAGE.glob("configs/*.yaml"), PACKAGE / "README.md", PACKAGE / "pyproject.toml"]
    docs = PACKAGE.parents[1] / "docs"
    # The page of mistakes shows names that don't exist.
    skipped = {docs / "guides" / "faults.md"}
    made = {"_build", "apidocs"}
    return found + [p for p in docs.rglob("*.md") if not made & set(p.parts) and p not in skipped]


@pytest.mark.parametrize("path", documents(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_documents_name_nothing_deeper_than_the_top(path):
    text = path.read_text(encoding="utf-8")
    rooms = "|".join(sorted(p.name for p in SOURCE.iterdir() if p.is_dir()))
    deep = re.findall(rf"diffsmc\.(?:{rooms})\b[\w.]*", text)
    assert not deep, f"{path} names {deep}"
    for name in re.findall(r"class_path: diffsmc\.([\w.]+)", text):
        assert name in diffsmc._EXPORTS, f"{path} names {name}"


@pytest.mark.slow
def test_type_checkers_refuse_a_wrong_keyword(tmp_path):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "import diffsmc\n"
        "diffsmc.Tempering(target_ess=0.8)\n"
        "diffsmc.Tempering(nonsense=3)\n"
        "diffsmc.HMC(num_leapfrogs='many')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", str(snippet)]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache")], capture_output=True, text=True
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 2, done.stdout + done.stderr
    assert ":3: error: Unexpected keyword" in errors[0]
    assert ":4: error: Argument" in errors[1]
