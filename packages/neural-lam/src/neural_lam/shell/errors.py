"""What is wrong with a user's input."""

__all__ = ["InputError"]


class InputError(ValueError):
    """What a user gave can't be used; the message says what, where and what was expected."""
