"""The way into the command: its help, its verbs, and every ordinary mistake in one line.

Nothing here imports torch, so that help is there at once.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from diffsmc.shell.configuration import near_miss, shipped_configs
from diffsmc.shell.errors import InputError, Stopped
from diffsmc.shell.writing import permit_overwriting, resuming, summary

__all__ = ["Command", "enter"]

_LONGEST = 600  # characters of a message
_EVERY = """
every verb:
  export      write the weights of a checkpoint as safetensors
  --overwrite                  replace results of an earlier run instead of stopping
  --traceback                  show where an error arose

  {name} <verb> --help           its options, the own ones first; --help_all for Lightning's too
  {name} <verb> --print_config   the configuration in full, as YAML that runs

A configuration is a program: what stands there as class_path is imported and run.
FILE is a path, or the name of a shipped configuration:
  {configs}
"""


# The whole help is the parser's own.
_OTHER_WORDS = {"--help_all": "--help"}


class Command(NamedTuple):
    """What the command is, as far as it can be told without importing torch.

    Attributes:
        name: What the user types.
        version: Version of the distribution.
        usage: Text of ``--help`` on what is this command's own.
        verbs: Names of the verbs.
        run: Runs a verb: takes the arguments, the verb's name first.
    """

    name: str
    version: str
    usage: str
    verbs: tuple[str, ...]
    run: Callable[[Sequence[str]], None]


def enter(command: Command, argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Arguments:
        command: What the command is.
        argv: Words after the command's name; by default those of the process.

    Returns:
        The exit code: 0, 1 (failed), 2 (bad input), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [word for word in given if word not in {"--traceback", "--overwrite"}]
    permit_overwriting("--overwrite" in given)
    if "--traceback" in given:
        return _run(command, arguments)
    try:
        return _run(command, arguments)
    except Stopped as stopped:
        _tell(command, f"{stopped}{resuming()}")
        return stopped.code
    except KeyboardInterrupt:
        _tell(command, f"interrupted{resuming()}")
        return 130
    except Exception as error:
        if not _is_ordinary(error):
            raise
        _tell(command, one_line(error))
        return 1 if getattr(error, "one_line", False) else 2


def _run(command: Command, arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        configs = ", ".join(shipped_configs())
        print(command.usage + _EVERY.format(name=command.name, configs=configs), end="")
        return 0
    if arguments[0] == "--version":
        print(f"{command.name} {command.version}")
        return 0
    verbs = (*command.verbs, "export")
    if arguments[0] not in verbs:
        raise InputError(f"{arguments[0]}: not a verb{near_miss(arguments[0], verbs)}")
    if {"-h", "--help"} & set(arguments[1:]):
        text = help_file(arguments[0])
        if text.is_file():
            print(text.read_text(encoding="utf-8"), end="")
            return 0
    signal.signal(signal.SIGTERM, _terminate)
    try:
        command.run([_OTHER_WORDS.get(word, word) for word in arguments])
    except SystemExit as done:
        # The parser's own way out after its help.
        return done.code if isinstance(done.code, int) else 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if summary():
        print(summary())
    return 0


def help_file(verb: str) -> Path:
    """Where the text of a verb's help lies: it is made beforehand, since parsers need torch."""
    return Path(__file__).parents[1] / "help" / f"{verb}.txt"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped("terminated", 128 + number)


def _is_ordinary(error: Exception) -> bool:
    """Whether the user can mend it: what is left is a fault of ours, and keeps its traceback."""
    if isinstance(error, ValueError | OSError) or getattr(error, "one_line", False):
        return True
    return "MisconfigurationException" in {base.__name__ for base in type(error).__mro__}


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _close_bars() -> None:
    """End the lines of progress bars, so that a message has one of its own."""
    progress = sys.modules.get("tqdm")
    for bar in list(getattr(getattr(progress, "tqdm", None), "_instances", ())):
        bar.close()


def _tell(command: Command, message: str) -> None:
    # The other ranks of a run say the same.
    _close_bars()
    rank = os.environ.get("LOCAL_RANK", "")
    if not rank.isdecimal() or int(rank) == 0:
        print(f"{command.name}: {message}", file=sys.stderr)
