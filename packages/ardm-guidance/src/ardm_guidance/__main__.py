"""The command ``ardm-guidance``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from ardm_guidance import __version__
from ardm_guidance.shell.entry import Command, enter

__all__ = ["main"]

USAGE = """\
usage: ardm-guidance <verb> [--config FILE] [options]

Molecules by order-agnostic autoregressive diffusion.

train and evaluate (Lightning; any Trainer option as --trainer.<name>):
  fit         train a model
  validate    bound of a checkpoint on the validation split, in nats
  test        the same on the test split, for the model that is sampled
  predict     write the bound of each test molecule

own verbs:
  sample      generate molecules from a checkpoint to Parquet
  negatives   generate what a discriminator is trained against
  evaluate    score and draw generated molecules; needs no model
  prepare     read your own file of molecules, and write a configuration for it
"""
VERBS = ("fit", "validate", "test", "predict", "sample", "negatives", "evaluate", "prepare")


def _run(arguments: Sequence[str]) -> None:
    from ardm_guidance.cli import main as run

    run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return enter(Command("ardm-guidance", __version__, USAGE, VERBS, _run), argv)


if __name__ == "__main__":
    sys.exit(main())
