r"""Methods: from a target to weighted samples and an evidence.

Each is a path with its settings. A method that adapts (levels, masses, step sizes) runs
twice: once to adapt, and once more with fresh draws and all of that frozen, so that
:math:`\hat Z` is unbiased. The result says whether it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from .diffusion import DiffusionPath
from .kernels import HMC, MALA, Mass, Move
from .moves import MassEstimator, dense_mass
from .potentials import MonteCarloPotential, Potential
from .reference import GaussianReference, Whitened, fit_gaussian, isotropic, laplace
from .resampling import Resampling, systematic
from .schedules import cosine_variances
from .smc import (
    AdaptiveSchedule,
    FixedSchedule,
    Path,
    Plan,
    Schedule,
    Settings,
    State,
    StepInfo,
    freeze,
    smc,
    total_log_normalizer,
)
from .targets import Target
from .tempering import TemperedPath

__all__ = ["Diffusion", "Method", "Report", "Result", "Tempering", "merge_islands"]

Report = Callable[[str, State, StepInfo], None]


class Result(NamedTuple):
    """Weighted particles, evidence by island, and how the run went.

    ``particles`` ``(R, N, D)`` are in the target's coordinates, ``log_weights`` ``(R, N)``
    unnormalised, ``log_normalizers`` ``(R,)``. ``num_evaluations`` counts log-densities of
    the target, with or without gradient, in all passes.
    """

    particles: Tensor
    log_weights: Tensor
    log_normalizers: Tensor
    eves: Tensor
    num_resampled: Tensor
    history: list[StepInfo]
    unbiased: bool
    num_evaluations: int


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
        report: Report | None = None,
    ) -> Result:
        """Sample a target with independent islands.

        Arguments:
            target: The target.
            num_islands: Number of independent runs, at least 2 for an interval.
            num_particles: Particles of each.
            generator: Source of all draws.
            report: Called after each step with the name of the pass.
        """


class Pass(NamedTuple):
    """Last state and history of one pass."""

    state: State
    history: list[StepInfo]


def _quiet(name: str, state: State, info: StepInfo) -> None:
    """Report nothing."""


def run_pass(
    name: str,
    path: Path,
    schedule: Schedule,
    settings: Settings,
    num_islands: int,
    num_particles: int,
    *,
    plan: Plan | None = None,
    generator: torch.Generator,
    report: Report | None = None,
) -> Pass:
    """Run along a path and keep the history."""
    report = _quiet if report is None else report
    history: list[StepInfo] = []
    for state, info in smc(
        path, schedule, settings, num_islands, num_particles, plan=plan, generator=generator
    ):
        history.append(info)
        report(name, state, info)
    return Pass(state, history)


def _passes(
    path: Path,
    schedule: Schedule,
    settings: Settings,
    num_islands: int,
    num_particles: int,
    *,
    adapt_islands: int | None,
    generator: torch.Generator,
    report: Report | None,
) -> list[Pass]:
    """Run; or adapt with a few islands, freeze and run with all."""

    def run(name: str, islands: int, plan: Plan | None) -> Pass:
        return run_pass(
            name,
            path,
            schedule,
            settings,
            islands,
            num_particles,
            plan=plan,
            generator=generator,
            report=report,
        )

    if adapt_islands is None:
        return [run("run", num_islands, None)]
    adapted = run("adapt", adapt_islands, None)
    return [adapted, run("run", num_islands, freeze(adapted.history))]


def _count(passes: list[Pass], settings: Settings, advance: int, each: int) -> int:
    """Count evaluations: at the start, ``advance`` a step, and those of the moves.

    An evaluation takes ``each`` target evaluations, but one at the last level.
    """
    moves = settings.num_moves * settings.move.num_evaluations

    def count(one: Pass) -> int:
        steps = (len(one.history) - 1) * each + 1
        return one.state.log_weights.numel() * (1 - advance + steps * (advance + moves))

    return sum(map(count, passes))


def _result(passes: list[Pass], particles: Tensor, unbiased: bool, num_evaluations: int) -> Result:
    state, history = passes[-1]
    return Result(
        particles,
        state.log_weights,
        total_log_normalizer(state),
        state.eves,
        state.num_resampled,
        history,
        unbiased,
        num_evaluations,
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
        )
    )


def _merge_infos(infos: tuple[StepInfo, ...]) -> StepInfo:
    fields = [torch.cat(column) for column in zip(*(info[1:-1] for info in infos), strict=True)]
    mass = Mass._make(map(torch.cat, zip(*(info.mass for info in infos), strict=True)))
    return StepInfo._make((infos[0].level, *fields, mass))


@dataclass(frozen=True)
class Tempering(Method):
    """Tempered SMC from a wide Gaussian: the method for unimodal posteriors.

    Arguments:
        target_ess: Conditional ESS, relative to N, that chooses the levels.
        levels: Levels given in advance instead, from 0 to 1.
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme.
        mass: Estimator of the mass.
        base_scale: Standard deviation of the start; the target's own by default, which
            for a regression is its prior.
        adapt_islands: Islands of a first pass that adapts; what it adapted is frozen, and
            the evidence of the second pass unbiased. None adapts in the only pass.
    """

    target_ess: float = 0.9
    levels: list[float] | None = None
    move: Move = field(default_factory=HMC)
    num_moves: int = 2
    resample: Resampling = systematic
    mass: MassEstimator = dense_mass
    base_scale: float | None = None
    adapt_islands: int | None = 4

    @override
    def run(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        report: Report | None = None,
    ) -> Result:
        scale = target.scale if self.base_scale is None else self.base_scale
        path = TemperedPath(target, isotropic(target.dim, scale))
        schedule: Schedule = (
            AdaptiveSchedule(self.target_ess) if self.levels is None else FixedSchedule(self.levels)
        )
        settings = Settings(self.move, self.num_moves, self.resample, 1.0, self.mass)
        passes = _passes(
            path,
            schedule,
            settings,
            num_islands,
            num_particles,
            adapt_islands=self.adapt_islands,
            generator=generator,
            report=report,
        )
        particles = passes[-1].state.cloud.particles
        unbiased = self.adapt_islands is not None
        return _result(passes, particles, unbiased, _count(passes, settings, 0, 1))


@dataclass(frozen=True)
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
        self, target: Target, *, generator: torch.Generator, report: Report | None = None
    ) -> tuple[GaussianReference, int]:
        """Fit the reference; also give the evaluations that it took."""
        if self.potential.reference is not None:
            return self.potential.reference, 0
        if self.pilot is None:
            fitted = laplace(target)
            return GaussianReference(fitted.mean, self.inflation * fitted.factor), 0
        announce = _quiet if report is None else report
        run = self.pilot.run(
            target,
            1,
            self.pilot_particles,
            generator=generator,
            report=lambda _, state, info: announce("pilot", state, info),
        )
        fitted = fit_gaussian(run.particles, run.log_weights, self.inflation)
        return fitted, run.num_evaluations

    @override
    def run(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        report: Report | None = None,
    ) -> Result:
        reference, spent = self.reference(target, generator=generator, report=report)
        whitened = Whitened(target, reference)
        potential = self.potential.bind(whitened, generator=generator)
        path = DiffusionPath(potential, target.dim, whitened.mean)
        levels = (1 - cosine_variances(self.num_steps)).tolist()
        settings = Settings(self.move, self.num_moves, self.resample, self.ess_threshold, self.mass)
        passes = _passes(
            path,
            FixedSchedule(levels),
            settings,
            num_islands,
            num_particles,
            adapt_islands=self.adapt_islands,
            generator=generator,
            report=report,
        )
        particles = whitened.restore(passes[-1].state.cloud.particles)
        spent += _count(passes, settings, 1, potential.num_evaluations)
        unbiased = self.adapt_islands is not None or self.num_moves == 0
        return _result(passes, particles, unbiased, spent)
