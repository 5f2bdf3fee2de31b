"""Denoising diffusion from a fitted mixture as a method."""

from dataclasses import dataclass, field

import torch
from typing_extensions import override

from diffsmc.methods.method import SILENT, Method, Monitor
from diffsmc.methods.passes import count_evaluations, make_result, run_passes
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.seeing import look_back
from diffsmc.paths.mixture_diffusion import MixtureDiffusionPath, MixturePotential, MonteCarloRatio
from diffsmc.results.result import Result
from diffsmc.smc.engine import Settings
from diffsmc.smc.moves import PCN, Move
from diffsmc.smc.resampling import Resampling, systematic
from diffsmc.smc.schedules import FixedSchedule, cosine_variances
from diffsmc.targets.target import Target

__all__ = ["MixtureDiffusion"]


@dataclass(frozen=True, repr=False)
class MixtureDiffusion(Method):
    """Denoising diffusion from the fitted mixture: offered, nowhere better than the bridge.

    Arguments:
        reference: The mixture's fit and refits; its other settings don't matter.
        potential: Approximates how the noised target differs from the noised mixture.
        num_steps: Denoising steps.
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme.
        ess_threshold: Resample below this ESS relative to N.
        adapt_islands: Islands of a first pass that adapts masses and step sizes; frozen, they
            leave the evidence of the second pass unbiased. None adapts in the only pass.

    References:
        Song et al. (2021), Score-based generative modeling through stochastic differential
        equations, arXiv:2011.13456; Phillips et al. (2024), arXiv:2402.06320.
    """

    reference: ReferenceMixture = field(default_factory=ReferenceMixture)
    potential: MixturePotential = field(default_factory=MonteCarloRatio)
    num_steps: int = 16
    move: Move = field(default_factory=PCN)
    num_moves: int = 1
    resample: Resampling = systematic
    ess_threshold: float = 0.5
    adapt_islands: int | None = 2

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
        pilot = self.reference.reference.pilot(target, generator=generator)
        fitted = self.reference.fit(
            pilot, target, num_particles, generator=generator, monitor=monitor
        )
        potential = self.potential.bind(target, fitted.mixture, generator=generator)
        path = MixtureDiffusionPath(target, fitted.mixture, potential)
        settings = Settings(self.move, self.num_moves, self.resample, self.ess_threshold)
        passes = run_passes(
            path,
            FixedSchedule((1 - cosine_variances(self.num_steps)).tolist()),
            settings,
            num_islands,
            num_particles,
            adapt_islands=self.adapt_islands,
            generator=generator,
            monitor=monitor,
        )
        spent = count_evaluations(passes, settings, 1, potential.num_evaluations)
        unbiased = self.adapt_islands is not None or self.num_moves == 0
        done = make_result(
            passes, passes[-1].state.cloud.particles, unbiased,
            spent + fitted.num_evaluations, "mixture diffusion",
        )  # fmt: skip
        modes = self.reference.reference.modes(pilot)
        seen = look_back(target, fitted.mixture, modes, pilot.looks, done)
        return done._replace(notes=(*fitted.notes, *seen))
