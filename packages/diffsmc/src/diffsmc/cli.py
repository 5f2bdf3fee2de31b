"""Where the command's verbs are run."""

import os
import sys
from collections.abc import Callable, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    # A class of the user, given by class_path, stands where the command is run.
    sys.path.append(os.getcwd())
    from diffsmc.shell.commands import run_function, run_lightning

    verb, rest = arguments[0], arguments[1:]
    if verb in {"fit", "validate", "test", "predict"}:
        run_lightning(arguments)
        return
    from diffsmc import verbs

    functions: dict[str, Callable[..., None]] = {
        "sample": verbs.sample,
        "evidence": verbs.evidence,
        "diagnose": verbs.diagnose,
        "targets": verbs.list_targets,
    }
    run_function(functions[verb], rest, f"diffsmc {verb}")
