"""Where the command's verbs are run."""

import os
import sys
from collections.abc import Callable, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    # A class of the user, given by class_path, stands where the command is run.
    sys.path.append(os.getcwd())
    from neural_lam import verbs
    from neural_lam.shell.commands import run_function, run_lightning

    functions: dict[str, Callable[..., None]] = {
        "convert": verbs.convert,
        "example-data": verbs.example_data,
        "graph": verbs.graph,
        "statistics": verbs.statistics,
        "verify": verbs.verify,
    }
    verb = arguments[0]
    if verb in functions:
        run_function(functions[verb], arguments[1:], f"neural-lam {verb}")
    else:
        run_lightning(arguments)
