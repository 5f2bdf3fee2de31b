"""Ridge regression on principal components: a forecast of its own for each lead time.

For each lead time the interior's change is regressed on principal components of the interior now,
one step before and at the same hour of the last known day, and of the boundary then, now and,
where it is given, at the lead time. At most `_MOST` times are fitted and choose, so that its
memory doesn't grow with the record.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.series import Array, Readable, centres, readable
from neural_lam.shell.errors import InputError

__all__ = [
    "ComponentForecast",
    "fit_components",
    "forecast_components",
    "last_known_day",
    "same_hour_yesterday",
]

_MOST = 1000
_BATCH = 64


def last_known_day(num_steps: int, period: int) -> NDArray[np.int64]:
    """Steps from the analysis to the same hour of the last known day, for each lead time."""
    leads = np.arange(1, num_steps + 1)
    return leads - period * -(-leads // period)


def same_hour_yesterday(past: Array, num_steps: int) -> Array:
    """The last known state of the same hour, ``(T, V, y, x)``.

    Arguments:
        past: States of a day and the analysis, ``(period + 1, V, y, x)``.
        num_steps: Lead times.
    """
    period = len(past) - 1
    return past[period + last_known_day(num_steps, period)]


class ComponentForecast(NamedTuple):
    """Ridge regressions on principal components, one for each lead time.

    Arguments:
        inner: Components of the interior, ``(points, K)``, most that any lead time uses.
        frame: Those of the boundary, ``(points, K)``.
        weights: For each lead time, ``(features, points)``.
        sizes: Components that each lead time uses, ``(T,)``.
        period: States a day.
        inside: Where forecasts are made, ``(V, y, x)``.
        outside: Where the boundary is, ``(V, y, x)``.
        future: Whether the future boundary is given.

    References:
        Hoerl & Kennard (1970), Ridge regression, doi.org/10.1080/00401706.1970.10488634.
    """

    inner: Array
    frame: Array
    weights: list[Array]
    sizes: list[int]
    period: int
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    future: FutureBoundary


def _components(rows: Array, size: int) -> Array:
    """Leading right singular vectors, from the smaller of the two Gram matrices."""
    if not rows.shape[1]:
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    leading = vectors[:, ::-1][:, :size]
    if len(rows) >= rows.shape[1]:
        return np.asarray(leading)
    # Directions beyond the rank have no length but rounding.
    power = np.maximum(values[::-1][:size], 1e-12 * values[-1])
    return np.asarray(rows.T @ leading / np.sqrt(power))


def _component_features(
    inner: Array,
    frame: Array,
    times: NDArray[np.int64],
    lead: int,
    period: int,
    future: FutureBoundary,
) -> Array:
    known = times + last_known_day(lead, period)[-1]
    parts = [inner[times], inner[times - 1], inner[known], frame[times], frame[known]]
    return np.concatenate(
        [*parts, frame[times + lead]] if future is FutureBoundary.GIVEN else parts, axis=1
    )


class _Projected(NamedTuple):
    """A series in components, and its fields at chosen times.

    Arguments:
        fields: The series.
        inside: Where forecasts are made, ``(V, y, x)``.
        inner: Components of the interior, ``(T, K)``.
        frame: Components of the boundary, ``(T, K)``.
    """

    fields: Readable
    inside: NDArray[np.bool_]
    inner: Array
    frame: Array

    def interior(self, times: NDArray[np.int64]) -> Array:
        """Fields of the interior at times, ``(N, points)``."""
        return np.stack([self.fields.read(t, t + 1)[0][self.inside] for t in times.tolist()])


def _project(
    fields: Readable, inside: NDArray[np.bool_], outside: NDArray[np.bool_], bases: list[Array]
) -> _Projected:
    parts: list[list[Array]] = [[], []]
    for first in range(0, fields.length, _BATCH):
        rows = fields.read(first, min(first + _BATCH, fields.length))
        for part, mask, basis in zip(parts, (inside, outside), bases, strict=True):
            part.append(rows[:, mask] @ basis)
    return _Projected(fields, inside, *(np.concatenate(part) for part in parts))


def _thinned(times: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many times, evenly."""
    return times[:: max(1, -(-len(times) // most))]


def fit_components(
    anomalies: Readable | Array,
    width: int,
    num_steps: int,
    *,
    period: int,
    chosen_from: int,
    future: FutureBoundary = FutureBoundary.GIVEN,
    exists: NDArray[np.bool_] | None = None,
    sizes: tuple[int, ...] = (10, 20, 40),
    ridges: tuple[float, ...] = (1e1, 1e2, 1e3, 1e4),
    num_times: int = _MOST,
) -> ComponentForecast:
    """Fit each lead time; how many components and what ridge, later times choose.

    Arguments:
        anomalies: From the climatology, ``(time, V, y, x)``.
        width: Of the boundary.
        num_steps: Lead times.
        period: States a day.
        chosen_from: First of the times that aren't fitted, but choose.
        future: Whether the future boundary is given.
        exists: Where each variable exists, ``(V, y, x)``.
        sizes: Numbers of components to choose from.
        ridges: To choose from, for features of unit variance.
        num_times: About how many times to fit.

    Raises:
        InputError: There are too few times.

    References:
        Lorenz (1956), Empirical orthogonal functions and statistical weather prediction, MIT
        Statistical Forecasting Project report 1.
    """
    fields = readable(anomalies)
    shape = fields.read(0, 1).shape[1:]
    exists = np.ones(shape, dtype=bool) if exists is None else exists
    framed = np.ones(shape, dtype=bool)
    rows, columns = shape[-2:]
    framed[..., width : rows - width, width : columns - width] = False
    inside, outside = exists & ~framed, exists & framed
    first, every = max(period, 1), max(1, chosen_from // num_times)
    sampled = centres(fields, 0, chosen_from, 0, 0)[::every]
    states = [fields.read(t, t + 1)[0] for t in sampled.tolist()]
    bases = [
        _components(np.stack([s[part] for s in states]), max(sizes)) if states else np.zeros((0, 0))
        for part in (inside, outside)
    ]
    del states
    data = _project(fields, inside, outside, bases)
    weights, chosen = [], []
    for lead in range(1, num_steps + 1):
        # Every `every`-th time, whether or not some of them are missing.
        fitted = centres(fields, first, chosen_from - lead, first, lead)
        fitted = fitted[(fitted - first) % every == 0]
        held_out = _thinned(centres(fields, chosen_from, fields.length, first, lead), _MOST)
        if len(fitted) < 2 or not len(held_out):
            raise InputError(
                f"too few times for the component forecast: {chosen_from} of {fields.length}"
            )
        solved, size = _fit_lead(
            data, fitted, held_out, _features_of(data, lead, period, future), lead,
            sizes, ridges,
        )  # fmt: skip
        weights.append(solved)
        chosen.append(size)
    return ComponentForecast(bases[0], bases[1], weights, chosen, period, inside, outside, future)


def _features_of(
    data: _Projected, lead: int, period: int, future: FutureBoundary
) -> Callable[[NDArray[np.int64], int], Array]:
    def features(times: NDArray[np.int64], size: int) -> Array:
        parts = data.inner[:, :size], data.frame[:, :size]
        return _component_features(*parts, times, lead, period, future)

    return features


def _fit_lead(
    data: _Projected,
    fitted: NDArray[np.int64],
    held_out: NDArray[np.int64],
    features: Callable[[NDArray[np.int64], int], Array],
    lead: int,
    sizes: tuple[int, ...],
    ridges: tuple[float, ...],
) -> tuple[Array, int]:
    """Weights of a lead time and how many components they take."""
    y = data.interior(fitted + lead) - data.interior(fitted)
    change = data.interior(held_out + lead) - data.interior(held_out)
    best = (np.inf, np.zeros(0), 0)
    for size in sizes:
        x = features(fitted, size)
        scale, later = np.maximum(x.std(0), 1e-30), features(held_out, size)
        gram, moment = (x / scale).T @ (x / scale), (x / scale).T @ y
        for ridge in ridges:
            solved = np.linalg.solve(gram + ridge * np.eye(len(gram)), moment) / scale[:, None]
            error = float(np.square(later @ solved - change).mean())
            best = min(best, (error, solved, size), key=lambda entry: entry[0])
    return best[1], best[2]


def forecast_components(fitted: ComponentForecast, past: Array, boundary: Array) -> Array:
    """Anomalies at the lead times; the boundary is copied.

    Arguments:
        fitted: Weights.
        past: Anomalies of a day and the analysis, ``(period + 1, V, y, x)``.
        boundary: Anomalies at the lead times, read on the frame alone, ``(T, V, y, x)``.
    """
    now = len(past) - 1
    frame = np.concatenate((past, boundary))[:, fitted.outside] @ fitted.frame
    inside = past[:, fitted.inside]
    inner = inside @ fitted.inner
    found = boundary.copy()
    for lead, (weights, size) in enumerate(zip(fitted.weights, fitted.sizes, strict=True), 1):
        x = _component_features(
            inner[:, :size], frame[:, :size], np.array([now]), lead, fitted.period,
            fitted.future,
        )  # fmt: skip
        found[lead - 1][fitted.inside] = inside[now] + x[0] @ weights
    return found
