"""Errors that are the user's to mend, each of one line, and the ways in which a run is stopped."""

__all__ = ["InputError", "Stopped"]


class InputError(ValueError):
    """What a user gave can't be used; the message says what, where and what was expected."""


class Stopped(BaseException):
    """The run was stopped from outside; no mistake, and nothing that code should catch.

    Arguments:
        message: What was reached, and how to go on.
        code: Exit code of the process: 128 and the number of the signal.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
