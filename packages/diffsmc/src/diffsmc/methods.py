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

from .bridge import StratifiedPath, join_strata
from .diffusion import DiffusionPath
from .kernels import HMC, MALA, Mass, Move
from .mixture import Mixture, adapt_weights, cluster_chains, fit_mixture, run_pilot
from .moves import MassEstimator, dense_mass
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
    "Diffusion",
    "Method",
    "Monitor",
    "ReferenceMixture",
    "Report",
    "Result",
    "Tempering",
    "merge_islands",
]

Report = Callable[[str, State, StepInfo], None]


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


class Result(NamedTuple):
    """Weighted particles, evidence by island, and how the run went.

    ``particles`` ``(R, N, D)`` are in the target's coordinates, ``log_weights`` ``(R, N)``
    unnormalised, ``log_normalizers`` ``(R,)``. ``num_evaluations`` counts log-densities of
    the target, with or without gradient, in all passes; ``notes`` are findings on the way.
    """

    particles: Tensor
    log_weights: Tensor
    log_normalizers: Tensor
    eves: Tensor
    num_resampled: Tensor
    history: list[StepInfo]
    unbiased: bool
    num_evaluations: int
    notes: tuple[str, ...] = ()


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


def _passes(
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


def _count(passes: list[SavedPass], settings: Settings, advance: int, each: int) -> int:
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


def _result(
    passes: list[SavedPass], particles: Tensor, unbiased: bool, num_evaluations: int
) -> Result:
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
            results[0].notes,
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
        chain_length: Above 1, waste-free SMC with chains of so many states in place of
            ``num_moves``; it divides the number of particles.
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
    chain_length: int = 1
    adapt_islands: int | None = 4

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
        path = TemperedPath(target, isotropic(target.dim, scale))
        schedule: Schedule = (
            AdaptiveSchedule(self.target_ess) if self.levels is None else FixedSchedule(self.levels)
        )
        settings = Settings(
            self.move,
            self.num_moves,
            self.resample,
            mass=self.mass,
            chain_length=self.chain_length,
        )
        passes = _passes(
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
        passes = _passes(
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
        spent += _count(passes, settings, 1, potential.num_evaluations)
        unbiased = self.adapt_islands is not None or self.num_moves == 0
        return _result(passes, particles, unbiased, spent)


@dataclass(frozen=True)
class ReferenceMixture(Method):
    """Stratified bridge from a fitted mixture: the method for several modes.

    A pilot of HMC chains finds modes, a mixture is fitted to them, and each of its
    components is tempered to the target on its own. Where the mixture fits, the bridge
    takes one step and is importance sampling.

    Arguments:
        target_ess: Conditional ESS, relative to N, that chooses the levels.
        num_chains: Chains of the pilot.
        pilot_moves: HMC moves of each, five leapfrog steps long.
        weight_points: Draws of each of three rounds that adapt the weights.
        inflation: Factor on the fitted covariances.
        max_components: With more clusters than this a single Gaussian is fitted to all.
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme, within strata.
        adapt_islands: Islands of a first pass that adapts levels and step sizes; frozen,
            they leave the evidence of the second pass unbiased. None adapts in the only pass.
    """

    target_ess: float = 0.9
    num_chains: int = 256
    pilot_moves: int = 60
    weight_points: int = 2000
    inflation: float = 1.15
    max_components: int = 64
    move: Move = field(default_factory=lambda: HMC(5))
    num_moves: int = 2
    resample: Resampling = systematic
    adapt_islands: int | None = 2

    def fit(self, target: Target, *, generator: torch.Generator) -> tuple[Mixture, tuple[str, ...]]:
        """Fit the mixture; also say what the pilot found."""
        states = run_pilot(
            target, generator=generator, num_chains=self.num_chains, num_moves=self.pilot_moves
        )
        labels = cluster_chains(states)
        counts = labels.bincount()
        notes = [f"stratified bridge from {len(counts)} components"]
        rare = int((counts <= 2).sum())
        if len(counts) > self.max_components:
            labels = torch.zeros_like(labels)
            notes = [f"tempered from one Gaussian: {len(counts)} modes are too many for strata"]
        elif rare:
            notes.append(
                f"{rare} of {len(counts)} modes were found by at most 2 of {self.num_chains} "
                "chains: others were likely missed; use more chains or a better start"
            )
        mixture = fit_mixture(states, labels, self.inflation)
        mixture = adapt_weights(target, mixture, generator=generator, num_points=self.weight_points)
        return mixture, tuple(notes)

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
        mixture, notes = self.fit(target, generator=generator)
        num_strata = len(mixture.weights)

        def component_mass(particles: Tensor, log_weights: Tensor) -> Mass:
            repeat = len(particles) // num_strata
            return Mass(mixture.means.repeat(repeat, 1), mixture.factors.repeat(repeat, 1, 1))

        settings = Settings(self.move, self.num_moves, self.resample, 1.0, component_mass)
        passes = _passes(
            StratifiedPath(target, mixture),
            AdaptiveSchedule(self.target_ess),
            settings,
            num_islands,
            max(4, num_particles // num_strata),
            adapt_islands=self.adapt_islands,
            num_strata=num_strata,
            generator=generator,
            monitor=monitor,
        )
        spent = self.num_chains * (1 + 5 * self.pilot_moves) + 3 * self.weight_points
        spent += _count(passes, settings, 0, 1)
        unbiased = self.adapt_islands is not None
        return _join(passes, mixture, unbiased, spent)._replace(notes=notes)


def _join(
    passes: list[SavedPass], mixture: Mixture, unbiased: bool, num_evaluations: int
) -> Result:
    r"""Join strata into islands: :math:`Z = \sum_k w_k Z_k` and particles by their share."""
    state, history = passes[-1]
    num_strata, num = len(mixture.weights), state.log_weights.shape[-1]
    strata = total_log_normalizer(state).reshape(-1, num_strata) + mixture.weights.log()
    inner = state.log_weights.log_softmax(-1).reshape(-1, num_strata, num)
    offset = num * torch.arange(num_strata, dtype=state.eves.dtype, device=state.eves.device)
    eves = state.eves.reshape(-1, num_strata, num) + offset[:, None]
    return Result(
        join_strata(state.cloud.particles, num_strata),
        (strata[..., None] + inner).flatten(1),
        strata.logsumexp(-1),
        eves.flatten(1),
        state.num_resampled.reshape(-1, num_strata).amax(-1),
        [_join_info(info, mixture.weights.log()) for info in history],
        unbiased,
        num_evaluations,
    )


def _join_info(info: StepInfo, log_weights: Tensor) -> StepInfo:
    """Join strata of weights ``(K,)``: sum what counts particles, average the rest."""
    num_strata = len(log_weights)

    def split(values: Tensor) -> Tensor:
        return values.reshape(-1, num_strata)

    return info._replace(
        ess=split(info.ess).sum(-1),
        conditional_ess=split(info.conditional_ess).mean(-1),
        acceptance=split(info.acceptance).mean(-1),
        resampled=split(info.resampled).any(-1),
        families=split(info.families).sum(-1),
        log_normalizer=(split(info.log_normalizer) + log_weights).logsumexp(-1),
        step_size=split(info.step_size).mean(-1),
    )
