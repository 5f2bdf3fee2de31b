"""The command ``neural-lam``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from neural_lam import __version__
from neural_lam.shell.entry import Command, enter

__all__ = ["main"]

USAGE = """\
usage: neural-lam <verb> [--config FILE] [options]

Graph-based weather forecasting on any domain.

train and evaluate (Lightning; any Trainer option as --trainer.<name>):
  fit           train a forecaster
  validate      score a checkpoint on the validation period
  test          score a checkpoint on the test period
  predict       forecast the test period without writing

own verbs:
  convert       take over a checkpoint and a configuration of neural-lam 0.7
  example-data  make or fetch an example data set
  graph         build the mesh graph of a domain
  statistics    means and standard deviations of the training period
  forecast      write forecasts as zarr
  verify        score forecasts against simple ones, draw scores and maps
"""
VERBS = (
    "convert",
    "fit",
    "validate",
    "test",
    "predict",
    "example-data",
    "graph",
    "statistics",
    "forecast",
    "verify",
)


def _run(arguments: Sequence[str]) -> None:
    from neural_lam.cli import main as run

    run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return enter(Command("neural-lam", __version__, USAGE, VERBS, _run), argv)


if __name__ == "__main__":
    sys.exit(main())
