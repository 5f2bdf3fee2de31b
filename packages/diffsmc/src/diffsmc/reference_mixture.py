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
from torch import Tensor
from typing_extensions import override

from .bridge import StratifiedPath, join_strata
from .diagnostics import pareto_shape
from .estimators import effective_sample_size
from .kernels import HMC, PCN, Mass, Move
from .methods import (
    SILENT,
    Method,
    Monitor,
    Result,
    count_evaluations,
    make_result,
    narrowness_note,
    run_pass,
    run_passes,
)
from .mixture import (
    Mixture,
    adapt_weights,
    expectation_maximization,
    inflate,
    log_joint,
    sample_component,
    split_components,
)
from .mixture_diffusion import MixtureDiffusionPath, MixturePotential, MonteCarloRatio
from .moves import MassEstimator
from .pilot import Pilot, cluster_factors, search
from .resampling import Resampling, systematic
from .resume import SavedPass
from .schedules import cosine_variances
from .smc import (
    AdaptiveSchedule,
    FixedSchedule,
    Settings,
    StepInfo,
    total_log_normalizer,
)
from .targets import Target, checked_log_prob

__all__ = [
    "FittedMixture",
    "Judgement",
    "MixtureDiffusion",
    "MixtureFit",
    "ReferenceMixture",
    "component_masses",
    "join_result",
]

# Of the mean number of chains a mode: one found by fewer suggests others found by none. With a
# tenth all eight runs of 20 on the eight Student modes with a wrong mass are told (their rarest had
# 0.01 to 0.06 of the mean), and of 15 on forty modes that missed no mass three are accused.
FEW = 0.1
INFINITE_VARIANCE, USELESS = 0.5, 0.7  # Pareto shapes
NEARLY_ALL = 0.8  # ESS with which a shape between the two is of no account


class FittedMixture(NamedTuple):
    """A mixture, what its pilot found, and the evaluations of both."""

    mixture: Mixture
    notes: tuple[str, ...]
    num_evaluations: int


@dataclass(frozen=True)
class MixtureFit:
    """How a reference mixture is found and fitted.

    Arguments:
        num_chains: Chains of the pilot.
        search_moves: HMC moves of each, five leapfrog steps long.
        revisit_chains: Chains spread evenly over what was found.
        revisit_moves: HMC moves of each of those.
        max_components: With more clusters than this a single Gaussian is fitted to all.
        weight_points: Draws of each of three rounds that adapt the weights.
        inflation: Factor on the fitted covariances.
        starts: Starting points of the pilot instead of draws from the wide start.
    """

    num_chains: int = 400
    search_moves: int = 40
    revisit_chains: int = 256
    revisit_moves: int = 20
    max_components: int = 64
    weight_points: int = 2000
    inflation: float = 1.15
    starts: list[list[float]] | None = None

    def pilot(self, target: Target, *, generator: torch.Generator) -> Pilot:
        """Look for modes."""
        starts = None
        if self.starts is not None:
            starts = torch.tensor(self.starts, dtype=torch.float64, device=generator.device)
        return search(
            target,
            generator=generator,
            num_chains=self.num_chains,
            num_moves=self.search_moves,
            num_revisit_chains=self.revisit_chains,
            num_revisits=self.revisit_moves,
            max_clusters=self.max_components,
            starts=starts,
        )

    def fit(self, target: Target, pilot: Pilot, *, generator: torch.Generator) -> FittedMixture:
        """Fit a mixture to what a pilot found."""
        states, labels = pilot.states, pilot.labels
        many = int(labels.max()) >= self.max_components
        labels = torch.zeros_like(labels) if many else labels
        points, chains = states.flatten(0, 1), torch.arange(states.shape[1]).repeat(len(states))
        sizes = labels.bincount().to(points.dtype)
        mixture = Mixture(sizes / sizes.sum(), *cluster_factors(states, labels))
        # chains that keep to their modes count once each
        mixture = expectation_maximization(mixture, points, groups=chains if many else None)
        if not many:
            mixture = split_components(mixture, points, chains, self.max_components)
        mixture, spent = inflate(mixture, self.inflation), pilot.num_evaluations
        if len(mixture.weights) > 1:
            mixture = adapt_weights(
                target, mixture, generator=generator, num_points=self.weight_points
            )
            spent += 3 * self.weight_points
        return FittedMixture(mixture, self._notes(pilot), spent)

    def _notes(self, pilot: Pilot) -> tuple[str, ...]:
        clusters, modes = int(pilot.labels.max()) + 1, len(pilot.found)
        rarest = float(pilot.found.min())
        if clusters > self.max_components:
            return (f"{clusters} clusters of chains are too many for strata: one Gaussian for all",)
        found = f"the pilot's {self.num_chains} chains found {modes} modes in {clusters} clusters"
        if modes > 1 and rarest < max(FEW * self.num_chains / modes, 1.5):
            return (
                found,
                f"warning: some modes were found by few chains ({rarest:.0f} of "
                f"{self.num_chains}), so others were likely missed, and mode masses and log Z are "
                "unsure: use more num_chains, a better scale, or starts",
            )
        return (found,)

    def refit(self, mixture: Mixture, result: Result) -> Mixture:
        """Fit the mixture again, to weighted particles."""
        points = result.particles.flatten(0, 1)
        share = result.log_normalizers.log_softmax(0)[:, None]
        log_weights = (result.log_weights.log_softmax(-1) + share).flatten()
        index = torch.arange(len(result.eves), device=points.device)[:, None]
        families = (result.eves + result.eves.shape[1] * index).flatten()
        seen = log_weights > -torch.inf
        points, log_weights, families = points[seen], log_weights[seen], families[seen]
        mixture = inflate(mixture, 1 / self.inflation)
        # one Gaussian for many modes: particles of one ancestor share a mode, and count once
        groups = families if len(mixture.weights) == 1 else None
        mixture = expectation_maximization(mixture, points, 10, log_weights, groups)
        if len(mixture.weights) > 1:
            mixture = split_components(mixture, points, families, self.max_components, log_weights)
            mixture = expectation_maximization(mixture, points, 5, log_weights)
        return inflate(mixture, self.inflation)


def component_masses(mixture: Mixture) -> MassEstimator:
    """Give an estimator that takes each stratum's own component for its mass."""

    def estimate(particles: Tensor, log_weights: Tensor) -> Mass:
        repeat = len(particles) // len(mixture.weights)
        return Mass(mixture.means.repeat(repeat, 1), mixture.factors.repeat(repeat, 1, 1))

    return estimate


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


@dataclass(frozen=True)
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
    def run(
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
        return done._replace(notes=fitted.notes)


def _spread(run: Result, mixture: Mixture) -> float:
    """Give the variance of particles in the coordinates of their own components."""
    strata = len(mixture.weights)
    x = run.particles.reshape(len(run.particles), strata, -1, run.particles.shape[-1])
    unit = torch.linalg.solve_triangular(
        mixture.factors, (x - mixture.means[:, None]).mT, upper=False
    )
    weights = run.log_weights.softmax(-1).reshape(*x.shape[:-1])
    return float((weights * unit.square().mean(-2)).sum((1, 2)).mean())


def join_result(
    passes: list[SavedPass], mixture: Mixture, unbiased: bool, num_evaluations: int, path: str
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
        path,
        num_strata=num_strata,
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
        renewal=split(info.renewal).mean(-1),
        resampled=split(info.resampled).any(-1),
        families=split(info.families).sum(-1),
        log_normalizer=(split(info.log_normalizer) + log_weights).logsumexp(-1),
        step_size=split(info.step_size).mean(-1),
    )
