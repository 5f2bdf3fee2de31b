"""What a run was asked for, as plain values: for its report, and to know the run again.

Two objects made by the same settings have the same description, in any process: no address
enters, and arrays stand as their type, shape and a digest of their values.
"""

import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from diffsmc.targets.target import Target

__all__ = ["describe", "identify", "to_json", "without_nan"]


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
    if inspect.isfunction(value):
        name = f"{value.__module__}.{value.__qualname__}"
        installed = value.__module__.partition(".")[0] in {"torch", "diffsmc"}
        if installed and not value.__closure__:
            return name
        return {"function": name, **_function(value)}
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Constraint):
        return {"constraint": str(value), "bounds": describe(vars(value))}
    return {"class": type(value).__qualname__, **_attributes(value)}


def identify(target: Target) -> Any:
    """Describe what density a target is, apart from where a run on it starts.

    Two runs whose targets are described alike are runs of one model on the same data.
    """
    shape = {"start_mean", "start_factor", "scale", "location", "starts_from_prior", "training"}
    described = {"class": type(target).__qualname__, **_attributes(target)}
    return {name: value for name, value in described.items() if name not in shape}


def to_json(value: object) -> str:
    """Write plain values as JSON, which has no NaN: null stands for it."""
    return json.dumps(without_nan(value), default=str, allow_nan=False)


def without_nan(node: Any) -> Any:
    """Replace numbers that JSON cannot hold by null."""
    if isinstance(node, Mapping):
        return {key: without_nan(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [without_nan(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _function(function: Any) -> dict[str, Any]:
    """Describe a function by its code and the data that it uses."""
    code = function.__code__
    used = {
        name: cell.cell_contents
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    }
    used |= {
        name: function.__globals__[name]
        for name in code.co_names
        if isinstance(function.__globals__.get(name), int | float | str | Tensor | np.ndarray)
    }
    constants = [item for item in code.co_consts if isinstance(item, int | float | str)]
    digest = hashlib.sha256(code.co_code + repr(constants).encode()).hexdigest()[:16]
    defaults = describe([function.__defaults__, function.__kwdefaults__])
    plain = {name: _shallow(item) for name, item in used.items()}
    return {"code": digest, "uses": plain, "defaults": defaults}


def _shallow(value: object) -> Any:
    """Describe what a function closes over; of other functions only their own code."""
    if inspect.isfunction(value):
        return {"function": value.__qualname__, "code": _code(value)}
    return describe(value)


def _code(function: Any) -> str:
    return hashlib.sha256(function.__code__.co_code).hexdigest()[:16]


def _attributes(value: object) -> dict[str, Any]:
    fields = value._asdict() if hasattr(value, "_asdict") else getattr(value, "__dict__", {})
    plain = {name: describe(item) for name, item in fields.items() if not name.startswith("_")}
    if isinstance(value, nn.Module):
        plain.pop("training", None)
        tensors = {**dict(value.named_buffers()), **dict(value.named_parameters())}
        own = {name: item for name, item in tensors.items() if not name.startswith("start_")}
        return {**plain, "weights": describe(own)}
    return plain


def _digest(array: np.ndarray[Any, Any]) -> str:
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} {array.shape} {content}"
