r"""Methods: from a target to weighted samples and an evidence.

Each is a path with its settings. A method that adapts (levels, masses, step sizes) runs
twice: once to adapt, and once more with fresh draws and all of that frozen, so that
:math:`\hat Z` is unbiased. The result says whether it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from diffsmc.methods.judging import check_result, invalid_note
from diffsmc.methods.resume import RunStore, SavedPass
from diffsmc.methods.starting import started
from diffsmc.results.result import Result
from diffsmc.shell.showing import in_a_line
from diffsmc.smc.path import State, StepInfo
from diffsmc.targets.checking import check_density, check_proper
from diffsmc.targets.limits import Limited
from diffsmc.targets.target import Target

__all__ = [
    "SILENT",
    "Method",
    "Monitor",
    "Report",
    "Result",
    "narrowness_note",
]

Report = Callable[[str, State, StepInfo], None]
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

    __repr__ = __str__ = in_a_line

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


class Method(ABC):
    """A way to sample a target.

    ``uses_gradient`` tells whether the target's gradient is asked for.
    """

    uses_gradient: bool = True

    @property
    def num_checked(self) -> int:
        """Points that the final check looks at."""
        return 64

    def after(self, spent: int) -> "Method":
        """Give the method with what is left of its budget, if it has one.

        Arguments:
            spent: Evaluations that were spent on checks.
        """
        return self

    __repr__ = __str__ = in_a_line

    def run(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
        max_evaluations: int | None = None,
    ) -> Result:
        """Sample a target with independent islands.

        Arguments:
            target: The target.
            num_islands: Number of independent runs, at least 2 for an interval.
            num_particles: Particles of each.
            generator: Source of all draws, on the target's device.
            monitor: Told of each step; may hold a store from which the run is resumed.
            max_evaluations: The run fails that needs more log-densities of the target.

        Raises:
            DensityError: A function of the target isn't a log-density.
            NonFiniteLogDensityError: A log-density is NaN or ``+inf``.
            ImproperTargetError: The density's integral seems to be infinite.
            FailedRunError: The run can give no answer.
        """
        if num_islands < 1 or num_particles < 2:
            raise ValueError(
                "num_islands must be at least 1 and num_particles 2, got "
                f"{num_islands} and {num_particles}"
            )
        device = target.start_mean.device
        if generator.device.type != device.type:
            raise ValueError(
                f"generator must be on the target's device, {device}, got {generator.device}: "
                f"torch.Generator({str(device)!r})"
            )
        spent = check_density(target, gradient=self.uses_gradient)
        begun = started(target, generator=generator)
        if max_evaluations is not None:
            begun = Limited(begun, max_evaluations)
        spent += check_proper(begun)
        result = self.after(spent).sample(
            begun, num_islands, num_particles, generator=generator, monitor=monitor
        )
        spent += check_result(result, target, self.num_checked)
        return result._replace(
            target=target,
            notes=(*result.notes, *invalid_note(result)),
            num_evaluations=result.num_evaluations + spent,
        )

    @abstractmethod
    def sample(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
    ) -> Result:
        """Sample a target that was checked; see `run`."""


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
