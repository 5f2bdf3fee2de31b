"""Where the command's verbs are run."""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    from latentgeom.commands import run_lightning

    run_lightning(arguments)
