"""The command ``ardm-guidance``: its help, and the way to each verb, without importing torch."""

import sys
from collections.abc import Sequence

from ardm_guidance import __version__
from ardm_guidance.shell.configuration import near_miss
from ardm_guidance.shell.errors import InputError

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

  ardm-guidance <verb> --help           all options of a verb
  ardm-guidance <verb> --print_config   the configuration in full, as YAML

FILE is a path, or the name of a shipped configuration:
  {configs}
"""
VERBS = ("fit", "validate", "test", "predict", "sample", "negatives", "evaluate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (failed), 2 (bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        from ardm_guidance.shell.configuration import shipped_configs

        print(USAGE.format(configs=", ".join(shipped_configs())), end="")
        return 0
    if arguments[0] == "--version":
        print(f"ardm-guidance {__version__}")
        return 0
    try:
        if arguments[0] not in VERBS:
            raise InputError(f"{arguments[0]}: not a verb{near_miss(arguments[0], VERBS)}")
        from ardm_guidance.cli import main as run

        run(arguments)
    except (InputError, FileNotFoundError) as error:
        print(f"ardm-guidance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ardm-guidance: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if getattr(error, "one_line", False):
            print(f"ardm-guidance: {error}", file=sys.stderr)
            return 1
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
