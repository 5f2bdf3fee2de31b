"""Checks that a tag ``<distribution>-X.Y.Z`` is a package's version, and prints its name."""

import re
import sys
from pathlib import Path


def check(tag: str) -> str:
    """The package of a tag.

    Raises:
        SystemExit: The tag names no package, another version, or one without a changelog.
    """
    package, _, version = tag.rpartition("-")
    folder = Path("packages", package)
    if not (folder / "pyproject.toml").is_file():
        raise SystemExit(f"{tag}: no package {package!r}")
    source = folder / "src" / package.replace("-", "_") / "__init__.py"
    found = re.search(r'__version__ = "([^"]+)"', source.read_text(encoding="utf-8"))
    if found is None or found[1] != version:
        raise SystemExit(f"{tag}: the version in {source} is {found and found[1]}")
    if f"## [{version}]" not in (folder / "CHANGELOG.md").read_text(encoding="utf-8"):
        raise SystemExit(f"{tag}: {folder / 'CHANGELOG.md'} has no section [{version}]")
    return package


if __name__ == "__main__":
    print(f"package={check(sys.argv[1])}")
