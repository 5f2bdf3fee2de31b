"""What a run was asked for, as plain values: for its report, and to know the run again.

Two objects made by the same settings have the same description, in any process: no address
enters, and arrays stand as their type, shape and a digest of their values.
"""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["describe"]


def describe(value: object) -> Any:
    """Describe a value by what JSON has.

    Arguments:
        value: Plain values stay; arrays become a digest; functions and classes their name; other
            objects their class with its public attributes.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return _digest(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return _digest(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_asdict"):
        return [describe(item) for item in value]
    if isinstance(value, functools.partial):
        return {"class": describe(value.func), "arguments": describe([value.args, value.keywords])}
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return {"class": type(value).__qualname__, **_attributes(value)}


def _attributes(value: object) -> dict[str, Any]:
    if isinstance(value, nn.Module):
        return {"weights": describe(value.state_dict())}
    fields = value._asdict() if hasattr(value, "_asdict") else getattr(value, "__dict__", {})
    return {name: describe(item) for name, item in fields.items() if not name.startswith("_")}


def _digest(array: np.ndarray[Any, Any]) -> str:
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} {array.shape} {content}"
