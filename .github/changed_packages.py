"""Prints ``packages=[...]``: the packages that differ from a commit, for a matrix.

A change of the pins, the noxfile, the root settings or the workflows concerns all of them.
"""

import json
import subprocess
import sys
from pathlib import Path

PACKAGES = sorted(path.parent.name for path in Path("packages").glob("*/pyproject.toml"))
SHARED = ("packages/constraints.txt", "noxfile.py", "pyproject.toml", ".github/")


def changed(base: str) -> list[str]:
    """Names of the packages that differ from ``base``; all where it isn't known."""
    diff = subprocess.run(
        ["git", "diff", "--name-only", f"{base}...HEAD"], capture_output=True, text=True
    )
    files = diff.stdout.splitlines()
    if diff.returncode or any(file.startswith(SHARED) for file in files):
        return PACKAGES
    touched = {file.split("/")[1] for file in files if file.startswith("packages/")}
    return [package for package in PACKAGES if package in touched]


if __name__ == "__main__":
    print(f"packages={json.dumps(changed(sys.argv[1]))}")
