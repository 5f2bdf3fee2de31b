"""Errors that a command answers in one line."""

__all__ = ["InputError"]


class InputError(ValueError):
    """What a user gave can't be used; the message says what, where and what was expected."""
