"""The text of ``<command> <verb> --help``: own options first, made beforehand.

Building the parser of a verb takes seconds, since Lightning and torch must be imported. So the
text is made once, by ``nox -s help``, and kept as a file beside the package; a test compares it
with the parser's own.
"""

import os
import re
from argparse import SUPPRESS
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from jsonargparse._common import parser_context
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from neural_lam.shell.checkpoints import export
from neural_lam.shell.commands import Application, CommandLine, function_parser
from neural_lam.shell.entry import help_file

__all__ = ["help_texts", "write_help"]

_RUN = """
what is run:
  -c, --config FILE     a path, or the name of a shipped configuration; later ones win
  --model CLASS, --model.<option> VALUE; --model.help CLASS shows the options
  --data CLASS, --data.<option> VALUE; --data.help CLASS shows the options
  --seed_everything N   seed of the run

what most runs set:
  --trainer.default_root_dir DIR   folder of everything that the run writes
  --trainer.max_steps N            steps of a training; --trainer.max_time DD:HH:MM:SS
  --trainer.accelerator NAME       cpu, gpu, auto
  --trainer.devices N              with --trainer.strategy ddp: one process a device
  --trainer.precision NAME         32-true, bf16-mixed, 64-true
  --trainer.fast_dev_run N         N batches of each kind, nothing written
"""
_CHECKPOINT = """\
options:
  --ckpt_path FILE      checkpoint to use; a training goes on with it
"""
_COMMON = """
every verb:
  --overwrite           replace results of an earlier run instead of stopping
  --traceback           show where an error arose
  --print_config        print the configuration in full, as YAML that runs
"""


class _Parsers(CommandLine):
    """The parsers of the verbs, without running one."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        raise _Built(self._subcommand_parsers)


class _Built(Exception):
    def __init__(self, parsers: dict[str, LightningArgumentParser]) -> None:
        super().__init__()
        self.parsers = parsers


def help_texts(application: Application) -> dict[str, str]:
    """The text of each verb's help."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        _Parsers(application, ["fit"])
        raise AssertionError("the parsers weren't built")
    except _Built as built:
        parsers = built.parsers
        texts = {verb: _lightnings(application, verb, parsers[verb]) for verb in parsers}
        for verb, function in {"export": export, **application.functions}.items():
            texts[verb] = _function(application, verb, function)
        for verb, (option, function) in application.alternatives.items():
            parts = [texts[verb]] if verb in texts else []
            parts.append(f"with {option}: {_function(application, verb, function)}")
            texts[verb] = "\n".join(parts)
        return texts
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width


def write_help(application: Application) -> list[Path]:
    """Write the texts to where the command reads them."""
    written = []
    for verb, text in help_texts(application).items():
        path = help_file(verb)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _section(parser: ArgumentParser, title: str, actions: list[Any]) -> str:
    formatter = parser._get_formatter()
    with parser_context(parent_parser=parser):
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()
        text = str(formatter.format_help())
    # Which subclasses are known depends on what was imported before.
    return re.sub(r",\s+known\s+subclasses:[^)]*\)", ")", text)


def _shown(parser: ArgumentParser) -> list[Any]:
    hidden = ("help", "print_config", "print_shtab")
    return [
        action
        for action in parser._actions
        if action.option_strings and action.help != SUPPRESS and action.dest not in hidden
    ]


def _lightnings(application: Application, verb: str, parser: ArgumentParser) -> str:
    general = {"config", "seed_everything", "model", "data", "model.help", "data.help"}
    if verb in LightningCLI.subcommands():
        # Lightning's text on it is of what this command doesn't do: URLs and registries.
        general |= {"ckpt_path", "verbose", "return_predictions"}
    prefixes = {"trainer", "optimizer", "lr_scheduler"}
    own = [
        action
        for action in _shown(parser)
        if action.dest not in general and action.dest.partition(".")[0] not in prefixes
    ]
    return (
        f"usage: {application.name} {verb} --config FILE [options]\n\n"
        f"{(parser.description or '').strip()}\n\n"
        f"{_section(parser, f'options of {verb}', own) if own else _CHECKPOINT}{_RUN}{_COMMON}"
        f"  --help_all            all options of Lightning's Trainer as well\n"
    )


def _function(application: Application, verb: str, function: Callable[..., None]) -> str:
    parser = function_parser(function, f"{application.name} {verb}")
    titles = [str(group.title) for group in parser._action_groups]
    texts = [title for title in titles if title not in {"positional arguments", "options"}]
    what = (parser.description or (texts or [""])[0]).strip()
    head = f"usage: {application.name} {verb} [--config FILE] [options]\n\n{what}\n\n"
    return head + _section(parser, "options", _shown(parser)) + _COMMON
