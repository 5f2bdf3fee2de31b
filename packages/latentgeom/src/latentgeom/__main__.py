"""The command ``latentgeom``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from latentgeom import __version__
from latentgeom.shell.configuration import near_miss
from latentgeom.shell.errors import InputError

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
  --points FILE (npz, zarr, csv) --metric CLASS --metric.<option> VALUE

  latentgeom <verb> --help           all options of a verb
  latentgeom <verb> --print_config   the configuration in full, as YAML

FILE is a path, or the name of a shipped configuration:
  {configs}
"""
VERBS = ("fit", "validate", "test", "predict", "distances", "distortion", "geodesics", "plot")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (failed), 2 (bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        from latentgeom.shell.configuration import shipped_configs

        print(USAGE.format(configs=", ".join(shipped_configs())), end="")
        return 0
    if arguments[0] == "--version":
        print(f"latentgeom {__version__}")
        return 0
    try:
        if arguments[0] not in VERBS:
            raise InputError(f"{arguments[0]}: not a verb{near_miss(arguments[0], VERBS)}")
        from latentgeom.cli import main as run

        run(arguments)
    except (InputError, FileNotFoundError) as error:
        print(f"latentgeom: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latentgeom: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if getattr(error, "one_line", False):
            print(f"latentgeom: {error}", file=sys.stderr)
            return 1
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
