r"""Simple forecasts: what a model must beat.

All take and give fields ``(..., y, x)`` in NumPy. The linear stencil is the best forecast of
the next state that is linear in the anomalies of all variables in a square around a point now
and at the point one step before, the same everywhere in the interior and fitted by least
squares on the training period; it rolls out with the true boundary, like the model.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from neural_lam.configuration import InputError

__all__ = [
    "Climatology",
    "LinearStencil",
    "climatology",
    "fit_stencil",
    "roll_stencil",
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
    """

    weights: Array
    width: int
    reach: int


def _inner(field: Array, width: int) -> Array:
    rows, columns = field.shape[-2:]
    return field[..., width : rows - width, width : columns - width]


def _features(now: Array, before: Array, width: int, reach: int) -> Array:
    """Features of every interior point, ``(y, x, features)``."""
    side = 2 * reach + 1
    squares = sliding_window_view(_inner(now, width - reach), (side, side), axis=(-2, -1))
    rows, columns = squares.shape[1:3]
    around = squares.transpose(1, 2, 0, 3, 4).reshape(rows, columns, -1)
    return np.concatenate((around, np.moveaxis(_inner(before, width), 0, -1)), axis=-1)


def _normal_equations(
    anomalies: Array, width: int, reach: int, times: range
) -> tuple[Array, Array]:
    num_variables = anomalies.shape[1]
    size = num_variables * ((2 * reach + 1) ** 2 + 1)
    gram, moment = np.zeros((size, size)), np.zeros((size, num_variables))
    for t in times:
        x = _features(anomalies[t], anomalies[t - 1], width, reach).reshape(-1, size)
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
) -> LinearStencil:
    """Ridge regression over all interior points, its ridge chosen by how well it rolls out.

    Least squares alone gives the best single step, but amplifies the smallest scales when it
    is repeated. The last fifth of the times isn't fitted: there the ridge is chosen that
    has the least error over a rollout.

    Arguments:
        anomalies: From the climatology, ``(time, V, y, x)``.
        width: Of the boundary.
        reach: Grid points from the middle of the square to its edge.
        num_times: About how many times to fit.
        ridges: To choose from, relative to each feature's own power.
        num_steps: Of the rollouts.

    Raises:
        ValueError: The square doesn't fit into the boundary, or there are too few times.
    """
    if not 1 <= reach <= width:
        raise InputError(f"reach must be from 1 to the boundary's width {width}, got {reach}")
    fitted = int(0.8 * len(anomalies))
    if len(anomalies) - fitted < num_steps + 2:
        raise InputError(
            f"a stencil needs at least {5 * (num_steps + 2)} times, got {len(anomalies)}"
        )
    times = range(1, fitted - 1, max(1, fitted // num_times))
    gram, moment = _normal_equations(anomalies, width, reach, times)
    power = np.diag(np.diag(gram))
    candidates = [
        LinearStencil(np.asarray(np.linalg.solve(gram + r * power, moment)), width, reach)
        for r in ridges
    ]
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
        inner = _features(now, before, width, stencil.reach) @ stencil.weights
        _inner(following, width)[...] = np.moveaxis(inner, -1, 0)
        before, now = now, following
        states.append(following)
    return np.stack(states)
