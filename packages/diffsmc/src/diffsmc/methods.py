r"""Methods: from a target to weighted samples and an evidence.

Each is a path with its settings. A method that adapts (levels, masses, step sizes) runs
twice: once to adapt, and once more with fresh draws and all of that frozen, so that
:math:`\hat Z` is unbiased. The result says whether it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from .diffusion import DiffusionPath
from .kernels import HMC, MALA, Mass, Move
from .moves import MassEstimator, dense_mass, diagonal_mass
from .potentials import MonteCarloPotential, Potential
from .reference import GaussianReference, Whitened, fit_gaussian, isotropic, laplace
from .resampling import Resampling, systematic
from .resume import RunStore, SavedPass
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
    start,
    step,
    total_log_normalizer,
)
from .targets import Target
from .tempering import TemperedPath

__all__ = [
    "SILENT",
    "Diffusion",
    "Method",
    "Monitor",
    "Report",
    "Result",
    "Tempering",
    "count_evaluations",
    "make_result",
    "merge_islands",
    "narrowness_note",
    "run_pass",
    "run_passes",
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
        monitor: Monitor = Monitor(),
    ) -> Result:
        """Sample a target with independent islands.

        Arguments:
            target: The target.
            num_islands: Number of independent runs, at least 2 for an interval.
            num_particles: Particles of each.
            generator: Source of all draws.
            monitor: Told of each step; may hold a store from which the run is resumed.
        """


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
    monitor: Monitor = Monitor(),
) -> SavedPass:
    """Run along a path and keep the history."""
    saved = monitor.resume(name, generator)
    if saved is None:
        first = start(path, settings, num_islands, num_particles, generator=generator)
        saved = SavedPass(first, [])
    state, history = saved
    while state.level < 1:
        state, info = step(state, path, schedule, settings, plan, generator=generator)
        history.append(info)
        monitor.record(name, state, history, generator)
    return SavedPass(state, history)


def run_passes(
    path: Path,
    schedule: Schedule,
    settings: Settings,
    num_islands: int,
    num_particles: int,
    *,
    adapt_islands: int | None,
    num_strata: int = 1,
    generator: torch.Generator,
    monitor: Monitor,
) -> list[SavedPass]:
    """Run; or adapt with a few islands, freeze and run with all."""

    def run(name: str, islands: int, plan: Plan | None) -> SavedPass:
        return run_pass(
            name,
            path,
            schedule,
            settings,
            islands,
            num_particles,
            plan=plan,
            generator=generator,
            monitor=monitor,
        )

    if adapt_islands is None:
        return [run("run", num_islands * num_strata, None)]
    adapted = run("adapt", adapt_islands * num_strata, None)
    return [adapted, run("run", num_islands * num_strata, freeze(adapted.history, num_strata))]


def count_evaluations(passes: list[SavedPass], settings: Settings, advance: int, each: int) -> int:
    """Count evaluations: at the start, ``advance`` a step, and those of the moves.

    An evaluation takes ``each`` target evaluations, but one at the last level.
    """
    cost = settings.move.num_evaluations

    def count(one: SavedPass) -> int:
        steps = (len(one.history) - 1) * each + 1
        num = one.state.log_weights.numel()
        if settings.chain_length > 1:
            kept = num - num // settings.chain_length
            return num * (1 - advance + steps * advance) + kept * steps * cost
        return num * (1 - advance + steps * (advance + settings.num_moves * cost))

    return sum(map(count, passes))


def make_result(
    passes: list[SavedPass], particles: Tensor, unbiased: bool, num_evaluations: int, path: str
) -> Result:
    """Give the result of a run's last pass, its particles in the target's coordinates."""
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
        path,
    )


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


@dataclass(frozen=True)
class Tempering(Method):
    """Tempered SMC from a wide Gaussian: the method for unimodal posteriors.

    Arguments:
        target_ess: Conditional ESS, relative to N, that chooses the levels.
        levels: Levels given in advance instead, from 0 to 1.
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme.
        mass: Estimator of the mass. By default dense; but diagonal where ``adapt_islands`` is None
            and an island has fewer particles than the squared dimension, on which a dense one
            depends too much for log Z to be near its limit.
        base_scale: Standard deviation of the start; the target's own by default, which
            for a regression is its prior.
        chain_length: Above 1, waste-free SMC with chains of so many states in place of
            ``num_moves``; it divides the number of particles.
        adapt_islands: Islands of a first pass that adapts; what it adapted is frozen, and
            the evidence of the second pass unbiased. None adapts in the only pass.
        compiled: Whether leapfrog steps are compiled, which pays in long runs of small targets
            and needs a C++ compiler.
        single: Whether particles are kept in single precision, with weights in double.
    """

    target_ess: float = 0.9
    levels: list[float] | None = None
    move: Move = field(default_factory=HMC)
    num_moves: int = 2
    resample: Resampling = systematic
    mass: MassEstimator | None = None
    base_scale: float | None = None
    chain_length: int = 1
    adapt_islands: int | None = 4
    compiled: bool = False
    single: bool = False

    @override
    def run(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = Monitor(),
    ) -> Result:
        scale = target.scale if self.base_scale is None else self.base_scale
        path = TemperedPath(
            target, isotropic(target.dim, scale), compiled=self.compiled, single=self.single
        )
        schedule: Schedule = (
            AdaptiveSchedule(self.target_ess) if self.levels is None else FixedSchedule(self.levels)
        )
        settings = Settings(
            self.move,
            self.num_moves,
            self.resample,
            mass=self.mass or self._default_mass(target.dim, num_particles),
            chain_length=self.chain_length,
        )
        passes = run_passes(
            path,
            schedule,
            settings,
            num_islands,
            num_particles,
            adapt_islands=self.adapt_islands,
            generator=generator,
            monitor=monitor,
        )
        particles = passes[-1].state.cloud.particles
        unbiased = self.adapt_islands is not None
        spent = count_evaluations(passes, settings, 0, 1)
        done = make_result(passes, particles, unbiased, spent, "tempered")
        return done._replace(chain_length=self.chain_length)

    def _default_mass(self, dim: int, num_particles: int) -> MassEstimator:
        # Each particle pulls its own mass towards it, which isn't reversible. Of sonar's posterior
        # (five leapfrogs, acceptance 0.9) log Z came out 2.4 too low with 600 particles (sd 0.1)
        # and 1.3 with 1200, about 0.4 D^2 / N; with a diagonal mass 0.06 and 0.10.
        few = self.adapt_islands is None and num_particles < dim**2
        return diagonal_mass if few else dense_mass


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
        self, target: Target, *, generator: torch.Generator, monitor: Monitor = Monitor()
    ) -> tuple[GaussianReference, int]:
        """Fit the reference; also give the evaluations that it took."""
        if self.potential.reference is not None:
            return self.potential.reference, 0
        if self.pilot is None:
            fitted = laplace(target)
            return GaussianReference(fitted.mean, self.inflation * fitted.factor), 0
        run = self.pilot.run(
            target,
            1,
            self.pilot_particles,
            generator=generator,
            monitor=replace(monitor, prefix="pilot "),
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
        monitor: Monitor = Monitor(),
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
