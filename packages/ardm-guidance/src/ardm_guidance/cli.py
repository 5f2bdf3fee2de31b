"""Where the command's verbs are run."""

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    # A class of the user, given by class_path, stands where the command is run.
    sys.path.append(os.getcwd())
    from ardm_guidance.shell.commands import run_function, run_lightning

    if arguments[0] == "evaluate":
        from ardm_guidance.scores.reports import evaluate

        run_function(evaluate, arguments[1:], "ardm-guidance evaluate")
    else:
        run_lightning(arguments)
