"""The command ``diffsmc``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from diffsmc import __version__
from diffsmc.shell.configuration import near_miss
from diffsmc.shell.errors import InputError

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

  diffsmc <verb> --help           all options of a verb
  diffsmc <verb> --print_config   the configuration in full, as YAML

FILE is a path, or the name of a shipped configuration:
  {configs}
"""
VERBS = ("sample", "evidence", "diagnose", "targets", "fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (failed), 2 (bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        from diffsmc.shell.configuration import shipped_configs

        print(USAGE.format(configs=", ".join(shipped_configs())), end="")
        return 0
    if arguments[0] == "--version":
        print(f"diffsmc {__version__}")
        return 0
    try:
        if arguments[0] not in VERBS:
            raise InputError(f"{arguments[0]}: not a verb{near_miss(arguments[0], VERBS)}")
        from diffsmc.cli import main as run

        run(arguments)
    except (InputError, FileNotFoundError) as error:
        print(f"diffsmc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("diffsmc: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if getattr(error, "one_line", False):
            print(f"diffsmc: {error}", file=sys.stderr)
            return 1
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
