r"""A linear stencil: the best forecast of the next state that is the same everywhere.

It is linear in the anomalies of all variables in a square around a point now and at the point one
step before, fitted by least squares over the interior, and rolls out with the given boundary like
a network. Beyond the edge of a grid lie the values of the edge, around the globe those of the
other side.
"""

from enum import Enum
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from neural_lam.graphs.sides import Sides
from neural_lam.predictors.series import Array, Readable, centres, readable
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "LinearGuess",
    "LinearStencil",
    "Points",
    "fit_stencil",
    "roll_stencil",
    "stencil_residual",
]


class Points(Enum):
    """Which points around a point a stencil sees."""

    SQUARE = "square"
    CROSS = "cross"


class LinearStencil(NamedTuple):
    """Weights and shape of a stencil.

    Arguments:
        weights: ``(features, V)``.
        width: Of the boundary.
        reach: Grid points from the middle of the square to its edge.
        points: All of the square, or only those straight to the north, south, east and west.
        sides: Whether the last column is followed by the first.
        exists: Where each variable exists, ``(V, y, x)``; by default everywhere.

    References:
        Penland & Sardeshmukh (1995), The optimal growth of tropical sea surface temperature
        anomalies, Journal of Climate 8.
    """

    weights: Array
    width: int
    reach: int
    points: Points = Points.SQUARE
    sides: Sides = Sides.APART
    exists: NDArray[np.bool_] | None = None

    def features(self, now: Array, before: Array) -> Array:
        """What it weighs at every interior point, ``(y, x, features)``."""
        side, beyond = 2 * self.reach + 1, max(0, self.reach - self.width)
        if beyond:
            rows = ((0, 0), (beyond, beyond), (0, 0))
            columns = ((0, 0), (0, 0), (beyond, beyond))
            beside: Literal["wrap", "edge"] = "wrap" if self.sides is Sides.JOINED else "edge"
            now = np.pad(np.pad(now, rows, "edge"), columns, beside)
        squares = sliding_window_view(
            inner(now, max(0, self.width - self.reach)), (side, side), axis=(-2, -1)
        )
        height, width = squares.shape[1:3]
        around = squares.transpose(1, 2, 0, 3, 4)
        if self.points is Points.CROSS:
            straight = np.arange(-self.reach, self.reach + 1) == 0
            around = around[..., straight[:, None] | straight]
        around = around.reshape(height, width, -1)
        return np.concatenate((around, np.moveaxis(inner(before, self.width), 0, -1)), axis=-1)

    def step(self, now: Array, before: Array) -> Array:
        """The interior one step later, ``(V, y, x)``."""
        following = np.moveaxis(self.features(now, before) @ self.weights, -1, 0)
        if self.exists is None:
            return following
        return np.where(inner(self.exists, self.width), following, 0.0)


def inner(field: NDArray[np.generic], width: int) -> Array:
    """Without a frame of the given width."""
    rows, columns = field.shape[-2:]
    inside: Array = field[..., width : rows - width, width : columns - width]  # type: ignore[assignment]
    return inside


def _normal_equations(
    fields: Readable, stencil: LinearStencil, times: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Gram matrix and moments over the interior points where everything exists."""
    gram = moment = np.zeros(0)
    shape = fields.read(0, 1).shape[1:]
    exists = np.ones(shape, dtype=bool) if stencil.exists is None else stencil.exists
    counted = np.flatnonzero(inner(np.asarray(exists.all(0)), stencil.width))
    if not len(counted):
        raise InputError("a stencil needs interior points where all features exist")
    for t in times:
        before, now, after = fields.read(t - 1, t + 2)
        features = stencil.features(now, before)
        x = features.reshape(-1, features.shape[-1])[counted]
        y = np.moveaxis(inner(after, stencil.width), 0, -1).reshape(-1, len(after))[counted]
        if not gram.size:
            gram, moment = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], y.shape[1]))
        gram += x.T @ x
        moment += x.T @ y
    return gram, moment


def fit_stencil(
    anomalies: Readable | Array,
    width: int,
    reach: int,
    *,
    num_times: int = 200,
    ridges: tuple[float, ...] = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    num_steps: int = 8,
    points: Points = Points.SQUARE,
    sides: Sides = Sides.APART,
    exists: NDArray[np.bool_] | None = None,
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
        points: All of the square, or only those straight to the north, south, east and west.
        sides: Whether the last column is followed by the first.
        exists: Where each variable exists, ``(V, y, x)``.

    Raises:
        InputError: The square is larger than the grid, or there are too few times.

    References:
        Hoerl & Kennard (1970), Ridge regression, doi.org/10.1080/00401706.1970.10488634.
    """
    fields = readable(anomalies)
    shape = fields.read(0, 1).shape[-2:]
    if not 1 <= reach < min(shape):
        raise InputError(f"reach must be from 1 to less than {min(shape)}, got {reach}")
    stencil = LinearStencil(np.zeros(0), width, reach, points, sides, exists)
    fitted = int(0.8 * fields.length) if len(ridges) > 1 else fields.length
    times = centres(fields, 1, fitted - 1, 1, 1)
    starts = centres(fields, fitted, fields.length, 1, num_steps) if len(ridges) > 1 else times
    if fields.length < 5 * (num_steps + 2) or not len(times) or not len(starts):
        raise InputError(
            f"a stencil needs at least {5 * (num_steps + 2)} times, got {fields.length}"
        )
    gram, moment = _normal_equations(fields, stencil, times[:: max(1, fitted // num_times)])
    power = np.diag(np.diag(gram) + 1e-12 * np.diag(gram).max())
    candidates = [
        stencil._replace(weights=np.asarray(np.linalg.solve(gram + r * power, moment)))
        for r in ridges
    ]
    if len(ridges) == 1:
        return candidates[0]
    chosen = starts[np.linspace(0, len(starts) - 1, 8).astype(int)]
    errors = [
        _rollout_error(c, [fields.read(s - 1, s + num_steps + 1) for s in chosen])
        for c in candidates
    ]
    return candidates[int(np.argmin(errors))]


def stencil_residual(
    stencil: LinearStencil, anomalies: Readable | Array, times: NDArray[np.int64]
) -> Array:
    """Root mean square over the interior of what one step leaves, ``(V,)``."""
    fields = readable(anomalies)
    errors = []
    for t in times:
        before, now, after = fields.read(t - 1, t + 2)
        errors.append(stencil.step(now, before) - inner(after, stencil.width))
    squares = np.square(errors).sum((0, 2, 3))
    count = np.full(len(squares), np.size(errors[0][0]))
    if stencil.exists is not None:
        count = inner(stencil.exists, stencil.width).sum((1, 2))
    root: Array = np.sqrt(squares / (len(errors) * count))
    return root


def _rollout_error(stencil: LinearStencil, windows: list[Array]) -> float:
    """Mean over windows, lead times and variables of the squared error over the variance."""
    errors = [
        inner(roll_stencil(stencil, w[:2], w[2:]) - w[2:], stencil.width) ** 2
        / np.maximum(w.var((0, 2, 3)), 1e-30)[:, None, None]
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
    states = []
    for frame in boundary:
        following = frame.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            inner(following, stencil.width)[...] = stencil.step(now, before)
        before, now = now, following
        states.append(following)
    return np.stack(states)


class LinearGuess(nn.Module):
    """The next state of a linear stencil, from anomalies in a square around each node.

    Beyond the edge of the grid lie the values of the edge, around the globe those of the other
    side.

    Arguments:
        kernel: Weights on the state, ``(V, V, K, K)``.
        previous: Weights on the state before, ``(V, V)``.
        mean: From which anomalies are counted, ``(G, V)``.
        shape: Rows and columns of the grid.
        sides: Whether the last column is followed by the first.
    """

    __str__ = in_a_line

    kernel: Tensor
    previous: Tensor
    mean: Tensor

    def __init__(
        self,
        kernel: Tensor,
        previous: Tensor,
        mean: Tensor,
        shape: tuple[int, int],
        sides: Sides = Sides.APART,
    ) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)
        self.register_buffer("previous", previous)
        self.register_buffer("mean", mean.unsqueeze(1))
        self.shape, self.sides = shape, sides

    def forward(self, state: Tensor, previous: Tensor) -> Tensor:
        """The next state, ``(G, B, V)``."""
        by_feature = (state - self.mean).permute(1, 2, 0)
        anomaly = by_feature.reshape(*by_feature.shape[:2], *self.shape)
        reach = self.kernel.shape[-1] // 2
        beside = "circular" if self.sides is Sides.JOINED else "replicate"
        beyond = nn.functional.pad(anomaly, (reach, reach, 0, 0), mode=beside)
        beyond = nn.functional.pad(beyond, (0, 0, reach, reach), mode="replicate")
        following = nn.functional.conv2d(beyond, self.kernel)
        before = torch.einsum("gbv,wv->gbw", previous - self.mean, self.previous)
        return following.flatten(2).permute(2, 0, 1) + before + self.mean
