"""What the benchmarks take from their package is there: they run for hours, and seldom."""

import pytest
from conftest import MODULES, ROOT

LOOK = """
import ast, importlib, sys
from pathlib import Path

module, folder = sys.argv[1:]
# The weather package that goes by the same import name is a peer, in an environment of its own.
for path in sorted(one for one in Path(folder).glob("*.py") if "upstream" not in one.name):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module:
            home = importlib.import_module(node.module)
            for one in node.names:
                if not hasattr(home, one.name):
                    print(f"{path.name}:{node.lineno}:{node.module}.{one.name}")
"""


@pytest.mark.parametrize("package", MODULES)
def test_benchmarks_import_what_is_there(together, package):
    folder = ROOT / "packages" / package / "bench"
    done = together.run("python", "-c", LOOK, MODULES[package], str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
