"""Whether to skip work that the result doesn't need.

Knowing what can be skipped takes a look at the values. On the CPU that is free, and skipping pays
for the masks; an accelerator would have to wait at every site, so that there everything is
computed. The results are the same. ``with shortcuts(False)`` and ``with shortcuts(True)`` decide by
hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

__all__ = ["pays", "shortcuts"]

_decided: ContextVar[bool | None] = ContextVar("decided", default=None)


def pays(device: torch.device) -> bool:
    """Whether shortcuts are taken for tensors of a device."""
    decided = _decided.get()
    return device.type in ("cpu",) if decided is None else decided


@contextmanager
def shortcuts(taken: bool) -> Iterator[None]:
    """Take shortcuts, or none, on every device.

    Arguments:
        taken: Whether to take them.
    """
    token = _decided.set(taken)
    try:
        yield
    finally:
        _decided.reset(token)
