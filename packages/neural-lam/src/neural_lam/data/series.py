"""A store's values as a series of fields: only what counts, read as far as it is asked for."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.fields.datastore import Datastore

__all__ = ["Series", "consecutive", "mean_state", "usable_states", "windows_within"]

_BATCH = 64


def usable_states(store: Datastore, start: int, stop: int) -> Tensor:
    """States ``(T, G, V)`` with NaN at incomplete times and where a feature doesn't exist."""
    states, available = store.states(start, stop), store.availability
    complete = torch.from_numpy(available.complete[start:stop])
    return torch.where(complete[:, None, None] & available.mask, states, torch.nan)


def consecutive(store: Datastore) -> NDArray[np.bool_]:
    """Whether a complete state follows each complete state one step later, ``(T - 1,)``."""
    complete = store.availability.complete
    follows: NDArray[np.bool_] = np.diff(store.times) == store.step
    return follows & complete[:-1] & complete[1:]


def windows_within(store: Datastore, first: int, stop: int, before: int, after: int) -> Tensor:
    """Times ``first`` to ``stop`` with so many complete states in a row before and after."""
    broken = np.concatenate(([0], np.cumsum(~consecutive(store))))
    times = np.arange(max(first, before), min(stop, len(store.times) - after))
    whole = broken[times + after] == broken[times - before]
    if before == 0 and after == 0:
        whole = store.availability.complete[times]
    return torch.from_numpy(times[whole])


def mean_state(store: Datastore, start: int, stop: int) -> Tensor:
    """Mean of the usable states of a period, ``(G, V)``; zero where a feature doesn't exist."""
    total = torch.zeros(len(store.latitude), len(store.features), dtype=torch.float64)
    count = 0
    for first in range(start, stop, _BATCH):
        states = usable_states(store, first, min(first + _BATCH, stop)).double()
        total += torch.nan_to_num(states).sum(0)
        count += int(store.availability.complete[first : first + len(states)].sum())
    return total / max(count, 1)


class Series(NamedTuple):
    """Anomalies of a period as images, sliced like an array ``(T, V, y, x)``.

    Where a feature doesn't exist, an anomaly is zero; so it is at incomplete times, which nobody
    should ask for.

    Arguments:
        store: Where the states come from.
        mean: What is subtracted, ``(G, V)``.
        scale: What the rest is divided by, ``(V,)``.
        start: First state.
        stop: One past the last.
    """

    store: Datastore
    mean: Tensor
    scale: Tensor
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of states."""
        return self.stop - self.start

    @property
    def broken(self) -> NDArray[np.int64]:
        """How many breaks lie before each state, ``(T,)``; an incomplete one has two."""
        whole = consecutive(self.store)[self.start : self.stop - 1]
        return np.concatenate(([0], np.cumsum(~whole)))

    def read(self, first: int, last: int) -> NDArray[np.float64]:
        """Anomalies ``first`` to ``last`` of the period, ``(T, V, y, x)``."""
        states = usable_states(self.store, self.start + first, self.start + last).double()
        anomalies = torch.nan_to_num((states - self.mean) / self.scale)
        images = anomalies.transpose(1, 2).reshape(last - first, -1, *self.store.shape)
        return images.numpy()
