"""The path chosen by diagnostics: what a pilot shows decides, and the result says so."""

import math
from dataclasses import dataclass, field, replace

import torch
from typing_extensions import override

from diffsmc.methods.method import SILENT, Method, Monitor, Result
from diffsmc.methods.pilot import VARYING, Pilot, width_ratio
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.tempering import Tempering
from diffsmc.targets.target import Target

__all__ = ["Automatic"]


@dataclass(frozen=True)
class Automatic(Method):
    """Importance sampling, tempering or the reference mixture, by what a pilot's chains show.

    A pilot of short chains is clustered by place and width. One mode (no valley between clusters)
    about as wide everywhere: importance sampling from a Gaussian fitted to it, where its ESS
    and Pareto's k allow, or else tempering. Several modes, or one whose width varies
    fivefold as a funnel's does: the reference mixture, where importance sampling from it replaces
    the bridge if it suffices.

    Arguments:
        tempering: Method for one mode that is far from Gaussian.
        mixture: Method for several; its pilot is the one that decides.
        importance_ess: ESS, relative to the number of draws, from which importance sampling
            replaces tempering; 1 never. Draws are as many as make one effective draw a particle,
            and no fewer than the mixture's.
        importance_shape: Pareto's k must be below: estimates are useless from 0.7.
    """

    tempering: Tempering = field(default_factory=Tempering)
    mixture: ReferenceMixture = field(default_factory=ReferenceMixture)
    importance_ess: float = 0.05
    importance_shape: float = 0.7

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
        pilot = self.mixture.reference.pilot(target, generator=generator)
        modes, width = len(pilot.found), width_ratio(pilot.states, pilot.labels)
        seen = f"{self.mixture.reference.num_chains} pilot chains found"
        if modes == 1 and width < VARYING:
            run = self._one_mode(
                pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            return run._replace(reason=f"{seen} one mode of one width; {run.reason}")
        run = self.mixture.run_from(
            pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
        )
        found = f"{modes} modes" if modes > 1 else f"one mode whose width varies {width:.0f}-fold"
        return run._replace(reason=f"{seen} {found}; {run.reason}")

    def _one_mode(
        self,
        pilot: Pilot,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> Result:
        """Sample from the fitted Gaussian if that will do, by tempering otherwise."""
        fitted = self.mixture.reference.fit(target, pilot, generator=generator)
        judged = self.mixture.judge(target, fitted.mixture, generator=generator)
        spent = fitted.num_evaluations + self.mixture.reference.weight_points
        if judged.suffices(self.importance_ess, self.importance_shape):
            draws = max(self.mixture.importance_draws, math.ceil(1 / judged.ess))
            run = replace(self.mixture, importance_draws=draws).importance(
                target, fitted.mixture, num_islands, num_particles, generator=generator,
                monitor=monitor,
            )  # fmt: skip
            reason = f"{judged}: that suffices"
        else:
            run = self.tempering.run(
                target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            reason = f"{judged}: tempering is needed"
        return run._replace(reason=reason, num_evaluations=run.num_evaluations + spent)
