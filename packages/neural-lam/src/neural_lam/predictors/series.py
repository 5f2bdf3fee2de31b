"""Series of fields ``(time, V, y, x)`` that simple forecasts are fitted on, read piece by piece."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Held", "Readable", "centres", "readable"]

Array = NDArray[np.float64]


class Readable(Protocol):
    """Fields at equal steps of time, some of which may be missing.

    Arguments:
        length: Number of times.
        broken: How many breaks (missing or incomplete times) lie before each, ``(T,)``.
    """

    @property
    def length(self) -> int:
        """Number of times."""
        ...

    @property
    def broken(self) -> NDArray[np.int64]:
        """How many breaks lie before each time."""
        ...

    def read(self, first: int, last: int) -> Array:
        """Fields ``first`` to ``last``, ``(T, V, y, x)``; zero where there are none."""
        ...


class Held(NamedTuple):
    """Fields in memory, without breaks."""

    values: Array

    @property
    def length(self) -> int:
        """Number of times."""
        return len(self.values)

    @property
    def broken(self) -> NDArray[np.int64]:
        """No breaks."""
        return np.zeros(len(self.values), np.int64)

    def read(self, first: int, last: int) -> Array:
        """Fields ``first`` to ``last``."""
        return self.values[first:last]


def readable(fields: Readable | Array) -> Readable:
    """A series of fields, also of an array."""
    return Held(fields) if isinstance(fields, np.ndarray) else fields


def centres(fields: Readable, first: int, stop: int, before: int, after: int) -> NDArray[np.int64]:
    """Times from ``first`` to ``stop`` with so many times in a row before and after."""
    times = np.arange(max(first, before), min(stop, fields.length - after))
    broken = fields.broken
    whole: NDArray[np.int64] = times[broken[times + after] == broken[times - before]]
    return whole
