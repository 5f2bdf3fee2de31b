"""Where the command's verbs are run."""

import os
import sys
from collections.abc import Callable, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name; with ``--points`` it needs no trained model."""
    # A class of the user, given by class_path, stands where the command is run.
    sys.path.append(os.getcwd())
    from latentgeom.shell.commands import run_function, run_lightning

    verb, rest = arguments[0], arguments[1:]
    if any(word.partition("=")[0] == "--points" for word in rest):
        from latentgeom import array_verbs

        functions: dict[str, Callable[..., None]] = {
            "distances": array_verbs.array_distances,
            "geodesics": array_verbs.array_geodesics,
            "plot": array_verbs.array_plot,
        }
        if verb in functions:
            run_function(functions[verb], rest, f"latentgeom {verb}")
            return
    run_lightning(arguments)
