r"""Forcing that follows from the time and the place alone.

Top-of-atmosphere radiation is :math:`S_0 (a/r)^2 \max(0, \cos\theta)` with the solar zenith
angle :math:`\theta`, by the low-order formulas of Spencer (1971), good to about
:math:`0.01` in :math:`\cos\theta`. The hour of the day and the day of the year enter as
sine and cosine.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_lam.fields.calendar import Calendar, Times
from neural_lam.shell.errors import InputError

__all__ = ["FORCINGS", "cos_zenith", "forcing", "forcing_names", "forcing_window"]

FORCINGS = {
    "toa_radiation": ("toa_radiation",),
    "hour": ("sin_hour", "cos_hour"),
    "year": ("sin_year", "cos_year"),
}
_SOLAR_CONSTANT = 1361.0
_STANDARD = Calendar()


def forcing_names(kinds: Sequence[str]) -> list[str]:
    """Names of the features that the given kinds of forcing have.

    Raises:
        ValueError: A kind is unknown.
    """
    for kind in kinds:
        if kind not in FORCINGS:
            raise InputError(f"forcing must be among {', '.join(FORCINGS)}, got {kind!r}")
    return [name for kind in kinds for name in FORCINGS[kind]]


def _phases(times: Times, calendar: Calendar) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles of the day (UTC) and of the year."""
    of_day = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "D")
    return 2 * np.pi * of_day, 2 * np.pi * calendar.year_fraction(times)


def _spencer(year: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Declination, equation of time (as an angle) and squared inverse distance of the sun.

    References:
        Spencer (1971), Fourier series representation of the position of the sun, Search 2(5).
    """
    sin, cos = np.sin, np.cos
    declination = (
        0.006918 - 0.399912 * cos(year) + 0.070257 * sin(year) - 0.006758 * cos(2 * year)
        + 0.000907 * sin(2 * year) - 0.002697 * cos(3 * year) + 0.00148 * sin(3 * year)
    )  # fmt: skip
    equation = (
        0.000075 + 0.001868 * cos(year) - 0.032077 * sin(year)
        - 0.014615 * cos(2 * year) - 0.040849 * sin(2 * year)
    )  # fmt: skip
    distance = (
        1.00011 + 0.034221 * cos(year) + 0.00128 * sin(year)
        + 0.000719 * cos(2 * year) + 0.000077 * sin(2 * year)
    )  # fmt: skip
    return declination, equation, distance


def cos_zenith(
    times: Times,
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    calendar: Calendar = _STANDARD,
) -> NDArray[np.float64]:
    """Cosine of the solar zenith angle (negative at night), ``(time, G)``.

    Arguments:
        times: UTC.
        latitude: Of each place in degrees, ``(G,)``.
        longitude: Likewise.
        calendar: Of the times.
    """
    day, year = _phases(times, calendar)
    declination, equation, _ = _spencer(year)
    hour_angle = (day + equation)[:, None] + np.deg2rad(longitude)[None] - np.pi
    phi, delta = np.deg2rad(latitude)[None], declination[:, None]
    cosine: NDArray[np.float64] = np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(
        delta
    ) * np.cos(hour_angle)
    return cosine


def forcing(
    times: Times,
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    kinds: Sequence[str],
    calendar: Calendar = _STANDARD,
) -> Tensor:
    """Forcing at the given times and places, ``(time, G, F)``; radiation in W/m²."""
    day, year = _phases(times, calendar)
    columns = []
    phases = {"hour": day, "year": year}
    for kind in kinds:
        if kind in phases:
            columns += [
                np.broadcast_to(f(phases[kind])[:, None], (len(times), len(latitude)))
                for f in (np.sin, np.cos)
            ]
        else:
            sun = np.maximum(0, cos_zenith(times, latitude, longitude, calendar))
            columns.append(_SOLAR_CONSTANT * _spencer(year)[2][:, None] * sun)
    if not columns:
        return torch.zeros(len(times), len(latitude), 0)
    return torch.from_numpy(np.stack(columns, axis=-1)).float()


def forcing_window(values: Tensor) -> Tensor:
    """Past, present and future of each inner time, ``(T + 2, G, F)`` to ``(T, G, 3 F)``."""
    return torch.cat((values[:-2], values[1:-1], values[2:]), dim=-1)
