r"""Simple forecasts: what a model must beat.

All take and give fields ``(..., y, x)`` in NumPy. The linear stencil is the best forecast of
the next state that is linear in the anomalies of all variables in a square around a point now
and at the point one step before, the same everywhere in the interior and fitted by least
squares on the training period; it rolls out with the true boundary, like the model. The
principal-component forecast is direct: for each lead time a ridge regression of the interior's
change on principal components of the interior now, one step before and at the same hour of the
last known day, and of the boundary then, now and, where it is given, at the lead time.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from neural_lam.shell.errors import InputError

__all__ = [
    "Climatology",
    "ComponentForecast",
    "LinearStencil",
    "climatology",
    "fit_components",
    "fit_stencil",
    "forecast_components",
    "last_known_day",
    "roll_stencil",
    "same_hour_yesterday",
    "stencil_residual",
]

Array = NDArray[np.float64]


class Climatology(NamedTuple):
    """Mean of each time of the day at each point.

    Arguments:
        mean: ``(slots, V, y, x)``.
        step: Time between states.
    """

    mean: Array
    step: np.timedelta64

    def at(self, times: NDArray[np.datetime64]) -> Array:
        """Mean at the given times, ``(..., V, y, x)``."""
        return self.mean[_slots(times, self.step) % len(self.mean)]


def _slots(times: NDArray[np.datetime64], step: np.timedelta64) -> NDArray[np.int64]:
    of_day = times - times.astype("datetime64[D]")
    slots: NDArray[np.int64] = (of_day // step).astype(np.int64)
    return slots


def climatology(states: Array, times: NDArray[np.datetime64]) -> Climatology:
    """Mean by time of day, or over all times where a day isn't a whole number of steps.

    Arguments:
        states: ``(time, V, y, x)``.
        times: At equal steps, ``(time,)``.
    """
    step = times[1] - times[0]
    day = np.timedelta64(1, "D")
    slots = int(day // step) if day % step == np.timedelta64(0, "ns") else 1
    which = _slots(times, step) % slots
    if len(np.unique(which)) < slots:
        raise InputError(f"a climatology needs every time of the day, got {len(times)} states")
    return Climatology(np.stack([states[which == slot].mean(0) for slot in range(slots)]), step)


class LinearStencil(NamedTuple):
    """Weights and shape of a stencil.

    Arguments:
        weights: ``(features, V)``.
        width: Of the boundary.
        reach: Grid points from the middle of the square to its edge.
        cross: Whether it sees only the points straight to the north, south, east and west.
    """

    weights: Array
    width: int
    reach: int
    cross: bool = False


def _inner(field: Array, width: int) -> Array:
    rows, columns = field.shape[-2:]
    return field[..., width : rows - width, width : columns - width]


def _features(now: Array, before: Array, width: int, reach: int, cross: bool) -> Array:
    """Features of every interior point, ``(y, x, features)``."""
    side = 2 * reach + 1
    squares = sliding_window_view(_inner(now, width - reach), (side, side), axis=(-2, -1))
    rows, columns = squares.shape[1:3]
    around = squares.transpose(1, 2, 0, 3, 4)
    if cross:
        straight = np.arange(-reach, reach + 1) == 0
        around = around[..., straight[:, None] | straight]
    around = around.reshape(rows, columns, -1)
    return np.concatenate((around, np.moveaxis(_inner(before, width), 0, -1)), axis=-1)


def _normal_equations(
    anomalies: Array, width: int, reach: int, times: range, cross: bool
) -> tuple[Array, Array]:
    num_variables = anomalies.shape[1]
    size = num_variables * ((4 * reach + 1 if cross else (2 * reach + 1) ** 2) + 1)
    gram, moment = np.zeros((size, size)), np.zeros((size, num_variables))
    for t in times:
        x = _features(anomalies[t], anomalies[t - 1], width, reach, cross).reshape(-1, size)
        y = np.moveaxis(_inner(anomalies[t + 1], width), 0, -1).reshape(len(x), -1)
        gram += x.T @ x
        moment += x.T @ y
    return gram, moment


def fit_stencil(
    anomalies: Array,
    width: int,
    reach: int,
    *,
    num_times: int = 200,
    ridges: tuple[float, ...] = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    num_steps: int = 8,
    cross: bool = False,
) -> LinearStencil:
    """Ridge regression over all interior points, its ridge chosen by how well it rolls out.

    Least squares alone gives the best single step, but amplifies the smallest scales when it
    is repeated. The last fifth of the times isn't fitted: there the ridge is chosen that
    has the least error over a rollout. A single ridge is fitted on all times.

    Arguments:
        anomalies: From the climatology, ``(time, V, y, x)``.
        width: Of the boundary.
        reach: Grid points from the middle of the square to its edge.
        num_times: About how many times to fit.
        ridges: To choose from, relative to each feature's own power.
        num_steps: Of the rollouts.
        cross: Whether to see only the points straight to the north, south, east and west.

    Raises:
        ValueError: The square doesn't fit into the boundary, or there are too few times.
    """
    if not 1 <= reach <= width:
        raise InputError(f"reach must be from 1 to the boundary's width {width}, got {reach}")
    fitted = int(0.8 * len(anomalies)) if len(ridges) > 1 else len(anomalies)
    if len(anomalies) < 5 * (num_steps + 2):
        raise InputError(
            f"a stencil needs at least {5 * (num_steps + 2)} times, got {len(anomalies)}"
        )
    times = range(1, fitted - 1, max(1, fitted // num_times))
    gram, moment = _normal_equations(anomalies, width, reach, times, cross)
    power = np.diag(np.diag(gram))
    candidates = [
        LinearStencil(np.asarray(np.linalg.solve(gram + r * power, moment)), width, reach, cross)
        for r in ridges
    ]
    if len(ridges) == 1:
        return candidates[0]
    starts = np.linspace(fitted, len(anomalies) - num_steps - 2, 8).astype(int)
    errors = [
        _rollout_error(c, [anomalies[s : s + num_steps + 2] for s in starts]) for c in candidates
    ]
    return candidates[int(np.argmin(errors))]


def stencil_residual(stencil: LinearStencil, anomalies: Array, times: range) -> Array:
    """Root mean square over the interior of what one step leaves, ``(V,)``."""
    errors = [
        _inner(
            roll_stencil(stencil, anomalies[t - 1 : t + 1], anomalies[t + 1 : t + 2])[0]
            - anomalies[t + 1],
            stencil.width,
        )
        for t in times
    ]
    root: Array = np.sqrt(np.square(errors).mean((0, 2, 3)))
    return root


def _rollout_error(stencil: LinearStencil, windows: list[Array]) -> float:
    """Mean over windows, lead times and variables of the squared error over the variance."""
    errors = [
        _inner(roll_stencil(stencil, w[:2], w[2:]) - w[2:], stencil.width) ** 2
        / w.var((0, 2, 3))[:, None, None]
        for w in windows
    ]
    return float(np.mean(errors))


def roll_stencil(stencil: LinearStencil, initial: Array, boundary: Array) -> Array:
    """Anomalies at the lead times.

    Arguments:
        stencil: Its weights.
        initial: Anomalies before the analysis time and at it, ``(2, V, y, x)``.
        boundary: True anomalies at the lead times, read on the frame alone, ``(T, V, y, x)``.

    Returns:
        ``(T, V, y, x)``.
    """
    before, now = initial
    width, states = stencil.width, []
    for frame in boundary:
        following = frame.copy()
        inner = _features(now, before, width, stencil.reach, stencil.cross) @ stencil.weights
        _inner(following, width)[...] = np.moveaxis(inner, -1, 0)
        before, now = now, following
        states.append(following)
    return np.stack(states)


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
        mask: Where the interior is, ``(y, x)``.
        sees_boundary: Whether the future boundary is given.
    """

    inner: Array
    frame: Array
    weights: list[Array]
    sizes: list[int]
    period: int
    mask: NDArray[np.bool_]
    sees_boundary: bool


def _components(rows: Array, size: int) -> Array:
    """Leading right singular vectors, from the smaller of the two Gram matrices."""
    values, vectors = np.linalg.eigh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    leading = vectors[:, ::-1][:, :size]
    if len(rows) >= rows.shape[1]:
        return np.asarray(leading)
    # Directions beyond the rank have no length but rounding.
    power = np.maximum(values[::-1][:size], 1e-12 * values[-1])
    return np.asarray(rows.T @ leading / np.sqrt(power))


def _component_features(
    inner: Array, frame: Array, times: NDArray[np.int64], lead: int, period: int, sees: bool
) -> Array:
    known = times + last_known_day(lead, period)[-1]
    parts = [inner[times], inner[times - 1], inner[known], frame[times], frame[known]]
    return np.concatenate([*parts, frame[times + lead]] if sees else parts, axis=1)


def fit_components(
    anomalies: Array,
    width: int,
    num_steps: int,
    *,
    period: int,
    chosen_from: int,
    sees_boundary: bool = True,
    sizes: tuple[int, ...] = (10, 20, 40),
    ridges: tuple[float, ...] = (1e1, 1e2, 1e3, 1e4),
    num_times: int = 1000,
) -> ComponentForecast:
    """Fit each lead time; how many components and what ridge, later times choose.

    Arguments:
        anomalies: From the climatology, ``(time, V, y, x)``.
        width: Of the boundary.
        num_steps: Lead times.
        period: States a day.
        chosen_from: First of the times that aren't fitted, but choose.
        sees_boundary: Whether the future boundary is given.
        sizes: Numbers of components to choose from.
        ridges: To choose from, for features of unit variance.
        num_times: About how many times to fit.
    """
    first, count = max(period, 1), len(anomalies)
    if chosen_from - num_steps <= first + 1 or count - num_steps <= chosen_from:
        raise InputError(f"too few times for the component forecast: {chosen_from} of {count}")
    mask = np.zeros(anomalies.shape[-2:], bool)
    _inner(mask, width)[...] = True
    inside, outside = (anomalies[..., part].reshape(count, -1) for part in (mask, ~mask))
    every = max(1, chosen_from // num_times)
    bases = [_components(part[:chosen_from:every], max(sizes)) for part in (inside, outside)]
    inner, frame = inside @ bases[0], outside @ bases[1]
    weights, chosen = [], []
    for lead in range(1, num_steps + 1):
        fitted = np.arange(first, chosen_from - lead, every)
        held_out = np.arange(chosen_from, count - lead)
        best = (np.inf, np.zeros(0), 0)
        for size in sizes:

            def features(times: NDArray[np.int64], size: int = size, lead: int = lead) -> Array:
                parts = inner[:, :size], frame[:, :size]
                return _component_features(*parts, times, lead, period, sees_boundary)

            x, y = features(fitted), inside[fitted + lead] - inside[fitted]
            scale, later = x.std(0), features(held_out)
            gram, moment = (x / scale).T @ (x / scale), (x / scale).T @ y
            change = inside[held_out + lead] - inside[held_out]
            for ridge in ridges:
                solved = np.linalg.solve(gram + ridge * np.eye(len(gram)), moment) / scale[:, None]
                error = float(np.square(later @ solved - change).mean())
                best = min(best, (error, solved, size), key=lambda entry: entry[0])
        weights.append(best[1])
        chosen.append(best[2])
    return ComponentForecast(bases[0], bases[1], weights, chosen, period, mask, sees_boundary)


def forecast_components(fitted: ComponentForecast, past: Array, boundary: Array) -> Array:
    """Anomalies at the lead times; the boundary is copied.

    Arguments:
        fitted: Weights.
        past: Anomalies of a day and the analysis, ``(period + 1, V, y, x)``.
        boundary: Anomalies at the lead times, read on the frame alone, ``(T, V, y, x)``.
    """
    num_variables, now = past.shape[1], len(past) - 1
    frames = np.concatenate((past, boundary))[..., ~fitted.mask].reshape(
        now + 1 + len(boundary), -1
    )
    inside = past[..., fitted.mask].reshape(now + 1, -1)
    inner, frame = inside @ fitted.inner, frames @ fitted.frame
    found = boundary.copy()
    for lead, (weights, size) in enumerate(zip(fitted.weights, fitted.sizes, strict=True), 1):
        x = _component_features(
            inner[:, :size], frame[:, :size], np.array([now]), lead, fitted.period,
            fitted.sees_boundary,
        )  # fmt: skip
        found[lead - 1][:, fitted.mask] = (inside[now] + x[0] @ weights).reshape(num_variables, -1)
    return found
