"""The Lightning command line of the package: verbs, defaults, and errors in one line."""

import logging
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as lightning
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from diffsmc.shell.checkpoints import read_checkpoint
from diffsmc.shell.configuration import explain, innermost, resolve_configs
from diffsmc.shell.errors import InputError
from diffsmc.shell.guards import NonFiniteGuard

__all__ = ["CommandLine", "run_function", "run_lightning"]


class CommandLine(LightningCLI):
    """LightningCLI that explains bad input in one line and checks checkpoints first."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that doesn't take the beginning of an option for the option."""
        parser = super().init_parser(**kwargs)
        parser.allow_abbrev = False
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse a command line, in which shipped configurations may stand by name."""
        if not isinstance(args, list):
            raise TypeError(f"args must be a list of words, got {type(args).__name__}")
        resolved, self.files = resolve_configs(args)
        verb = next((word for word in args if word in self._subcommand_parsers), "")
        try:
            super().parse_arguments(parser, resolved)
        except ArgumentError as error:
            actions = self._subcommand_parsers[verb]._actions if verb else []
            names = [action.dest for action in actions]
            raise InputError(explain(str(error), self.files, names, args)) from None

    def _parse_ckpt_path(self) -> None:
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and path not in {"best", "last", "hpc"} and "://" not in path:
            read_checkpoint(path)
        super()._parse_ckpt_path()

    def instantiate_classes(self) -> None:
        """Build the objects; a value that one of them refuses is the user's to mend."""
        try:
            super().instantiate_classes()
        except (ValueError, FileNotFoundError) as error:
            place = f"{self.files[-1]}: " if self.files else ""
            raise InputError(f"{place}{innermost(str(error))}") from error


_TIPS = (
    ".*torch.jit.*",
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter.*",
    "No seed found",
    "Checkpoint directory .* exists and is not empty",
    ".*isinstance.treespec, LeafSpec.*",
)


def quiet_lightning() -> None:
    """Keep progress and warnings of a run, drop advertisements and tips."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _TIPS:
        warnings.filterwarnings("ignore", message=message)


def run_lightning(arguments: Sequence[str]) -> CommandLine:
    """Run a LightningCLI verb.

    Raises:
        InputError: The command line, a configuration or a checkpoint is wrong.
    """
    quiet_lightning()
    return CommandLine(
        lightning.LightningModule,
        lightning.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        # The loaders spread their samples over the ranks themselves.
        trainer_defaults={"callbacks": [NonFiniteGuard()], "use_distributed_sampler": False},
        parser_kwargs={"exit_on_error": False},
        args=list(arguments),
    )


def run_function(function: Callable[..., None], arguments: Sequence[str], command: str) -> None:
    """Run a verb that needs no Lightning model: a function whose parameters are its options.

    Arguments:
        function: The verb; its signature and docstring make the options and their help.
        arguments: Command line after the verb.
        command: What the help calls it, ``diffsmc summarise``.

    Raises:
        InputError: The command line or a configuration is wrong.
    """
    resolved, files = resolve_configs(arguments)
    parser = ArgumentParser(prog=command, exit_on_error=False)
    parser.allow_abbrev = False
    parser.add_argument("-c", "--config", action="config", help="YAML file with the options below")
    parser.add_function_arguments(function)
    try:
        config = parser.parse_args(resolved)
    except ArgumentError as error:
        names = [action.dest for action in parser._actions]
        raise InputError(explain(str(error), files, names, arguments)) from None
    try:
        values = parser.instantiate_classes(config).as_dict()
    except (ValueError, FileNotFoundError) as error:
        place = f"{files[-1]}: " if files else ""
        raise InputError(f"{place}{innermost(str(error))}") from error
    values.pop("config", None)
    function(**values)
