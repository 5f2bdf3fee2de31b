"""Nothing is shared between the packages but the pins."""

import ast
import re
import tomllib

import pytest
from conftest import CONSTRAINTS, MODULES, ROOT

SOURCES = sorted((ROOT / "packages").glob("*/src/**/*.py"))


def imported(path):
    """Top-level names of every import in a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MODULES)
def test_no_package_imports_another(package):
    others = set(MODULES.values()) - {MODULES[package]}
    files = [path for path in SOURCES if path.is_relative_to(ROOT / "packages" / package)]
    assert files
    found = {str(path): others & set(imported(path)) for path in files}
    assert not {path: names for path, names in found.items() if names}


def test_lightning_comes_from_one_distribution():
    found = [str(path) for path in SOURCES if "pytorch_lightning" in set(imported(path))]
    assert not found, "classes of pytorch_lightning and lightning.pytorch differ"


def test_every_requirement_is_pinned():
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in CONSTRAINTS.read_text().splitlines()
        if "==" in line
    }
    for package in MODULES:
        project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())
        extras = project["project"].get("optional-dependencies", {})
        wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
        wanted += [requirement for extra in extras.values() for requirement in extra]
        names = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in wanted}
        own = {package}
        assert names - pinned - own == set(), package


def test_torch_is_never_a_build_requirement():
    for package in MODULES:
        project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())
        assert not [name for name in project["build-system"]["requires"] if "torch" in name]


def test_our_names_are_never_resolved_from_an_index():
    """One of them is another project's on the public index: only paths and wheels install ours."""
    names = "|".join(MODULES)
    by_name = re.compile(
        rf"(?:pip|uv) +(?:pip +)?install[^\n`]*[ \"'](?:{names})(?![\w./-]*/)[=<>~\s\"'`\[]"
    )
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob(".github/**/*.yml"),
        ROOT / "noxfile.py",
        ROOT / ".ci" / "run",
    ]
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in files
        if "_build" not in path.parts
        for match in by_name.finditer(path.read_text(encoding="utf-8"))
    }
    # Upstream's own release is installed on purpose, by its exact version, as a peer.
    assert not {path: text for path, text in found.items() if "neural-lam==0.7" not in text}


@pytest.mark.parametrize("package", MODULES)
def test_the_page_on_development_shows_the_floors_of_the_house(package):
    page = (ROOT / "docs" / "guides" / "development.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{package}` |"))
    source = ROOT / "packages" / package / "src" / MODULES[package]
    rooms = {path.parent.name for path in source.glob("*/*.py")}
    assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == rooms
