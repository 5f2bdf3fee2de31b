"""The command ``neural-lam``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from neural_lam import __version__
from neural_lam.shell.configuration import near_miss
from neural_lam.shell.errors import InputError

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

  neural-lam <verb> --help           all options of a verb
  neural-lam <verb> --print_config   the configuration in full, as YAML

FILE is a path, or the name of a shipped configuration:
  {configs}
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (failed), 2 (bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        from neural_lam.shell.configuration import shipped_configs

        print(USAGE.format(configs=", ".join(shipped_configs())), end="")
        return 0
    if arguments[0] == "--version":
        print(f"neural-lam {__version__}")
        return 0
    try:
        if arguments[0] not in VERBS:
            raise InputError(f"{arguments[0]}: not a verb{near_miss(arguments[0], VERBS)}")
        from neural_lam.cli import main as run

        run(arguments)
    except (InputError, FileNotFoundError) as error:
        print(f"neural-lam: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("neural-lam: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if getattr(error, "one_line", False):
            print(f"neural-lam: {error}", file=sys.stderr)
            return 1
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
