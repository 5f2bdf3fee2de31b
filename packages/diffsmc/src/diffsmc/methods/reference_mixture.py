r"""Methods from a fitted mixture: importance sampling, the stratified bridge, and diffusion.

A pilot finds modes, a mixture :math:`q` is fitted to them, and refitted to the particles of a
first, small bridge. Where importance sampling from :math:`q` has finite variance and few draws
are wasted, it is all that is needed: each draw takes one evaluation. Otherwise every component is
bridged to the target on its own.

What all of these share is :math:`q`. That they agree is no evidence for it.
"""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from typing_extensions import override

from diffsmc.methods.method import SILENT, Method, Monitor, Result, narrowness_note
from diffsmc.methods.mixture_fit import FittedMixture, MixtureFit
from diffsmc.methods.passes import count_evaluations, run_pass, run_passes
from diffsmc.methods.pilot import Pilot
from diffsmc.methods.strata import _spread, component_masses, join_result
from diffsmc.paths.bridge import StratifiedPath
from diffsmc.references.mixture import Mixture, log_joint, sample_component
from diffsmc.smc.engine import Settings
from diffsmc.smc.estimators import effective_sample_size, pareto_shape
from diffsmc.smc.moves import HMC, Move
from diffsmc.smc.resampling import Resampling, systematic
from diffsmc.smc.schedules import AdaptiveSchedule, FixedSchedule
from diffsmc.targets.target import Target, checked_log_prob

__all__ = [
    "Judgement",
    "ReferenceMixture",
]

INFINITE_VARIANCE, USELESS = 0.5, 0.7  # Pareto shapes
NEARLY_ALL = 0.8  # ESS with which a shape between the two is of no account


class Judgement(NamedTuple):
    """ESS relative to the draws, and Pareto's k, of importance sampling from a mixture."""

    ess: float
    shape: float

    @override
    def __str__(self) -> str:
        k = self.shape
        return f"importance sampling from the fit has ESS {self.ess:.0%} and Pareto k {k:.2f}"

    def suffices(self, least_ess: float, most_shape: float) -> bool:
        """Tell whether importance sampling will do."""
        bound = USELESS if self.ess > NEARLY_ALL else most_shape
        return self.ess >= least_ess and self.shape < bound


@dataclass(frozen=True)
class ReferenceMixture(Method):
    """Importance sampling or a stratified bridge from a fitted mixture: for several modes.

    Arguments:
        reference: How the mixture is found and fitted.
        target_ess: Conditional ESS, relative to N, that chooses the levels.
        refits: Small bridges to whose particles the mixture is fitted again.
        refit_share: Particles of those, relative to one island of the run.
        importance_ess: Importance sampling replaces the bridge if its ESS, relative to the number
            of draws, is at least this; 1 never.
        importance_shape: And if Pareto's k is below this: the variance is finite below 0.5,
            estimates are useless from 0.7.
        importance_draws: Draws for each particle then: one takes one evaluation.
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme, within strata.
        adapt_islands: Islands of a first pass that adapts levels and step sizes; frozen,
            they leave the evidence of the second pass unbiased. None adapts in the only pass.
    """

    reference: MixtureFit = field(default_factory=MixtureFit)
    target_ess: float = 0.9
    refits: int = 1
    refit_share: float = 0.3
    importance_ess: float = 0.5
    importance_shape: float = INFINITE_VARIANCE
    importance_draws: int = 10
    move: Move = field(default_factory=lambda: HMC(5))
    num_moves: int = 2
    resample: Resampling = systematic
    adapt_islands: int | None = 2

    @override
    def run(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
    ) -> Result:
        pilot = self.reference.pilot(target, generator=generator)
        return self.run_from(
            pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
        )

    def run_from(
        self,
        pilot: Pilot,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
    ) -> Result:
        """Sample from what a pilot found; see `run`."""
        fitted = self.fit(pilot, target, num_particles, generator=generator, monitor=monitor)
        judged = self.judge(target, fitted.mixture, generator=generator)
        if judged.suffices(self.importance_ess, self.importance_shape):
            run = self.importance(
                target, fitted.mixture, num_islands, num_particles, generator=generator,
                monitor=monitor,
            )  # fmt: skip
            reason = f"{judged}: that suffices"
        else:
            run = self._bridge(
                target, fitted.mixture, num_islands, num_particles, self.adapt_islands,
                generator=generator, monitor=monitor,
            )  # fmt: skip
            reason = f"{judged}: the bridge is needed"
        spent = run.num_evaluations + fitted.num_evaluations + self.reference.weight_points
        notes = (*fitted.notes, *narrowness_note(_spread(run, fitted.mixture)))
        return run._replace(reason=reason, notes=notes, num_evaluations=spent)

    def fit(
        self,
        pilot: Pilot,
        target: Target,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
    ) -> FittedMixture:
        """Fit the mixture and refit it to the particles of small bridges."""
        mixture, notes, spent = self.reference.fit(target, pilot, generator=generator)
        # every component is fitted to some particles of its own
        least = 4 * (target.dim + 2) * len(mixture.weights)
        for index in range(self.refits):
            small = self._bridge(
                target,
                mixture,
                1,
                max(least, round(self.refit_share * num_particles)),
                None,
                generator=generator,
                monitor=replace(monitor, prefix=f"{monitor.prefix}refit {index} "),
            )
            mixture = self.reference.refit(mixture, small)
            spent += small.num_evaluations
        return FittedMixture(mixture, notes, spent)

    def judge(self, target: Target, mixture: Mixture, *, generator: torch.Generator) -> Judgement:
        """Judge importance sampling by draws of its own."""
        num = self.reference.weight_points
        labels = torch.multinomial(mixture.weights, num, True, generator=generator)
        x = sample_component(mixture, labels, generator=generator)
        ratio = checked_log_prob(target, x) - log_joint(mixture, x).logsumexp(-1)
        shape = pareto_shape(ratio)
        return Judgement(
            float(effective_sample_size(ratio)) / num, shape if shape == shape else math.inf
        )

    def importance(
        self,
        target: Target,
        mixture: Mixture,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> Result:
        """Sample by importance sampling from a mixture fitted before; see `run`."""
        strata = len(mixture.weights)
        settings = Settings(self.move, 0, self.resample, 0.0, component_masses(mixture))
        done = run_pass(
            "run",
            StratifiedPath(target, mixture),
            FixedSchedule([0.0, 1.0]),
            settings,
            num_islands * strata,
            max(4, num_particles * self.importance_draws // strata),
            generator=generator,
            monitor=monitor,
        )
        spent = count_evaluations([done], settings, 0, 1)
        return join_result([done], mixture, True, spent, "importance sampling")

    def _bridge(
        self,
        target: Target,
        mixture: Mixture,
        num_islands: int,
        num_particles: int,
        adapt_islands: int | None,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> Result:
        strata = len(mixture.weights)
        settings = Settings(
            self.move, self.num_moves, self.resample, 1.0, component_masses(mixture)
        )
        passes = run_passes(
            StratifiedPath(target, mixture),
            AdaptiveSchedule(self.target_ess),
            settings,
            num_islands,
            max(4, num_particles // strata),
            adapt_islands=adapt_islands,
            num_strata=strata,
            generator=generator,
            monitor=monitor,
        )
        spent = count_evaluations(passes, settings, 0, 1)
        unbiased = adapt_islands is not None
        return join_result(passes, mixture, unbiased, spent, "stratified bridge")
