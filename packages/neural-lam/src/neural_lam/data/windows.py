"""Training windows: states to start from, the states to predict, the forcing between."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neural_lam.data.forcing import forcing, forcing_window
from neural_lam.data.series import windows_within
from neural_lam.fields.datastore import Datastore, hours
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = ["Batch", "Windows"]


class Batch(NamedTuple):
    """Windows of a store.

    Arguments:
        initial: The states up to the analysis time, ``(B, H, G, V)``.
        target: States at the lead times, ``(B, T, G, V)``.
        forcing: Window around each lead time, ``(B, T, G, 3 F)``.
        sample: Analysis time, counted in the store's times, ``(B,)``.
    """

    initial: Tensor
    target: Tensor
    forcing: Tensor
    sample: Tensor

    def __str__(self) -> str:
        return in_a_line(self)


class Windows:
    """Windows that are forecasts of a period, indexed by tensors.

    Analysis and lead times lie in the period; the states before it are known, so that they
    may lie before its start. Windows that touch a missing or incomplete time are left out.

    Arguments:
        store: Where the states come from.
        start: First state of the period.
        stop: One past its last.
        num_steps: Lead times of a window.
        forcings: Kinds of forcing.
        stride: Between the analysis times, in states.
        history: States to start from, the analysis the last.

    Raises:
        InputError: No window is left.
    """

    def __init__(
        self,
        store: Datastore,
        start: int,
        stop: int,
        num_steps: int,
        forcings: Sequence[str] = (),
        stride: int = 1,
        history: int = 2,
    ) -> None:
        if num_steps < 1 or stride < 1:
            raise InputError(f"steps and stride must be at least 1, got {num_steps} and {stride}")
        self.store, self.num_steps, self.forcings = store, num_steps, list(forcings)
        self.history = history
        first = max(start, history - 1)
        if stop - first < num_steps + 1:
            raise InputError(
                f"{store.path}: a window takes {num_steps + history} states of"
                f" {hours(store.step)}, but the period has {stop - start}"
            )
        wanted = torch.arange(first, stop - num_steps, stride)
        whole = windows_within(store, first, stop - num_steps, history - 1, num_steps)
        self.analysis = wanted[torch.isin(wanted, whole)]
        self.num_skipped = len(wanted) - len(self.analysis)
        if not len(self.analysis):
            raise InputError(
                f"{store.path}: none of {len(wanted)} windows of {num_steps + history} states of"
                f" {hours(store.step)} is without missing times"
            )
        if self.num_skipped:
            share = self.num_skipped / len(wanted)
            logging.getLogger("neural_lam").warning(
                "%s: %d of %d windows (%.2g %%) touch missing times and are left out",
                store.path,
                self.num_skipped,
                len(wanted),
                100 * share,
            )

    def __len__(self) -> int:
        return len(self.analysis)

    def __repr__(self) -> str:
        return (
            f"Windows({self.store.path}: {len(self)} of {self.num_steps} steps of"
            f" {hours(self.store.step)}, {self.num_skipped} left out)"
        )

    def __getitem__(self, index: Tensor) -> Batch:
        analysis = self.analysis[index]
        states = torch.stack(
            [
                self.store.states(t + 1 - self.history, t + 1 + self.num_steps)
                for t in analysis.tolist()
            ]
        )
        windows = torch.stack([self._forcing(t) for t in analysis.tolist()])
        return Batch(states[:, : self.history], states[:, self.history :], windows, analysis)

    def _forcing(self, analysis: int) -> Tensor:
        # Made from the time, so it exists beyond the last state of the store.
        lead = np.arange(self.num_steps + 2) * self.store.step
        store = self.store
        times = store.times[analysis] + lead
        values = forcing(times, store.latitude, store.longitude, self.forcings, store.calendar)
        return forcing_window(values)
