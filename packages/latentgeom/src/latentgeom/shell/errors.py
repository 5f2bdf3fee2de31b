"""Errors that are the user's to mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """What a user gave can't be used; the message says what, where and what was expected."""
