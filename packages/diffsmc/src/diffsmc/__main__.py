"""The command ``diffsmc``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from diffsmc import __version__
from diffsmc.shell.entry import Command, enter

__all__ = ["main"]

USAGE = """\
usage: diffsmc <verb> [--config FILE] [options]

Sample unnormalised densities by sequential Monte Carlo: weighted samples, an unbiased
log-evidence with its interval, and an honest statement of when it failed.

sample:
  sample      sample a target; write InferenceData as NetCDF
  evidence    compare the log-evidence of results; write report.json and pictures
  diagnose    say what is suspicious about results
  targets     list the targets that come with the package

train a potential (Lightning; any Trainer option as --trainer.<name>):
  fit         train a potential on particles of a target
  validate    score a checkpoint on validation particles
  test        score a checkpoint on test particles
  predict     sample islands with a trained potential, spread over the devices
"""
VERBS = ("sample", "evidence", "diagnose", "targets", "fit", "validate", "test", "predict")


def _run(arguments: Sequence[str]) -> None:
    from diffsmc.cli import main as run

    run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return enter(Command("diffsmc", __version__, USAGE, VERBS, _run), argv)


if __name__ == "__main__":
    sys.exit(main())
