"""What a path of densities is, and the state and the log of a run along one."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.smc.density import Cloud, Density, Mass

__all__ = ["Path", "Plan", "State", "StepInfo"]


class State(NamedTuple):
    """State of a run after ``num_steps`` steps.

    ``log_weights`` ``(R, N)`` are those gathered since the last resampling and
    ``log_normalizer`` ``(R,)`` what was resampled away; ``eves`` ``(R, N)`` are the
    first ancestors, ``num_resampled`` and ``step_size`` are ``(R,)``.
    """

    cloud: Cloud
    log_weights: Tensor
    log_normalizer: Tensor
    eves: Tensor
    num_resampled: Tensor
    step_size: Tensor
    level: float
    num_steps: int


class StepInfo(NamedTuple):
    r"""What a step did: level reached, and by island, ``(R,)``, what is named.

    ``acceptance`` is that of the last move, NaN where there are none. ``renewal`` is how much of
    the log-density's variance the moves renew, :math:`E[(U' - U)^2] / (2\,\mathrm{Var}\,U')` with
    :math:`U` before and :math:`U'` after them: 1 where they draw anew, 0 where particles stay. NaN
    where the path itself displaces particles, and for waste-free chains.
    """

    level: float
    ess: Tensor
    conditional_ess: Tensor
    acceptance: Tensor
    renewal: Tensor
    resampled: Tensor
    families: Tensor
    log_normalizer: Tensor
    step_size: Tensor
    mass: Mass


class Plan(NamedTuple):
    """Levels, step sizes and masses of every step, fixed in advance."""

    levels: list[float]
    step_sizes: list[Tensor]
    masses: list[Mass]


class Path(ABC):
    """Densities from a base to the target, and how weights follow them."""

    @abstractmethod
    def start(
        self, num_islands: int, num_particles: int, *, gradient: bool, generator: torch.Generator
    ) -> Cloud:
        """Draw particles from the base, evaluated for level 0."""

    @abstractmethod
    def advance(
        self,
        cloud: Cloud,
        level: float,
        new_level: float,
        *,
        gradient: bool,
        generator: torch.Generator,
    ) -> tuple[Cloud, Tensor]:
        """Go to a new level: the cloud evaluated there, and log-increments ``(R, N)``."""

    @abstractmethod
    def density(self, level: float, *, gradient: bool) -> Density:
        """Give the density of a level for moves."""
