"""What ``print`` shows of an object: one line of its settings, sizes instead of numbers."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["in_a_line"]

_LONGEST = 60  # characters of one value
_MISSING = object()


def in_a_line(self: object) -> str:
    """Class and settings of an object in one line; ``__str__ = in_a_line`` in its class.

    Shown are the fields of a named tuple or a data class, otherwise the arguments of the
    constructor that the object keeps under their own names. Tensors and arrays appear with
    shape and type, modules with the number of their parameters.
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
        sizes = ", ".join(map(str, value.shape))
        return f"[{sizes}] {str(value.dtype).removeprefix('torch.')}"
    if any(vars(base).get("__str__") is in_a_line for base in type(value).__mro__):
        return _short(str(value))
    if isinstance(value, Mapping):
        return _short(f"{{{', '.join(f'{key}: {_word(one)}' for key, one in value.items())}}}")
    if isinstance(value, list | tuple):
        return _short(f"[{', '.join(map(_word, value))}]")
    if hasattr(value, "parameters"):
        return f"{type(value).__name__}({_size(value.parameters())})"
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return getattr(value, "__name__", type(value).__name__)
    return _short(" ".join(repr(value).split()))


def _size(parameters: Iterable[Any]) -> str:
    return f"{sum(one.numel() for one in parameters):,} parameters".replace(",", " ")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
