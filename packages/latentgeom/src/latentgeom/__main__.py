"""The command ``latentgeom``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from latentgeom import __version__
from latentgeom.shell.entry import Command, enter

__all__ = ["main"]

USAGE = """\
usage: latentgeom <verb> [--config FILE] [options]

Latent spaces whose distances mean something.

train and evaluate (Lightning; any Trainer option as --trainer.<name>):
  fit         train a model
  validate    score a checkpoint on the validation split
  test        score a checkpoint on the test split
  predict     write the codes of the test split

own verbs:
  distances   distances between all codes, resumable
  distortion  score the decoder's metric against the chosen one
  geodesics   geodesics of the decoder between held-out codes
  plot        draw the latent plane

  distances, geodesics and plot take points of a file, without a trained model, by
  --points FILE (npy, npz, csv, zarr, parquet) --metric CLASS --metric.<option> VALUE
"""
VERBS = ("fit", "validate", "test", "predict", "distances", "distortion", "geodesics", "plot")


def _run(arguments: Sequence[str]) -> None:
    from latentgeom.cli import main as run

    run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return enter(Command("latentgeom", __version__, USAGE, VERBS, _run), argv)


if __name__ == "__main__":
    sys.exit(main())
