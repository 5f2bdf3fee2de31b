"""Denoising diffusion as a method."""

from dataclasses import dataclass, field, replace

import torch
from typing_extensions import override

from diffsmc.methods.method import SILENT, Method, Monitor, narrowness_note
from diffsmc.methods.passes import count_evaluations, make_result, run_passes
from diffsmc.methods.tempering import Tempering
from diffsmc.paths.diffusion import DiffusionPath
from diffsmc.potentials.monte_carlo import MonteCarloPotential, Potential
from diffsmc.references.gaussian import GaussianReference, Whitened, fit_gaussian, laplace
from diffsmc.results.result import Result
from diffsmc.smc.adaptation import MassEstimator, dense_mass
from diffsmc.smc.engine import Settings
from diffsmc.smc.moves import MALA, Move
from diffsmc.smc.resampling import Resampling, systematic
from diffsmc.smc.schedules import FixedSchedule, cosine_variances
from diffsmc.targets.target import Target

__all__ = ["Diffusion"]


@dataclass(frozen=True, repr=False)
class Diffusion(Method):
    """Denoising diffusion by SMC, in the coordinates of a Gaussian reference.

    Arguments:
        potential: Approximates the noised target.
        num_steps: Denoising steps.
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme.
        ess_threshold: Resample below this ESS relative to N.
        mass: Estimator of the mass.
        pilot: A tempered run with few particles that gives the reference by its mean and
            covariance; without one, Laplace's method gives it.
        pilot_particles: Particles of the pilot, in one island.
        inflation: Factor on the reference's standard deviations: its tails must be at
            least the target's.
        adapt_islands: Islands of a first pass that adapts; what it adapted is frozen, and
            the evidence of the second pass unbiased. None adapts in the only pass.

    References:
        Phillips et al. (2024), Particle denoising diffusion sampler, ICML, arXiv:2402.06320.
    """

    potential: Potential = field(default_factory=MonteCarloPotential)
    num_steps: int = 32
    move: Move = field(default_factory=MALA)
    num_moves: int = 1
    resample: Resampling = systematic
    ess_threshold: float = 0.5
    mass: MassEstimator = dense_mass
    pilot: Tempering | None = None
    pilot_particles: int = 1000
    inflation: float = 1.1
    adapt_islands: int | None = 4

    def reference(
        self, target: Target, *, generator: torch.Generator, monitor: Monitor = SILENT
    ) -> tuple[GaussianReference, int]:
        """Fit the reference; also give the evaluations that it took."""
        if self.potential.reference is not None:
            return self.potential.reference, 0
        if self.pilot is None:
            fitted = laplace(target)
            return GaussianReference(fitted.mean, self.inflation * fitted.factor), 0
        run = self.pilot.sample(
            target,
            1,
            self.pilot_particles,
            generator=generator,
            monitor=replace(monitor, prefix="pilot "),
        )
        fitted = fit_gaussian(run.particles, run.log_weights, self.inflation)
        return fitted, run.num_evaluations

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
        reference, spent = self.reference(target, generator=generator, monitor=monitor)
        whitened = Whitened(target, reference)
        potential = self.potential.bind(whitened, generator=generator)
        path = DiffusionPath(potential, target.dim, whitened.mean)
        levels = (1 - cosine_variances(self.num_steps)).tolist()
        settings = Settings(self.move, self.num_moves, self.resample, self.ess_threshold, self.mass)
        passes = run_passes(
            path,
            FixedSchedule(levels),
            settings,
            num_islands,
            num_particles,
            adapt_islands=self.adapt_islands,
            generator=generator,
            monitor=monitor,
        )
        particles = whitened.restore(passes[-1].state.cloud.particles)
        spent += count_evaluations(passes, settings, 1, potential.num_evaluations)
        unbiased = self.adapt_islands is not None or self.num_moves == 0
        weights = passes[-1].state.log_weights.softmax(-1)[..., None]
        spread = float((weights * passes[-1].state.cloud.particles.square()).sum(1).mean())
        done = make_result(passes, particles, unbiased, spent, "diffusion")
        return done._replace(notes=narrowness_note(spread))
