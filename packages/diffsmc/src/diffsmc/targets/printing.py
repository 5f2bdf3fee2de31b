"""What objects print: one line."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["one_line"]

MOST_NUMBERS = 4  # of a tensor or list that is written out
MISSING = object()


def one_line(thing: object) -> str:
    """Give the class of an object and its arguments.

    Objects among these stand there if they aren't at their defaults, numbers always.

    Arguments:
        thing: An object that keeps its constructor's arguments under their names; those that it
            doesn't keep are left out.
    """
    return _line(thing, numbers=True)


def _line(thing: object, *, numbers: bool) -> str:
    parts = []
    for name, default in _defaults(type(thing)).items():
        value = getattr(thing, name, MISSING)
        told = numbers and isinstance(value, int | float | str)
        if value is not MISSING and (told or not _same(value, default)):
            parts.append(f"{name}={_short(value)}")
    return f"{type(thing).__name__}({', '.join(parts)})"


def _defaults(kind: type) -> dict[str, Any]:
    """Give the names of a constructor's arguments and their defaults."""
    found = {name: one.default for name, one in inspect.signature(kind).parameters.items()}
    if is_dataclass(kind):
        for one in fields(kind):
            if callable(one.default_factory):
                found[one.name] = one.default_factory()
    return found


def _same(value: object, default: object) -> bool:
    if isinstance(value, Tensor) or isinstance(default, Tensor):
        return value is default
    return type(value) is type(default) and bool(value == default)


def _short(value: Any) -> str:
    """Write a value in some words."""
    if isinstance(value, Tensor):
        few = value.numel() <= MOST_NUMBERS
        return _numbers(value.tolist()) if few else f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        few = len(value) <= MOST_NUMBERS
        return _numbers(value) if few else f"{len(value)} values"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    if isinstance(value, nn.Module) and not hasattr(value, "log_prob"):
        return type(value).__name__
    if inspect.isroutine(value) or inspect.isclass(value):
        return str(value.__name__)
    if is_dataclass(value):
        return _line(value, numbers=False)
    return _numbers(value)


def _numbers(value: Any) -> str:
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return f"[{', '.join(map(_numbers, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
