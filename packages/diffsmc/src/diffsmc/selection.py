"""The path chosen by diagnostics: what a pilot shows decides, and the result says so."""

from dataclasses import dataclass, field

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
    """Tempering where the pilot's chains look alike, the reference mixture where they differ.

    A pilot of short chains is clustered by place and width. One mode (no valley between clusters)
    whose clusters are about as wide: tempering. Several modes, or one whose width varies fivefold
    as a funnel's does: the reference mixture, where importance sampling from it replaces the bridge
    if it suffices.

    Arguments:
        tempering: Method for one cluster.
        mixture: Method for several; its pilot is the one that decides.
    """

    tempering: Tempering = field(default_factory=Tempering)
    mixture: ReferenceMixture = field(default_factory=ReferenceMixture)

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
            run = self.tempering.run(
                target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            spent = run.num_evaluations + pilot.num_evaluations
            reason = f"{seen} one mode of one width"
            return run._replace(reason=reason, num_evaluations=spent)
        run = self.mixture.run_from(
            pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
        )
        found = f"{modes} modes" if modes > 1 else f"one mode whose width varies {width:.0f}-fold"
        return run._replace(reason=f"{seen} {found}; {run.reason}")


def width_ratio(pilot: Pilot) -> float:
    """Give the ratio of the widest to the narrowest cluster."""
    scales = cluster_factors(pilot.states, pilot.labels)[1].square().sum((-1, -2)).sqrt()
    return float(scales.max() / scales.min())
