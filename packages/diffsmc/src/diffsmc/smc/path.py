"""What a path of densities is, and the state and the log of a run along one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsmc.shell.showing import in_a_line
from diffsmc.smc.density import Cloud, Density, Mass

__all__ = ["Advance", "Path", "Plan", "State", "StepInfo", "from_plain", "to_plain"]


class State(NamedTuple):
    """State of a run after ``num_steps`` steps.

    ``log_weights`` ``(R, N)`` are those gathered since the last resampling and
    ``log_normalizer`` ``(R,)`` what was resampled away; ``eves`` ``(R, N)`` are the
    first ancestors, ``num_resampled`` and ``step_size`` are ``(R,)``. ``log_shares`` ``(R,)``
    are the log-weights of strata in their island, 0 where islands have none, and ``invalid``
    ``(R,)`` the numbers of draws of the base that were rejected and not yet told of.
    """

    cloud: Cloud
    log_weights: Tensor
    log_normalizer: Tensor
    eves: Tensor
    num_resampled: Tensor
    step_size: Tensor
    log_shares: Tensor
    invalid: Tensor
    level: float
    num_steps: int

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


class StepInfo(NamedTuple):
    r"""What a step did: level reached, and by island, ``(R,)``, what is named.

    ``acceptance`` is that of the last move, NaN where there are none. ``renewal`` is how much of
    the log-density's variance the moves renew, :math:`E[(U' - U)^2] / (2\,\mathrm{Var}\,U')` with
    :math:`U` before and :math:`U'` after them: 1 where they draw anew, 0 where particles stay. NaN
    where the path itself displaces particles, and for waste-free chains. ``invalid`` counts points
    proposed to the target whose log-density was NaN; they were rejected.
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
    invalid: Tensor
    mass: Mass

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


class Advance(NamedTuple):
    """A new level: the cloud there, log-increments ``(R, N)``, and whether particles moved."""

    cloud: Cloud
    log_increments: Tensor
    moved: bool


class Plan(NamedTuple):
    """Levels, step sizes and masses of every step, fixed in advance."""

    levels: list[float]
    step_sizes: list[Tensor]
    masses: list[Mass]


class Path(ABC):
    """Densities from a base to the target, and how weights follow them.

    ``draws_are_proposals`` tells that the base was fitted to the target: a point where the
    log-density is NaN then has weight zero, and is no fault of the start.
    """

    draws_are_proposals: bool = False

    __repr__ = __str__ = in_a_line

    @abstractmethod
    def start(self, num_islands: int, num_particles: int, *, generator: torch.Generator) -> Cloud:
        """Draw particles from the base, evaluated for level 0."""

    @abstractmethod
    def advance(
        self, cloud: Cloud, level: float, new_level: float, *, generator: torch.Generator
    ) -> Advance:
        """Go to a new level."""

    @abstractmethod
    def density(self, level: float) -> Density:
        """Give the density of a level for moves."""

    def log_shares(self, like: Tensor) -> Tensor:
        """Give the log-weight of each row in its island, shaped as ``like``, ``(R,)``."""
        return torch.zeros_like(like)


def to_plain(value: Any) -> Any:
    """Turn named tuples into dictionaries, which files of plain data can hold."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_plain(item) for name, item in value._asdict().items()}
    return value


def from_plain(kind: Any, values: Mapping[str, Any]) -> Any:
    """Rebuild a named tuple, and those within, by the names of their fields.

    Arguments:
        kind: `State` or `StepInfo`.
        values: What `to_plain` gave.

    Raises:
        KeyError: A field is missing.
    """
    inner = {"cloud": Cloud, "mass": Mass}
    parts = {
        name: inner[name](**values[name]) if name in inner else values[name]
        for name in kind._fields
    }
    return kind(**parts)
