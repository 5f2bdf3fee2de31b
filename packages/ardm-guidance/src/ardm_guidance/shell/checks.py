"""Numbers that a user hands in, checked where they enter."""

import math

__all__ = ["counts", "not_negative", "positive"]


def positive(**values: float) -> None:
    """Refuse what isn't a finite number above zero.

    Raises:
        ValueError: One isn't; the message has its name and its value.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value}")


def not_negative(**values: float) -> None:
    """Refuse what isn't a finite number of at least zero.

    Raises:
        ValueError: One isn't; the message has its name and its value.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must not be negative, got {value}")


def counts(**values: int) -> None:
    """Refuse what isn't a count of at least one.

    Raises:
        ValueError: One isn't; the message has its name and its value.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
