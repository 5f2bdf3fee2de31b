"""Particles on the way, with their weights, for a picture of the path."""

import torch
import xarray as xr
from torch import Tensor

from diffsmc.shell.showing import in_a_line
from diffsmc.smc.engine import total_log_normalizer
from diffsmc.smc.path import State, StepInfo

__all__ = ["Snapshots"]


class Snapshots:
    """Keeps some particles of each step of a run's last pass, in the coordinates of its path.

    Particles keep their weights: rows of strata count by their share of the evidence.

    Arguments:
        num_points: Particles of each step, spread over islands.
    """

    def __init__(self, num_points: int = 500) -> None:
        self.num_points = num_points
        self.levels: list[float] = []
        self.points: list[Tensor] = []
        self.log_weights: list[Tensor] = []

    __repr__ = __str__ = in_a_line

    def __call__(self, name: str, state: State, info: StepInfo) -> None:
        """Take one; a report of `Monitor`."""
        if name != "run" and not name.startswith("look "):
            return
        if self.levels and info.level <= self.levels[-1]:
            self.levels, self.points, self.log_weights = [], [], []
        x = state.cloud.particles.flatten(0, 1)
        row = state.log_shares + total_log_normalizer(state)
        log_weights = (row[:, None] + state.log_weights.log_softmax(-1)).flatten()
        place = torch.linspace(0, len(x) - 1, min(self.num_points, len(x)), device=x.device).long()
        self.levels.append(info.level)
        self.points.append(x[place].cpu())
        self.log_weights.append(log_weights[place].cpu())

    def to_dataset(self, names: list[str]) -> xr.Dataset:
        """Give levels, points, ``(step, point, coordinate)``, and their log-weights."""
        return xr.Dataset(
            {
                "level": ("step", torch.tensor(self.levels, dtype=torch.float64).numpy()),
                "x": (("step", "point", "coordinate"), torch.stack(self.points).numpy()),
                "log_weight": (("step", "point"), torch.stack(self.log_weights).numpy()),
            },
            coords={"coordinate": names},
        )
