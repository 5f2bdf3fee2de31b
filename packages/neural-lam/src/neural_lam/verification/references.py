"""Simple forecasts from the same analyses as a model's: what it must beat.

They are fitted on the training period and chosen on what follows until the test. Where the
record is too short, or the grid doesn't allow one, that one is left out and named.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from neural_lam.data.series import Series
from neural_lam.fields.areas import grid_interior
from neural_lam.fields.calendar import Times
from neural_lam.fields.datastore import Datastore
from neural_lam.graphs.sides import Sides
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.climatology import Climatology, Year, climatology
from neural_lam.predictors.components import (
    ComponentForecast,
    fit_components,
    forecast_components,
    same_hour_yesterday,
)
from neural_lam.predictors.series import Array
from neural_lam.predictors.stencil import LinearStencil, Points, fit_stencil, roll_stencil
from neural_lam.shell.errors import InputError

__all__ = ["References", "Settings", "fit_references", "simple_forecasts", "states_a_day"]

# The linear stencil sees a square of 7 x 7 points.
_REACH = 3
_YEAR = np.timedelta64(360, "D")
_log = logging.getLogger("neural_lam")
Found = TypeVar("Found")


class Settings(NamedTuple):
    """How forecasts were made.

    Arguments:
        width: Of the boundary.
        training_stop: States of the truth that a model may have been trained on.
        test_start: First analysis time in the truth.
        lead_steps: Lead times in steps of the truth, ``(T,)``.
        held_boundary: Whether the boundary of the lead times wasn't known.
    """

    width: int
    training_stop: int
    test_start: int
    lead_steps: NDArray[np.int64]
    held_boundary: bool


class References(NamedTuple):
    """Fitted simple forecasts of some features of a truth.

    Arguments:
        climatology: Mean by time of day and year; nothing where the record is too short.
        stencil: 7 x 7 points.
        cross: 5 points.
        components: Ridge regression on principal components.
        weights: Of each feature's points in the scores, ``(V, y, x)``.
        settings: How the forecasts were made.
        period: States a day, if it is a whole number.
    """

    climatology: Climatology | None
    stencil: LinearStencil | None
    cross: LinearStencil | None
    components: ComponentForecast | None
    weights: Array
    settings: Settings
    period: int | None

    def mean(self, store: Datastore, times: Times, shape: tuple[int, ...]) -> Array:
        """Climatology at times; zero without one."""
        if self.climatology is None:
            return np.zeros(shape)
        return self.climatology.at(*_clock(store, times))


def states_a_day(store: Datastore) -> int | None:
    """States a day, if that is a whole number."""
    day = np.timedelta64(1, "D")
    return int(day // store.step) if day % store.step == np.timedelta64(0, "ns") else None


def _clock(store: Datastore, times: Times) -> tuple[NDArray[np.int64], Array]:
    """Number of the time of day, and the part of the year that has passed."""
    phases = store.calendar.year_fraction(times)
    if states_a_day(store) is None:
        return np.zeros(len(times), np.int64), phases
    slots = (times - times.astype("datetime64[D]")) // store.step
    return slots.astype(np.int64), phases


class _Anomalies(NamedTuple):
    """Anomalies of some features from a climatology, as `Readable`."""

    series: Series
    features: list[int]
    climatology: Climatology

    @property
    def length(self) -> int:
        """Number of states."""
        return self.series.length

    @property
    def broken(self) -> NDArray[np.int64]:
        """How many breaks lie before each state."""
        return self.series.broken

    def read(self, first: int, last: int) -> Array:
        """Anomalies, zero where a feature doesn't exist."""
        start, store = self.series.start, self.series.store
        fields = self.series.read(first, last)[:, self.features]
        times = store.times[start + first : start + last]
        exists = store.availability.mask.T.reshape(-1, *store.shape).numpy()[self.features]
        return np.where(exists, fields - self.climatology.at(*_clock(store, times)), 0.0)


class _Chosen(NamedTuple):
    """Some features of a series, as `Readable`."""

    series: Series
    features: list[int]

    @property
    def length(self) -> int:
        """Number of states."""
        return self.series.length

    @property
    def broken(self) -> NDArray[np.int64]:
        """How many breaks lie before each state."""
        return self.series.broken

    def read(self, first: int, last: int) -> Array:
        """Fields of the features."""
        return self.series.read(first, last)[:, self.features]


def _series(store: Datastore, stop: int) -> Series:
    size = len(store.features)
    nothing = torch.zeros(len(store.latitude), size, dtype=torch.float64)
    return Series(store, nothing, torch.ones(size, dtype=torch.float64), 0, stop)


def _attempt(name: str, fit: Callable[[], Found]) -> Found | None:
    """A fit, or nothing where its data don't allow it; that is told."""
    try:
        return fit()
    except InputError as error:
        _log.warning("verify: without %s: %s", name, error)
        return None


def _climatology(store: Datastore, features: list[int], stop: int) -> Climatology:
    if stop < 2:
        raise InputError("no states before the first forecast")
    slots, phases = _clock(store, store.times[:stop])
    per_day = states_a_day(store)
    if per_day is not None and int(slots.max()) + 1 < per_day:
        raise InputError(f"every time of the day is needed, got {stop} states")
    long = store.times[stop - 1] - store.times[0] >= _YEAR
    return climatology(
        _Chosen(_series(store, stop), features),
        slots,
        phases,
        store.availability.complete[:stop],
        Year.HARMONIC if long else Year.FLAT,
    )


def fit_references(
    store: Datastore, features: list[int], settings: Settings, area: Array
) -> References:
    """Fit the simple forecasts.

    Arguments:
        store: The truth.
        features: Numbers of the features that are scored.
        settings: How the forecasts were made.
        area: What each grid point counts, ``(G,)``.

    References:
        Murphy (1992), Climatology, persistence, and their linear combination as standards of
        reference in skill scores, Weather and Forecasting 7.
    """
    stop, width, steps = settings.training_stop, settings.width, settings.lead_steps
    exists = store.availability.mask.T.reshape(-1, *store.shape).numpy()[features]
    inside = grid_interior(store, width).double().reshape(store.shape).numpy()
    weights = exists * area.reshape(store.shape) * inside
    period = states_a_day(store)
    mean = _attempt("climatology", lambda: _climatology(store, features, stop))
    if mean is None:
        return References(None, None, None, None, weights, settings, period)
    fitted = _Anomalies(_series(store, stop), features, mean)
    everything = _Anomalies(_series(store, settings.test_start), features, mean)
    partial = None if exists.all() else exists
    reach = min(width, _REACH) if width else min(_REACH, min(store.shape) - 1)
    common = {"sides": Sides(store.wraps), "exists": partial}

    def stencil() -> LinearStencil:
        _regular(store)
        found = fit_stencil(fitted, width, reach, num_steps=min(8, int(steps[-1])), **common)  # type: ignore[arg-type]
        return found

    def cross() -> LinearStencil:
        _regular(store)
        options = {
            "num_times": 1000,
            "num_steps": 1,
            "ridges": (1e-6,),
            "points": Points.CROSS,
            **common,
        }
        return fit_stencil(fitted, width, 1, **options)  # type: ignore[arg-type]

    def components() -> ComponentForecast:
        if period is None or not np.array_equal(steps, np.arange(1, len(steps) + 1)):
            raise InputError("it needs whole days and lead times of every step")
        return fit_components(
            everything,
            width,
            len(steps),
            period=period,
            chosen_from=stop,
            future=FutureBoundary(settings.held_boundary),
            exists=partial,
        )

    return References(
        mean,
        _attempt("the linear stencil", stencil),
        _attempt("the five-point stencil", cross),
        _attempt("principal components", components),
        weights,
        settings,
        period,
    )


def _regular(store: Datastore) -> None:
    if len(store.dims) != 2:
        raise InputError("it needs a grid of rows and columns")


def simple_forecasts(
    references: References, states: Array, mean: Array, now: int
) -> dict[str, Array]:
    """The simple forecasts from one analysis time, ``(T, V, y, x)`` each.

    Arguments:
        references: What was fitted.
        states: Up to the analysis time and at every step to the last lead time.
        mean: Climatology at the same times.
        now: Place of the analysis time.
    """
    settings = references.settings
    steps = settings.lead_steps
    leads = steps - 1
    exists = _exist(states)
    anomalies = np.where(exists, states - mean, 0.0)
    frame = anomalies[now + 1 :]
    if settings.held_boundary:
        frame = np.broadcast_to(anomalies[now], frame.shape)
    past, future = anomalies[: now + 1], mean[now + 1 :]
    found: dict[str, Array] = {}
    stencils = {"linear_stencil": references.stencil, "five_point_stencil": references.cross}
    for name, stencil in stencils.items():
        if stencil is not None and now > 0:
            found[name] = roll_stencil(stencil, past[-2:], frame)[leads] + future[leads]
    if references.components is not None and now > 1:
        made = forecast_components(references.components, past, frame)
        found["principal_components"] = made + future
    if references.period is not None and now >= references.period:
        whole = same_hour_yesterday(states[now - references.period : now + 1], int(steps[-1]))
        found["same_hour_yesterday"] = whole[leads]
    found["persistence"] = np.broadcast_to(states[now], (len(steps), *states.shape[1:]))
    if references.climatology is not None:
        found["climatology"] = future[leads]
    return found


def _exist(states: Array) -> NDArray[np.bool_]:
    """Where values are, ``(V, y, x)``: beyond the scored points too."""
    return np.asarray(np.isfinite(states).all(0))
