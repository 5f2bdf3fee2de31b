r"""Methods from a fitted mixture: importance sampling, the stratified bridge, and diffusion.

A pilot finds modes, a mixture :math:`q` is fitted to them, and refitted to the particles of a
first, small bridge. Where importance sampling from :math:`q` has finite variance and few draws
are wasted, it is all that is needed: each draw takes one evaluation. Otherwise every component is
bridged to the target on its own.

What all of these share is :math:`q`. That they agree is no evidence for it.
"""

from dataclasses import dataclass, field, replace

import torch
from typing_extensions import override

from diffsmc.methods.drawing import draw_if_it_will_do
from diffsmc.methods.judgement import FINITE_VARIANCE, improve
from diffsmc.methods.method import SILENT, Method, Monitor, narrowness_note
from diffsmc.methods.mixture_fit import FittedMixture, MixtureFit
from diffsmc.methods.passes import count_evaluations, run_passes
from diffsmc.methods.pilot import Pilot
from diffsmc.methods.seeing import look_back, without_ridges
from diffsmc.methods.strata import component_masses, join_result, particle_spread
from diffsmc.paths.bridge import StratifiedPath
from diffsmc.references.mixture import Mixture
from diffsmc.results.result import Result
from diffsmc.smc.engine import Settings
from diffsmc.smc.moves import HMC, Move
from diffsmc.smc.resampling import Resampling, systematic
from diffsmc.smc.schedules import AdaptiveSchedule
from diffsmc.smc.validity import LEAST_ESS
from diffsmc.targets.target import Target

__all__ = [
    "ReferenceMixture",
]


@dataclass(frozen=True, repr=False)
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
        max_levels: More levels than this end the run.

    References:
        Gelman & Meng (1998), Simulating normalizing constants: from importance sampling to bridge
        sampling to path sampling, Statistical Science 13.
    """

    reference: MixtureFit = field(default_factory=MixtureFit)
    target_ess: float = 0.9
    refits: int = 1
    refit_share: float = 0.3
    importance_ess: float = 0.05
    importance_shape: float = FINITE_VARIANCE
    importance_draws: int = 10
    move: Move = field(default_factory=lambda: HMC(5))
    num_moves: int = 2
    resample: Resampling = systematic
    adapt_islands: int | None = 2
    max_levels: int = 2000

    @override
    def sample(
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
        better = improve(
            target, fitted.mixture, self.reference.weight_points, self.importance_ess,
            self.importance_shape, generator=generator,
        )  # fmt: skip
        drawn, reason, spent = draw_if_it_will_do(
            target, better, num_islands, num_particles * self.importance_draws,
            self.importance_ess, generator=generator, monitor=monitor,
        )  # fmt: skip
        narrow: tuple[str, ...] = ()
        if drawn is not None:
            run = drawn
        else:
            run = self.bridge(
                target, fitted.mixture, num_islands, num_particles, self.adapt_islands,
                generator=generator, monitor=monitor,
            )  # fmt: skip
            reason = f"{reason}: the bridge is needed"
            narrow = narrowness_note(particle_spread(run, fitted.mixture))
            spent += run.num_evaluations
        spent += fitted.num_evaluations + better.num_evaluations
        seen: tuple[str, ...] = ()
        if int(pilot.labels.max()) < self.reference.max_components:
            modes, more = without_ridges(target, better.mixture, self.reference.modes(pilot))
            spent += more
            seen = look_back(target, better.mixture, modes, pilot.looks, run)
        notes = (*fitted.notes, *narrow, *seen)
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
            small = self.bridge(
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

    def bridge(
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
        """Bridge every component of a mixture to the target; see `run`."""
        strata = len(mixture.weights)
        settings = Settings(
            self.move,
            self.num_moves,
            self.resample,
            mass=component_masses(mixture),
            least_ess=LEAST_ESS,
            max_levels=self.max_levels,
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
