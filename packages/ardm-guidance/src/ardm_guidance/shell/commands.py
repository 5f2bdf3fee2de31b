"""The verbs behind the command: LightningCLI made safe and terse, and plain functions.

Three things differ from LightningCLI: a mistake is one line, a checkpoint is data and never
chooses what is imported, and the run's folder (``trainer.default_root_dir``) holds everything
that a run writes.
"""

import os
import sys
from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
import yaml
from jsonargparse import ArgumentParser, set_loader
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.loggers import CSVLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from ardm_guidance.shell.checkpoints import (
    CheckpointError,
    blame_checkpoint,
    built_classes,
    check_classes,
    check_trainable,
    export,
    read_checkpoint,
)
from ardm_guidance.shell.configuration import check_yaml, resolve_configs
from ardm_guidance.shell.errors import InputError, Stopped
from ardm_guidance.shell.explanation import check_keys, explain, innermost
from ardm_guidance.shell.guards import NonFiniteError, NonFiniteGuard
from ardm_guidance.shell.logs import keep_logs, quiet_lightning
from ardm_guidance.shell.settings import (
    check_checkpoint,
    check_seed,
    check_trainer,
    drop_unwanted_bars,
)
from ardm_guidance.shell.writing import claim, note, overwrite, relative, whole

__all__ = ["Application", "CommandLine", "function_parser", "run"]

_KEYWORDS = ("best", "last", "hpc")
_TRAINING = ("fit",)  # verbs that write checkpoints and can go on with one


@dataclass(frozen=True)
class Application:
    """What the command consists of, once torch is imported.

    Attributes:
        name: What the user types.
        trainer: Trainer, whose methods are the verbs that take a model.
        methods: Those of its methods that Lightning doesn't have.
        functions: Verbs that are functions; their parameters are the options.
        alternatives: Functions that take over a verb where an option is given: verb to (option,
            function).
        callbacks: Made for every run, beside those of the configuration.
        config: Shipped configuration that stands in where none is given to ``--print_config``.
        num_threads: Threads of a process unless ``OMP_NUM_THREADS`` says; none leaves torch's.
    """

    name: str
    trainer: type[lightning.Trainer]
    methods: tuple[str, ...] = ()
    functions: dict[str, Callable[..., None]] = field(default_factory=dict)
    alternatives: dict[str, tuple[str, Callable[..., None]]] = field(default_factory=dict)
    callbacks: tuple[Callable[[], lightning.Callback], ...] = ()
    config: str | None = None
    num_threads: int | None = None


def run(application: Application, arguments: Sequence[str]) -> None:
    """Run a verb; ``arguments[0]`` is its name.

    Raises:
        InputError: The command line, a configuration or a checkpoint is wrong.
        Stopped: The run was interrupted.
    """
    # A class of the user, given by class_path, stands where the command is run.
    sys.path.append(os.getcwd())
    _read_safely()
    quiet_lightning()
    if application.num_threads and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(application.num_threads)
    verb, words = arguments[0], {word.partition("=")[0] for word in arguments}
    functions = {"export": export, **application.functions}
    if verb in application.alternatives and application.alternatives[verb][0] in words:
        functions[verb] = application.alternatives[verb][1]
    if verb in functions:
        _run_function(functions[verb], arguments[1:], f"{application.name} {verb}")
    else:
        CommandLine(application, _with_config(application, arguments))


def _with_config(application: Application, arguments: Sequence[str]) -> list[str]:
    """What is printed without a configuration is the shipped one, which runs."""
    words = [word.partition("=")[0] for word in arguments]
    printed = "--print_config" in words
    if printed and application.config and not {"--config", "-c", "--model"} & set(words):
        return [arguments[0], "--config", application.config, *arguments[1:]]
    return list(arguments)


class CommandLine(LightningCLI):
    """LightningCLI that explains bad input in one line and reads checkpoints as data.

    Arguments:
        application: What the command consists of.
        arguments: Command line, the verb's name first.
    """

    def __init__(self, application: Application, arguments: list[str]) -> None:
        self.application = application
        super().__init__(
            lightning.LightningModule,
            lightning.LightningDataModule,
            trainer_class=application.trainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=_KeptConfig,
            # Not config.yaml, which may be somebody else's.
            save_config_kwargs={"overwrite": True, "config_filename": f"{application.name}.yaml"},
            trainer_defaults={
                "callbacks": [NonFiniteGuard(), *(make() for make in application.callbacks)],
                # The loaders spread their samples over the ranks themselves.
                "use_distributed_sampler": False,
            },
            parser_kwargs={"exit_on_error": False},
            args=arguments,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Lightning's verbs, without the option to execute a checkpoint, and the Trainer's own."""
        verbs = LightningCLI.subcommands()
        lightnings = {verb: skipped | {"weights_only"} for verb, skipped in verbs.items()}
        own = {verb: {"model", "datamodule"} for verb in self.application.methods}
        return {**lightnings, **own}

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
        self.words = args
        verb = args[0] if args[0] in self._subcommand_parsers else ""
        actions = self._subcommand_parsers[verb]._actions if verb else []
        names = [action.dest for action in actions]
        if verb:
            check_keys(self.files, names)
        try:
            super().parse_arguments(parser, resolved)
        except ArgumentError as error:
            raise InputError(explain(str(error), self.files, names, args)) from None
        options = self.config[self.config.subcommand]
        check_seed(options.get("seed_everything"), self._place("seed_everything"))

    def _place(self, key: str = "") -> str:
        """The last file, unless the command line itself says something of the key."""
        said = key and any(word.startswith(f"--{key}") for word in self.words)
        return f"{self.files[-1]}: " if self.files and not said else ""

    def _parse_ckpt_path(self) -> None:
        """Look at a checkpoint before Lightning does: what it holds may only be data."""
        options = self.config[self.config.subcommand]
        path = options.get("ckpt_path")
        check_checkpoint(self.config.subcommand, path)
        if path is None or path in _KEYWORDS:
            return
        if "://" in str(path) or str(path).startswith("registry"):
            raise InputError(f"{path}: ckpt_path must be a local file; download it first")
        content = read_checkpoint(path)
        if self.config.subcommand in _TRAINING:
            check_trainable(path, content)
        # Nothing is built from it: what Lightning would do here parses its hyper-parameters, and
        # text among them may be a configuration of its own. The user's alone counts.
        self._check_built(path, content, options.get("model"))

    def _check_built(self, path: str, content: dict[str, Any], model: Any) -> None:
        """Nothing is built from a checkpoint but this package's, torch's or the user's classes."""
        named = {word for file in self.files for word in built_classes(_plain(file))}
        named |= {word.rpartition("=")[2] for word in self.words}
        parameters = content.get("hyper_parameters", {})
        made = parameters.get("_class_path")
        asked = model.get("class_path") if model is not None else None
        if made and asked and str(made).rpartition(".")[2] != asked.rpartition(".")[2]:
            raise CheckpointError(path, f"made by {made}; the configuration expects {asked}")
        check_classes(path, parameters, named)

    def instantiate_classes(self) -> None:
        """Build the objects; a value that one of them refuses is the user's to mend."""
        try:
            super().instantiate_classes()
        except InputError:
            raise
        except (ValueError, TypeError, FileNotFoundError) as error:
            reason = " ".join(innermost(str(error)).split())
            raise InputError(f"{self._place()}{reason}") from error

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """A Trainer that writes into the run's folder alone."""
        settings = self._get(self.config_init, "trainer")
        check_trainer(settings, self._place("trainer."))
        drop_unwanted_bars(settings)
        root = Path(settings.get("default_root_dir") or f"out/{self.application.name}")
        self.above = next(path for path in (root, *root.parents) if path.exists())
        kwargs["default_root_dir"] = str(root)
        if settings.get("logger") in (None, True) and not settings.get("fast_dev_run"):
            kwargs["logger"] = CSVLogger(str(root), name="logs")
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self._place('trainer.')}trainer: {reason}") from error
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((root / "checkpoints").absolute())
        if self.subcommand in _TRAINING and not settings.get("fast_dev_run"):
            self._claim_checkpoints(trainer)
        return trainer

    @rank_zero_only
    def _claim_checkpoints(self, trainer: lightning.Trainer) -> None:
        """A run goes on with its own checkpoints, and stops before another run's."""
        path = self._get(self.config, "ckpt_path")
        for callback in trainer.checkpoint_callbacks:
            folder = Path(str(callback.dirpath)) if callback.dirpath else None  # type: ignore[attr-defined]
            found = sorted(folder.glob("*.ckpt")) if folder else []
            if not found:
                claim(folder / "last.ckpt") if folder else None
                continue
            own = path and (path in _KEYWORDS or Path(path).resolve().parent == folder.resolve())  # type: ignore[union-attr]
            if not own and not overwrite():
                raise InputError(
                    f"{relative(found[-1])}: checkpoint of an earlier run; --ckpt_path"
                    f" {relative(found[-1])} goes on with it, --trainer.default_root_dir DIR"
                    " writes elsewhere, --overwrite replaces it"
                )

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand in LightningCLI.subcommands():
            kwargs["weights_only"] = True
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if "Encountered `nan` values" in str(error):
                raise NonFiniteError(f"{subcommand}: a score is no number; none is told") from error
            if "loading state_dict" not in str(error):
                raise
            reason = str(error).strip().splitlines()[-1].strip()
            path = self._get(self.config, "ckpt_path")
            raise CheckpointError(path, f"not of this model: {reason}") from error
        except (AttributeError, KeyError, TypeError) as error:
            blame_checkpoint(self._get(self.config, "ckpt_path"), error)
            raise
        except (KeyboardInterrupt, SystemExit, Stopped) as stop:
            self._stop(stop)
        finally:
            keep_logs(self.trainer, self.above)
        # Other verbs read a checkpoint, whose callbacks then name it as their own.
        for path in self._checkpoints() if subcommand in _TRAINING else ():
            # A trial run names one and writes none.
            if path.is_file():
                note(path)

    def _stop(self, stop: BaseException) -> None:
        """Say where the run stood; Lightning turns Ctrl-C into an exit with code 1."""
        code = stop.code if isinstance(stop, Stopped) else 130
        if isinstance(stop, SystemExit) and stop.code != 1:
            raise stop
        kept = [path for path in self._checkpoints() if path.is_file()]
        reached = f"{'terminated' if code == 143 else 'interrupted'} at step"
        line = f"{reached} {self.trainer.global_step}; last checkpoint: "
        line += str(relative(kept[-1])) if kept else "none yet"
        if kept and self.subcommand in _TRAINING:
            line += f"; the same command with --ckpt_path {relative(kept[-1])} goes on"
        raise Stopped(line, code) from None

    def _checkpoints(self) -> list[Path]:
        """The checkpoints that this process has written, the newest last."""
        names = [
            getattr(callback, name, "")
            for callback in self.trainer.checkpoint_callbacks
            for name in ("best_model_path", "last_model_path")
        ]
        return [relative(Path(name)) for name in dict.fromkeys(names) if name]


class _KeptConfig(SaveConfigCallback):
    """Keeps the whole configuration of a training in the run's folder, once it has made a step."""

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Nothing yet: what fails before the first step leaves nothing behind."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the configuration, once."""
        if trainer.is_global_zero and not self.already_saved:
            self.already_saved = True
            text = self.parser.dump(self.config, skip_none=False)
            with whole(Path(trainer.default_root_dir) / self.config_filename) as partial:
                partial.write_text(text, encoding="utf-8")


def _plain(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8-sig"))


def _read_safely() -> None:
    """Whatever the parser reads as YAML, in files and in words, is looked at first."""
    from jsonargparse._loaders_dumpers import yaml_load

    def load(text: str) -> Any:
        check_yaml(text)
        return yaml_load(text)  # type: ignore[no-untyped-call]

    set_loader("yaml", load, exceptions=(yaml.YAMLError,))


def function_parser(function: Callable[..., None], command: str) -> ArgumentParser:
    """The parser of a verb that is a function: its parameters are the options.

    Arguments:
        function: The verb; its signature and docstring make the options and their help.
        command: What the help calls it.
    """
    parser = ArgumentParser(prog=command, exit_on_error=False)
    parser.allow_abbrev = False
    parser.add_argument("-c", "--config", action="config", help="YAML file with the options below")
    parser.add_function_arguments(function)
    if "data" in signature(function).parameters:
        # So that the configuration of a training serves these verbs too.
        for name in ("seed_everything", "trainer", "model", "ckpt_path"):
            parser.add_argument(f"--{name}", type=Any, default=None, help=SUPPRESS)
    return parser


def _run_function(function: Callable[..., None], arguments: Sequence[str], command: str) -> None:
    """Run a verb that needs no Lightning model.

    Raises:
        InputError: The command line or a configuration is wrong.
    """
    resolved, files = resolve_configs(arguments)
    parser = function_parser(function, command)
    names = [action.dest for action in parser._actions]
    check_keys(files, names)
    try:
        config = parser.parse_args(resolved)
    except ArgumentError as error:
        raise InputError(explain(str(error), files, names, arguments)) from None
    try:
        values = parser.instantiate_classes(config).as_dict()
    except InputError:
        raise
    except (ValueError, TypeError, FileNotFoundError) as error:
        place = f"{files[-1]}: " if files else ""
        raise InputError(f"{place}{' '.join(innermost(str(error)).split())}") from error
    function(**{name: values[name] for name in signature(function).parameters})
