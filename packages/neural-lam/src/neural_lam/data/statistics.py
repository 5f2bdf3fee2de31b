r"""Means and standard deviations of the training period, in one pass.

Chunks are combined by the update of Chan, Golub & LeVeque (1983), which loses no digits
where the mean is large against the spread (geopotential, pressure).
"""

import os
from typing import NamedTuple

import xarray as xr
from torch import Tensor

from neural_lam.data.fields import Datastore
from neural_lam.shell.errors import InputError

__all__ = ["Moments", "Statistics", "combine", "moments", "state_statistics", "write_statistics"]


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of each feature, ``(V,)``."""

    number: int
    mean: Tensor
    square: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of the population."""
        return (self.square / self.number).sqrt()


class Statistics(NamedTuple):
    """What standardises states; physical units, each ``(V,)``."""

    mean: Tensor
    std: Tensor
    difference_mean: Tensor
    difference_std: Tensor


def moments(values: Tensor) -> Moments:
    """Moments over all but the last dimension."""
    flat = values.flatten(0, -2).double()
    mean = flat.mean(0)
    return Moments(len(flat), mean, (flat - mean).square().sum(0))


def combine(a: Moments, b: Moments) -> Moments:
    """Moments of two sets together."""
    count = a.number + b.number
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.number / count)
    square = a.square + b.square + delta.square() * (a.number * b.number / count)
    return Moments(count, mean, square)


def state_statistics(store: Datastore, start: int, stop: int, *, chunk: int = 64) -> Statistics:
    """Statistics of the states and of their one-step changes, ``start`` to ``stop``.

    Raises:
        ValueError: The period is too short, or a feature is constant.
    """
    if stop - start < 2:
        raise InputError(f"statistics need at least two states, got {stop - start}")
    total = change = None
    for first in range(start, stop - 1, chunk):
        last = min(first + chunk, stop - 1)
        states = store.states(first, last + 1)
        # The last state of a chunk is the first of the next: it counts once.
        body = moments(states[:-1] if last < stop - 1 else states)
        step = moments(states[1:].double() - states[:-1].double())
        total = body if total is None else combine(total, body)
        change = step if change is None else combine(change, step)
    assert total is not None
    assert change is not None
    for feature, std in zip(store.features, change.std, strict=True):
        if not std > 0:
            raise InputError(f"{feature.name} never changes between {start} and {stop}")
    fields = (total.mean, total.std, change.mean, change.std)
    return Statistics(*(field.float() for field in fields))


def write_statistics(statistics: Statistics, names: list[str], path: str) -> None:
    """Write statistics as NetCDF, whole or not at all."""
    variables = {key: ("feature", value.numpy()) for key, value in statistics._asdict().items()}
    partial = f"{path}.part"
    xr.Dataset(variables, {"feature": names}).to_netcdf(partial, engine="h5netcdf")
    os.replace(partial, path)
