"""What a store of states offers, whatever it was read from."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.fields.calendar import Calendar, Times
from neural_lam.fields.features import Feature
from neural_lam.shell.errors import InputError

__all__ = [
    "Availability",
    "Datastore",
    "check_finite",
    "complete_store",
    "hours",
    "in_order",
    "usual_step",
]


class Availability(NamedTuple):
    """Where and when a store has values.

    Arguments:
        mask: Points where a feature exists, ``(G, V)``.
        complete: Times at which every such value is there, ``(T,)``.
    """

    mask: Tensor
    complete: NDArray[np.bool_]


class Datastore(Protocol):
    """States on a grid of rows and columns, or of points.

    Arguments:
        path: For messages.
        features: Of the state.
        dims: Names of the rows' and the columns' dimension, or of the points'.
        rows: Coordinate of each row.
        columns: Coordinate of each column.
        wraps: Whether the last column is followed by the first.
        latitude: Of each grid node in degrees, ``(G,)``.
        longitude: Likewise.
        times: Of the states, rising; steps may be missing.
        calendar: Of the times.
        step: Time between states.
    """

    path: str
    features: list[Feature]
    dims: tuple[str, ...]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    wraps: bool
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    times: Times
    calendar: Calendar

    @property
    def labels(self) -> tuple[NDArray[np.float64], ...]:
        """Coordinates along each of the dimensions, as the file has them."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid; of points, how many and 1."""
        ...

    @property
    def step(self) -> np.timedelta64:
        """Time between states."""
        ...

    @property
    def positions(self) -> NDArray[np.float64]:
        """Where the nodes are in a plane, ``(G, 2)``, for the mesh."""
        ...

    @property
    def availability(self) -> Availability:
        """Where and when there are values."""
        ...

    def states(self, start: int, stop: int) -> Tensor:
        """Consecutive states, ``(stop - start, G, V)``; missing values are NaN."""
        ...


def hours(step: np.timedelta64) -> str:
    """A time span in hours, for people."""
    return f"{step / np.timedelta64(1, 'h'):.6g} h"


def usual_step(path: str, times: Times, calendar: Calendar) -> np.timedelta64:
    """The step that times rise by, of which some may be missing.

    Raises:
        InputError: Times don't rise, or not by multiples of one step.
    """
    if len(times) < 2:
        raise InputError(f"{path}: at least two times are needed, got {len(times)}")
    steps = np.diff(times)
    values, counts = np.unique(steps, return_counts=True)
    if values[0] <= np.timedelta64(0, "ns"):
        where = int(np.argmax(steps <= np.timedelta64(0, "ns")))
        raise InputError(
            f"{path}: times must rise, but {calendar.label(times[where + 1])} follows"
            f" {calendar.label(times[where])}"
        )
    step: np.timedelta64 = values[int(np.argmax(counts))]
    odd = steps % step != np.timedelta64(0, "ns")
    if odd.any():
        where = int(np.argmax(odd))
        raise InputError(
            f"{path}: times must rise by multiples of {hours(step)}, but"
            f" {calendar.label(times[where + 1])} follows {calendar.label(times[where])}"
        )
    return step


def complete_store(count: int, num_nodes: int, num_features: int) -> Availability:
    """Everything everywhere."""
    return Availability(
        torch.ones(num_nodes, num_features, dtype=torch.bool), np.ones(count, dtype=bool)
    )


def in_order(values: NDArray[Any], order: tuple[NDArray[np.int64], ...]) -> NDArray[Any]:
    """Values ``(T, levels, rows, columns)`` with rows and columns in another order."""
    for axis, places in enumerate(order, 2):
        values = np.take(values, places, axis=axis)
    return values


def check_finite(path: str, states: Tensor, features: list[Feature], times: Times) -> None:
    """Refuse states ``(T, G, V)`` with a missing value, saying which and when."""
    if not torch.isfinite(states).all():
        time, _, feature = (~torch.isfinite(states)).nonzero()[0].tolist()
        raise InputError(
            f"{path}: {features[feature].name} has a missing or infinite value"
            f" at {np.datetime_as_string(times[time], unit='m')}"
        )
