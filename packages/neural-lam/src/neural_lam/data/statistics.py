r"""Means and standard deviations of the training period, in one pass.

Chunks are combined by the update of Chan, Golub & LeVeque (1983), which loses no digits
where the mean is large against the spread (geopotential, pressure). Only usable values count:
within a feature's mask, at complete times, and for changes between consecutive ones.
"""

from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neural_lam.data.series import consecutive, usable_states
from neural_lam.fields.datastore import Datastore
from neural_lam.shell.errors import InputError
from neural_lam.shell.writing import whole

__all__ = ["Moments", "Statistics", "combine", "moments", "state_statistics", "write_statistics"]


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of each feature, ``(V,)``."""

    number: Tensor
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
    """Moments over all but the last dimension; NaN doesn't count."""
    flat = values.flatten(0, -2).double()
    counted = ~flat.isnan()
    number = counted.sum(0).double()
    mean = torch.nan_to_num(flat).sum(0) / number.clamp(min=1)
    square = torch.where(counted, flat - mean, 0.0).square().sum(0)
    return Moments(number, mean, square)


def combine(a: Moments, b: Moments) -> Moments:
    """Moments of two sets together.

    References:
        Chan et al. (1983), Algorithms for computing the sample variance,
        doi.org/10.1080/00031305.1983.10483115.
    """
    count = a.number + b.number
    share = b.number / count.clamp(min=1)
    delta = b.mean - a.mean
    square = a.square + b.square + delta.square() * a.number * share
    return Moments(count, a.mean + delta * share, square)


def state_statistics(store: Datastore, start: int, stop: int, *, chunk: int = 64) -> Statistics:
    """Statistics of the states and of their one-step changes, ``start`` to ``stop``.

    Raises:
        ValueError: The period is too short, or a feature is constant.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """
    if stop - start < 2:
        raise InputError(f"statistics need at least two states, got {stop - start}")
    total = change = None
    follows = torch.from_numpy(consecutive(store))
    for first in range(start, stop - 1, chunk):
        last = min(first + chunk, stop - 1)
        states = usable_states(store, first, last + 1).double()
        # The last state of a chunk is the first of the next: it counts once.
        body = moments(states[:-1] if last < stop - 1 else states)
        steps = torch.where(follows[first:last, None, None], states[1:] - states[:-1], torch.nan)
        step = moments(steps)
        total = body if total is None else combine(total, body)
        change = step if change is None else combine(change, step)
    assert total is not None
    assert change is not None
    for feature, std, number in zip(store.features, change.std, change.number, strict=True):
        if not std > 0:
            labels = [store.calendar.label(store.times[t]) for t in (start, stop - 1)]
            reason = "never changes" if number else "has no two consecutive states"
            raise InputError(
                f"{store.path}: {feature.name} {reason} between {labels[0]} and {labels[1]}"
            )
    fields = (total.mean, total.std, change.mean, change.std)
    return Statistics(*(field.float() for field in fields))


def write_statistics(statistics: Statistics, store: Datastore, path: str) -> None:
    """Write statistics as NetCDF with names and units, whole or not at all."""
    variables = {key: ("feature", value.numpy()) for key, value in statistics._asdict().items()}
    coordinates = {
        "feature": [feature.name for feature in store.features],
        "units": ("feature", np.array([feature.units for feature in store.features])),
    }
    with whole(path) as partial:
        xr.Dataset(variables, coordinates).to_netcdf(partial, engine="h5netcdf")
