r"""Methods: from a target to weighted samples and an evidence.

Each is a path with its settings. A method that adapts (levels, masses, step sizes) runs
twice: once to adapt, and once more with fresh draws and all of that frozen, so that
:math:`\hat Z` is unbiased. The result says whether it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.methods.resume import RunStore, SavedPass
from diffsmc.smc.density import Mass
from diffsmc.smc.path import State, StepInfo
from diffsmc.targets.target import Target

__all__ = [
    "SILENT",
    "Method",
    "Monitor",
    "Report",
    "Result",
    "merge_islands",
    "narrowness_note",
]

Report = Callable[[str, State, StepInfo], None]
ASKED = "asked for"
TOO_NARROW = 1.5  # the reference is meant to be wider than the target


def _quiet(name: str, state: State, info: StepInfo) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Monitor:
    """Who is told of each step, and where the run is kept.

    Arguments:
        report: Called with the name of the pass, the state and what the step did.
        store: Keeps passes, so that a killed run can be resumed.
        prefix: Put before the names of passes.
    """

    report: Report = _quiet
    store: RunStore | None = None
    prefix: str = ""

    def resume(self, name: str, generator: torch.Generator) -> SavedPass | None:
        """Give what the store has of a pass."""
        return self.store.restore(self.prefix + name, generator) if self.store else None

    def record(
        self, name: str, state: State, history: list[StepInfo], generator: torch.Generator
    ) -> None:
        """Tell of the last step, and keep the pass."""
        self.report(self.prefix + name, state, history[-1])
        if self.store:
            self.store.save(self.prefix + name, state, history, generator)


SILENT = Monitor()


class Result(NamedTuple):
    """Weighted particles, evidence by island, and how the run went.

    ``particles`` ``(R, N, D)`` are in the target's coordinates, ``log_weights`` ``(R, N)``
    unnormalised, ``log_normalizers`` ``(R,)``. ``num_evaluations`` counts log-densities of
    the target, with or without gradient, in all passes. ``path`` and ``reason`` say which path
    ran and why; ``notes`` are findings on the way. Particles come in ``num_strata`` strata of equal
    number, one after the other. With a ``chain_length`` above 1 the run was waste-free: particles
    are states of chains, and families say nothing of the variance.
    """

    particles: Tensor
    log_weights: Tensor
    log_normalizers: Tensor
    eves: Tensor
    num_resampled: Tensor
    history: list[StepInfo]
    unbiased: bool
    num_evaluations: int
    path: str
    reason: str = ASKED
    notes: tuple[str, ...] = ()
    num_strata: int = 1
    chain_length: int = 1


class Method(ABC):
    """A way to sample a target."""

    @abstractmethod
    def run(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
    ) -> Result:
        """Sample a target with independent islands.

        Arguments:
            target: The target.
            num_islands: Number of independent runs, at least 2 for an interval.
            num_particles: Particles of each.
            generator: Source of all draws.
            monitor: Told of each step; may hold a store from which the run is resumed.
        """


def narrowness_note(variance: float) -> tuple[str, ...]:
    """Warn if the target is wider than the reference it was sampled from.

    Arguments:
        variance: Of the weighted particles, relative to the reference's, averaged over coordinates.
    """
    if variance <= TOO_NARROW:
        return ()
    return (
        f"warning: the reference is too narrow: the particles' variance is {variance:.1f} times "
        "its own; raise inflation, or let a pilot or more refits widen it",
    )


def merge_islands(results: list[Result]) -> Result:
    """Put runs that differ only in their draws together, as islands of one run."""
    infos = zip(*(one.history for one in results), strict=True)
    tensors = [torch.cat(column) for column in zip(*(one[:5] for one in results), strict=True)]
    return Result._make(
        (
            *tensors,
            list(map(_merge_infos, infos)),
            all(one.unbiased for one in results),
            sum(one.num_evaluations for one in results),
            *results[0][8:],
        )
    )


def _merge_infos(infos: tuple[StepInfo, ...]) -> StepInfo:
    fields = [torch.cat(column) for column in zip(*(info[1:-1] for info in infos), strict=True)]
    mass = Mass._make(map(torch.cat, zip(*(info.mass for info in infos), strict=True)))
    return StepInfo._make((infos[0].level, *fields, mass))
