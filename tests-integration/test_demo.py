"""What ``nox -s demo`` left: a finite report and pictures, for each package."""

import json
import math
import tomllib

import pytest
from conftest import MODULES, ROOT


def leaves(node):
    if isinstance(node, dict):
        for value in node.values():
            yield from leaves(value)
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value)
    else:
        yield node


@pytest.fixture(params=list(MODULES))
def output(request):
    folder = ROOT / "out" / request.param
    if not (folder / "report.json").is_file():
        pytest.skip(f"the demo of {request.param} hasn't run here: nox -s demo")
    return folder


def test_a_report_holds_finite_numbers(output):
    # parse_constant meets NaN and Infinity, which JSON itself doesn't have.
    report = json.loads((output / "report.json").read_text(), parse_constant=lambda name: math.nan)
    numbers = [leaf for leaf in leaves(report) if isinstance(leaf, int | float)]
    assert len(numbers) >= 5
    assert all(math.isfinite(number) for number in numbers)


def test_pictures_are_whole(output):
    pictures = list(output.glob("*.png"))
    assert pictures
    for picture in pictures:
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content.endswith(b"IEND\xaeB`\x82")
        assert len(content) > 5000


@pytest.mark.parametrize("package", MODULES)
def test_the_tutorial_shows_the_demo_s_own_commands(package):
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())
    tutorial = (ROOT / "docs" / package / "tutorial.md").read_text()
    commands = project["tool"]["demo"]["commands"]
    assert commands
    shown = " ".join(tutorial.replace("\\\n", " ").split())
    missing = [command for command in commands if " ".join(command.split()) not in shown]
    assert not missing
