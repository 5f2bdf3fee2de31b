"""The path chosen by diagnostics: what a pilot shows decides, and the result says so."""

from dataclasses import dataclass, field, replace

import torch
from typing_extensions import override

from .methods import SILENT, Method, Monitor, Result, Tempering
from .pilot import Pilot, cluster_factors
from .reference_mixture import ReferenceMixture
from .targets import Target

__all__ = ["Automatic", "width_ratio"]

VARYING = 5.0


@dataclass(frozen=True)
class Automatic(Method):
    """Importance sampling, tempering or the reference mixture, by what a pilot shows.

    A pilot of short chains is clustered by place and width. One mode (no valley between clusters)
    whose clusters are about as wide is explored, and a Gaussian fitted to it (or several, where
    they are likelier): where its draws have enough ESS and Pareto's k is below 0.5 importance
    sampling from it, else tempering. Several modes, or one whose width varies fivefold as a
    funnel's does: the reference mixture, where importance sampling from it replaces the bridge if
    it suffices.

    Arguments:
        tempering: Method for one mode that its fit misses.
        mixture: Method for several; its pilot is the one that decides.
        gaussian_ess: ESS of the draws from a single mode's fit, relative to their number, from
            which on they suffice: with ten draws for each particle they are then worth as much as
            independent particles.
    """

    tempering: Tempering = field(default_factory=Tempering)
    mixture: ReferenceMixture = field(default_factory=ReferenceMixture)
    gaussian_ess: float = 0.1

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
        modes, width = len(pilot.found), width_ratio(pilot)
        seen = f"{self.mixture.reference.num_chains} pilot chains found"
        if modes == 1 and width < VARYING:
            run = self._run_one_mode(
                pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            return run._replace(reason=f"{seen} one mode of one width; {run.reason}")
        run = self.mixture.run_from(
            pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
        )
        found = f"{modes} modes" if modes > 1 else f"one mode whose width varies {width:.0f}-fold"
        return run._replace(reason=f"{seen} {found}; {run.reason}")

    def _run_one_mode(
        self,
        pilot: Pilot,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> Result:
        one = replace(self.mixture, importance_ess=self.gaussian_ess)
        pooled = one.reference.pool(target, pilot, generator=generator)
        fitted = one.reference.fit(target, pooled, generator=generator)
        judgement = one.judge(target, fitted.mixture, generator=generator)
        seen = f"importance sampling from what was fitted to it has {judgement}"
        if one.suffices(judgement):
            run = one.sample_importance(
                target, fitted.mixture, num_islands, num_particles, generator=generator,
                monitor=monitor,
            )  # fmt: skip
            reason = f"{seen}: that suffices"
        else:
            run = self.tempering.run(
                target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            reason = f"{seen}: tempering is needed"
        spent = run.num_evaluations + fitted.num_evaluations + one.reference.weight_points
        return run._replace(reason=reason, num_evaluations=spent)


def width_ratio(pilot: Pilot) -> float:
    """Give the ratio of the widest to the narrowest cluster."""
    scales = cluster_factors(pilot.states, pilot.labels)[1].square().sum((-1, -2)).sqrt()
    return float(scales.max() / scales.min())
