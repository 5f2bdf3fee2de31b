"""Synthetic forecasts of random fields, the same for both sides."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Problem"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """Sizes of a forecast.

    Arguments:
        rows: Of the grid.
        columns: Of the grid.
        batch_size: Forecasts at once.
        steps: Of a training step's rollout.
        rollout_steps: Of a forecast.
        states: Variables.
        forcings: Variables of the forcing, at three times each.
        hidden: Width of the networks.
        hidden_layers: Of the networks.
        layers: Of the processor.
    """

    rows: int
    columns: int
    batch_size: int = 1
    steps: int = 1
    rollout_steps: int = 4
    states: int = 17
    forcings: int = 5
    hidden: int = 64
    hidden_layers: int = 1
    layers: int = 4

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def positions(self) -> NDArray[np.float64]:
        """Coordinates in metres, ``(rows, columns, 2)``."""
        x, y = np.meshgrid(np.arange(self.rows) * 1e4, np.arange(self.columns) * 1e4, indexing="ij")
        return np.stack((x, y), -1)

    def _draw(self, seed: int, *shape: int) -> Array:
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    def static(self) -> Array:
        """Static fields, ``(G, 4)``."""
        return self._draw(0, self.rows * self.columns, 4)

    def interior(self) -> Array:
        """1 inside a frame, ``(G,)``."""
        width = min(10, self.rows // 6)
        mask = np.zeros((self.rows, self.columns), np.float32)
        mask[width : self.rows - width, width : self.columns - width] = 1
        return mask.reshape(-1)

    def change(self) -> tuple[Array, Array]:
        """Mean and standard deviation of one-step changes, ``(V,)``."""
        return 0.1 * self._draw(1, self.states), 0.5 + abs(self._draw(2, self.states))

    def bounds(self) -> tuple[Array, Array]:
        """Least and largest value: of both kinds, only one or only the other, or none, ``(V,)``."""
        lower, upper = (np.full(self.states, sign * np.inf, np.float32) for sign in (-1, 1))
        lower[:2], upper[0], upper[2] = -3, 3, 3
        return lower, upper

    def batch(self, *, rollout: bool = False) -> tuple[Array, Array, Array]:
        """Initial states, later states and forcing."""
        grid, steps = self.rows * self.columns, self.rollout_steps if rollout else self.steps
        return (
            self._draw(3, self.batch_size, 2, grid, self.states),
            self._draw(4, self.batch_size, steps, grid, self.states),
            self._draw(5, self.batch_size, steps, grid, 3 * self.forcings),
        )
