"""Checkpoints read without executing anything, and weights for other programs.

A checkpoint is a pickle; here it is always read with ``weights_only=True``, which admits
tensors and plain containers alone. Whatever is wrong with a file (missing, truncated,
altered, holding code) is one `CheckpointError`.
"""

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffsmc.shell.errors import InputError

__all__ = ["CheckpointError", "export_safetensors", "keep_plain", "read_checkpoint", "read_plain"]


class CheckpointError(InputError):
    """A checkpoint that can't be used.

    Arguments:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = os.fspath(path), reason


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a training checkpoint onto the CPU; nothing in it is executed.

    Raises:
        CheckpointError: The file is missing, empty, damaged, or no training checkpoint.
    """
    content = read_plain(path)
    if "state_dict" not in content:
        raise CheckpointError(path, "not a training checkpoint: it has no 'state_dict'")
    return content


def read_plain(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of tensors and plain data onto the CPU; nothing in it is executed.

    Raises:
        CheckpointError: The file is missing, empty, damaged, or holds more than data.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(path, "no such checkpoint")
    try:
        with warnings.catch_warnings():
            # An unusual pickle protocol is torch's warning and, below, our refusal.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
        damaged = zipfile.ZipFile(file).testzip()
    except pickle.UnpicklingError:
        reason = "not a checkpoint, or one that holds more than tensors and plain data"
        raise CheckpointError(path, reason) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise CheckpointError(path, f"empty or damaged ({reason})") from None
    if damaged is not None:
        raise CheckpointError(path, f"damaged: wrong checksum in {damaged}")
    if not isinstance(content, dict):
        raise CheckpointError(path, f"expected a mapping, got {type(content).__name__}")
    return content


def keep_plain(checkpoint: dict[str, Any]) -> None:
    """Drop hyper-parameters that are objects, so that the checkpoint stays readable as data.

    A model built by the command line records class paths, which stay and rebuild it. One
    built in Python records the objects themselves; it is restored with
    ``load_from_checkpoint(path, network=...)``.
    """
    parameters = checkpoint.get("hyper_parameters", {})
    for name in [name for name, value in parameters.items() if not _is_plain(value)]:
        del parameters[name]


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def export_safetensors(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a module's weights as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    partial = f"{os.fspath(path)}.part"
    tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, partial)
    os.replace(partial, path)
