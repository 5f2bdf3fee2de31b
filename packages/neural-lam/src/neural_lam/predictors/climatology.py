r"""Climatology: the mean at each time of the day and, where the record is long enough, of the year.

At a time of the day (slot) :math:`s` and the part :math:`\phi` of the year that has passed,

.. math:: c_s(\phi) = a_{s0} + \sum_{k=1}^{2} a_{sk} \cos 2\pi k \phi + b_{sk} \sin 2\pi k \phi,

fitted by least squares at each point. Two harmonics follow the seasons and leave the weather of
single days out. Its memory doesn't grow with the record.
"""

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_lam.predictors.series import Array, Readable, readable
from neural_lam.shell.errors import InputError

__all__ = ["Climatology", "Year", "climatology"]

_HARMONICS = 2
_BATCH = 64


class Climatology(NamedTuple):
    """Coefficients of each time of the day.

    Arguments:
        coefficients: ``(slots, K, V, y, x)``; ``K`` is 1 without seasons.
    """

    coefficients: Array

    def at(self, slots: NDArray[np.int64], phases: Array) -> Array:
        """Mean at times of the day and of the year, ``(T, V, y, x)``.

        Arguments:
            slots: Number of the time of the day, ``(T,)``.
            phases: Part of the year that has passed, ``(T,)``.
        """
        waves = _waves(phases, self.coefficients.shape[1])
        found: Array = np.einsum("tk,tk...->t...", waves, self.coefficients[slots])
        return found


class Year(Enum):
    """How means change over the year: not at all, or by its first harmonics."""

    FLAT = "flat"
    HARMONIC = "harmonic"


def _waves(phases: Array, count: int) -> Array:
    """Constant, cosines and sines of the year, ``(T, K)``."""
    k = np.arange(1, count // 2 + 1)
    angles = 2 * np.pi * phases[:, None] * k
    return np.concatenate((np.ones((len(phases), 1)), np.cos(angles), np.sin(angles)), axis=1)


def climatology(
    fields: Readable | Array,
    slots: NDArray[np.int64],
    phases: Array,
    usable: NDArray[np.bool_] | None = None,
    year: Year = Year.FLAT,
) -> Climatology:
    """Fit the means.

    Arguments:
        fields: ``(time, V, y, x)``.
        slots: Number of the time of the day, ``(time,)``.
        phases: Part of the year that has passed, ``(time,)``.
        usable: Which times count, ``(time,)``.
        year: Whether to fit harmonics of the year; the record should cover a year.

    Raises:
        InputError: A time of the day never occurs.

    References:
        Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
        global weather models, arXiv:2308.15560. Narapusetty et al. (2009), Optimal estimation of
        the climatological mean, doi.org/10.1175/2009JCLI2944.1.
    """
    series = readable(fields)
    usable = np.ones(series.length, dtype=bool) if usable is None else usable
    num_slots, count = int(slots.max()) + 1, 1 + 2 * _HARMONICS * (year is Year.HARMONIC)
    seen = np.bincount(slots[usable], minlength=num_slots)
    if (seen < count).any():
        raise InputError(
            f"a climatology needs every time of the day, got {int(usable.sum())} states"
        )
    gram = np.zeros((num_slots, count, count))
    shape = series.read(0, 1).shape[1:]
    moment = np.zeros((num_slots, count, *shape))
    for first in range(0, series.length, _BATCH):
        last = min(first + _BATCH, series.length)
        rows, waves = series.read(first, last), _waves(phases[first:last], count)
        for row, wave, slot, counts in zip(
            rows, waves, slots[first:last], usable[first:last], strict=True
        ):
            if counts:
                gram[slot] += np.outer(wave, wave)
                moment[slot] += wave.reshape(-1, 1, 1, 1) * row
    flat = moment.reshape(num_slots, count, -1)
    return Climatology(np.asarray(np.linalg.solve(gram, flat)).reshape(moment.shape))
