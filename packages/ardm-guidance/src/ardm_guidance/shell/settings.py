"""Numbers of a run that Lightning takes and stumbles over later."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from ardm_guidance.shell.errors import InputError

__all__ = ["check_checkpoint", "check_seed", "check_trainer", "drop_unwanted_bars"]

_DIVISORS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
_SCORING = ("validate", "test", "predict")  # verbs of Lightning's that use weights as they are


def check_seed(seed: bool | int | None, place: str) -> None:
    """Refuse a seed that numpy can't take.

    Arguments:
        seed: Value of ``seed_everything``.
        place: Beginning of the message: the file, or nothing.

    Raises:
        InputError: It is out of range.
    """
    if not isinstance(seed, bool) and seed is not None and not 0 <= seed < 2**32:
        raise InputError(f"{place}seed_everything: expected 0 to 4294967295, got {seed}")


def check_trainer(settings: Mapping[str, Any], place: str) -> None:
    """Refuse numbers by which the loops divide.

    Raises:
        InputError: One isn't positive.
    """
    for name in _DIVISORS:
        value = settings.get(name)
        if isinstance(value, int | float) and value <= 0:
            raise InputError(f"{place}trainer.{name}: expected a positive number, got {value}")


def drop_unwanted_bars(settings: MutableMapping[str, Any]) -> None:
    """Take a configuration's progress bar out where the command line wants none.

    Arguments:
        settings: Options of the Trainer, callbacks as objects; changed in place.
    """
    if settings.get("enable_progress_bar") is False and settings.get("callbacks"):
        bars = [one for one in settings["callbacks"] if isinstance(one, ProgressBar)]
        settings["callbacks"] = [one for one in settings["callbacks"] if one not in bars]


def check_checkpoint(verb: str, path: object) -> None:
    """Refuse to score weights that nobody has trained.

    Raises:
        InputError: The verb needs a checkpoint, and none is named.
    """
    if verb in _SCORING and path is None:
        raise InputError(f"ckpt_path: required: {verb} without it would use untrained weights")
