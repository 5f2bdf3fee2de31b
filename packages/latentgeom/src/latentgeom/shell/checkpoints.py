"""Checkpoints read without executing anything, and weights for other programs.

A checkpoint is a pickle; here it is always read with ``weights_only=True``, which admits
tensors and plain containers alone. Whatever is wrong with a file (missing, truncated,
altered, holding code) is one `CheckpointError`. Plain data can still do harm where they name a
class that is then imported and built: `check_classes` allows those of this package and of torch,
and those that the user's own configuration names.
"""

import inspect
import os
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from traceback import walk_tb
from typing import Any

import torch

from latentgeom.shell.errors import InputError
from latentgeom.shell.writing import claim, protect, whole

__all__ = [
    "CheckpointError",
    "blame_checkpoint",
    "built_classes",
    "check_classes",
    "check_trainable",
    "export",
    "keep_plain",
    "read_checkpoint",
    "read_plain",
]


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
        CheckpointError: The file is missing, empty, damaged, no training checkpoint, or holds
            weights that are not finite.
    """
    content = read_plain(path)
    weights = content.get("state_dict")
    if not isinstance(weights, dict):
        raise CheckpointError(path, "not a training checkpoint: it has no 'state_dict'")
    for name, value in weights.items():
        _check_weight(path, name, value)
    if not isinstance(content.get("hyper_parameters", {}), dict):
        raise CheckpointError(path, "not a training checkpoint: its hyper-parameters have no names")
    _check_callbacks(path, content.get("callbacks"))
    protect(path)
    return content


def _check_weight(path: str | os.PathLike[str], name: object, value: object) -> None:
    """Refuse what is no weight, and one that says to hold more numbers than the file has."""
    if not isinstance(name, str):
        raise CheckpointError(path, f"not a training checkpoint: a weight is named {name!r}")
    if not isinstance(value, torch.Tensor):
        return
    if value.layout != torch.strided or value.is_meta or value.is_complex():
        raise CheckpointError(path, f"{name} is no plain tensor: {value.layout}, {value.dtype}")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(path, f"{name} says to have {value.numel()} numbers; it holds fewer")
    if value.is_floating_point() and value.isnan().any():
        raise CheckpointError(path, f"holds weights that are not finite: {name}")


def _check_callbacks(path: str | os.PathLike[str], callbacks: object) -> None:
    """Refuse states that name files outside their own folder: callbacks remove what they name."""
    if callbacks is None:
        return
    if not isinstance(callbacks, dict) or not all(
        isinstance(state, dict | tuple | list | type(None)) for state in callbacks.values()
    ):
        raise CheckpointError(path, "not a training checkpoint: its callbacks have no states")
    for state in callbacks.values():
        if isinstance(state, dict) and not all(
            _is_kept(name, state.get("dirpath")) for name in _named_files(state)
        ):
            raise CheckpointError(
                path, "its callbacks name files that are no checkpoints of its run"
            )


def _named_files(state: dict[str, Any]) -> Iterator[object]:
    """The files that a callback's state names."""
    for key in ("best_model_path", "last_model_path", "kth_best_model_path"):
        yield state.get(key) or None
    best = state.get("best_k_models") or {}
    yield from best if isinstance(best, dict) else [best]


def _is_kept(name: object, folder: object) -> bool:
    """Whether a name is that of a checkpoint in a folder, without a way out of it."""
    if name is None:
        return True
    if not (isinstance(name, str) and isinstance(folder, str)):
        return False
    return (
        ".." not in Path(name).parts
        and Path(name).suffix == ".ckpt"
        and Path(name).is_relative_to(folder)
    )


def check_trainable(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Refuse to go on with a training whose optimisers, or whose place in it, aren't there.

    Raises:
        CheckpointError: It holds weights alone, or a part of the rest.
    """
    if not content.get("optimizer_states") and not content.get("loops"):
        reason = "holds weights alone, which can't be trained on; expected a whole checkpoint"
        raise CheckpointError(path, reason)
    kinds = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "epoch": int,
             "global_step": int}  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise CheckpointError(path, f"not a whole checkpoint: its {key} is no {kind.__name__}")
    if not content["optimizer_states"]:
        raise CheckpointError(path, "not a whole checkpoint: it has no state of an optimizer")


def blame_checkpoint(path: str | os.PathLike[str], error: Exception) -> None:
    """What fails while Lightning restores a checkpoint is the checkpoint's fault.

    Raises:
        CheckpointError: The error arose there; otherwise nothing happens.
    """
    frames = (frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__))
    if any("checkpoint_connector" in name for name in frames):
        reason = f"can't be restored: {type(error).__name__}: {' '.join(str(error).split())}"
        raise CheckpointError(path, reason) from error


def read_plain(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of tensors and plain data onto the CPU; nothing in it is executed.

    Raises:
        CheckpointError: The file is missing, empty, damaged, or holds more than data.
    """
    file = Path(path)
    if not os.fspath(path):
        raise CheckpointError("ckpt_path", "expected a file, got an empty name")
    if not file.is_file():
        raise CheckpointError(path, "a folder" if file.is_dir() else "no such checkpoint")
    try:
        with warnings.catch_warnings():
            # An unusual pickle protocol is torch's warning and, below, our refusal.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
        damaged = zipfile.ZipFile(file).testzip()
    except UnpicklingError:
        reason = "not a checkpoint, or one that holds more than tensors and plain data"
        raise CheckpointError(path, reason) from None
    except Exception as error:
        # Junk ends anywhere in the reader: as IndexError, struct.error, RecursionError and more.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise CheckpointError(path, f"empty or damaged ({reason})") from None
    if damaged is not None:
        raise CheckpointError(path, f"damaged: wrong checksum in {damaged}")
    if not isinstance(content, dict):
        raise CheckpointError(path, f"expected a mapping, got {type(content).__name__}")
    return content


_OWN = __name__.partition(".")[0]
_TRUSTED = (_OWN, "torch", "lightning")
# What Lightning's command line leaves in every checkpoint.
_LIGHTNINGS = "lightning.pytorch.cli.instantiate_module"
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def built_classes(node: object) -> Iterator[str]:
    """Every ``class_path`` in a configuration, and every other word that could be one."""
    if isinstance(node, dict):
        for value in node.values():
            yield from built_classes(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from built_classes(value)
    elif isinstance(node, str) and _DOTTED.fullmatch(node):
        yield node


def check_classes(
    path: str | os.PathLike[str], parameters: dict[str, Any], named: Collection[str] = ()
) -> None:
    """Refuse hyper-parameters that would import or build what nobody asked for.

    Arguments:
        path: The checkpoint, for the message.
        parameters: Its hyper-parameters: plain data.
        named: What the user's own configuration names.

    Raises:
        CheckpointError: A class, or a function behind a dotted name, is neither this package's,
            torch's or Lightning's, nor named by the user.
    """
    for name in built_classes(parameters):
        root = name.partition(".")[0]
        if name in named or name == _LIGHTNINGS or not _importable(root):
            continue
        if root not in _TRUSTED or (root != _OWN and not _is_class(name)):
            raise CheckpointError(
                path,
                f"its hyper-parameters name {name}, which only your own configuration may:"
                " nothing of it was imported",
            )


def _importable(root: str) -> bool:
    """Whether a name is that of a module; finding it at the top executes nothing."""
    try:
        return find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def _is_class(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return inspect.isclass(getattr(import_module(module), attribute, None))
    except ImportError:
        return False


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


def export(ckpt_path: str, output: str) -> None:
    """Write the weights of a checkpoint as safetensors, for other programs.

    Arguments:
        ckpt_path: Checkpoint of a training.
        output: File to write, ``weights.safetensors``.
    """
    from safetensors.torch import save_file

    weights = read_checkpoint(ckpt_path)["state_dict"]
    claim(output)
    tensors = {
        name: value.detach().clone().contiguous()
        for name, value in weights.items()
        if isinstance(value, torch.Tensor)
    }
    with whole(output) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
