"""What ``print`` shows of an object: one line of its settings, sizes instead of numbers."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["in_a_line"]

_LONGEST = 60  # characters of one value
_FEW = 4  # numbers of a tensor that are shown
_MISSING = object()


def in_a_line(self: object) -> str:
    """Class and settings of an object in one line; ``__str__ = in_a_line`` in its class.

    Shown are the fields of a named tuple or a data class, otherwise the arguments of the
    constructor that the object keeps under their own names. Tensors and arrays of more than
    four numbers appear with shape and type, modules with the number of their parameters.
    """
    values = ((name, getattr(self, name, _MISSING)) for name in _names(self))
    words = [f"{name}={_word(value)}" for name, value in values if value is not _MISSING]
    if not words and hasattr(self, "parameters"):
        words = [_size(self.parameters())]
    return f"{type(self).__name__}({', '.join(words)})"


def _names(value: Any) -> Iterable[str]:
    fields = getattr(value, "_fields", None) or getattr(value, "__dataclass_fields__", None)
    return fields or list(inspect.signature(type(value)).parameters)


def _word(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _numbers(value)
    if any(vars(base).get("__str__") is in_a_line for base in type(value).__mro__):
        return _short(str(value))
    if isinstance(value, Mapping):
        return _short(f"{{{', '.join(f'{key}: {_word(one)}' for key, one in value.items())}}}")
    if isinstance(value, list | tuple) or type(value).__name__ in {"ModuleList", "Sequential"}:
        return _short(f"[{', '.join(map(_word, value))}]")
    if hasattr(value, "parameters") and not _has_line(value):
        return f"{type(value).__name__}({_size(value.parameters())})"
    if isinstance(value, Callable) and not hasattr(value, "parameters"):  # type: ignore[arg-type]
        return getattr(value, "__name__", type(value).__name__)
    return _short(" ".join(repr(value).split()))


def _has_line(value: Any) -> bool:
    """Whether a class says by itself what its objects are, in place of a module's tree."""
    home = next(base for base in type(value).__mro__ if "__repr__" in vars(base))
    return home.__name__ not in {"Module", "object", "function"}


def _numbers(values: Any) -> str:
    """The values of a tensor where they are few, otherwise its shape and type."""
    if len(values.shape) > 1 or math.prod(values.shape) > _FEW:
        sizes = ", ".join(map(str, values.shape))
        return f"[{sizes}] {str(values.dtype).removeprefix('torch.')}"
    return " ".join(
        re.sub(
            r"\d+\.\d{6,}", lambda found: f"{float(found[0]):.6g}", repr(values.tolist())
        ).split()
    )


def _size(parameters: Iterable[Any]) -> str:
    return f"{sum(one.numel() for one in parameters):,} parameters".replace(",", " ")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
