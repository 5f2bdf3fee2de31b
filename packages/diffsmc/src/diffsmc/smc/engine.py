r"""Sequential Monte Carlo along a path of densities: one engine for all paths.

A path leads from a base that can be sampled (level 0) to the target (level 1). A step
from one level to the next

1. *advances*: particles may be extended, and each gets a log-weight increment;
2. *resamples* the islands whose ESS is below a threshold;
3. *moves* all particles by a Markov kernel that keeps the new level's density.

:math:`\hat Z = \prod_t \frac{\sum_i w_{t-1}^i u_t^i}{\sum_i w_{t-1}^i}` is unbiased for
each island when levels, masses and step sizes are fixed in advance. Adapted ones make it
consistent only: ``freeze`` turns what a run adapted into a plan for another, unbiased run.

All islands are one tensor program, with shapes ``(R, N, D)``.

References:
    Del Moral, Doucet & Jasra, Sequential Monte Carlo samplers, JRSS B 2006.
    Dau & Chopin, Waste-free sequential Monte Carlo, JRSS B 2022.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffsmc.smc.adaptation import MassEstimator, adapt_step, dense_mass, pool_masses
from diffsmc.smc.density import Cloud, Density, Mass
from diffsmc.smc.estimators import conditional_ess, effective_sample_size
from diffsmc.smc.moves import HMC, Move
from diffsmc.smc.path import Path, Plan, State, StepInfo
from diffsmc.smc.resampling import Resampling, systematic
from diffsmc.smc.schedules import Schedule
from diffsmc.smc.validity import INVALID_SHARE, WANDERING, check_ess, check_finite, reject_invalid
from diffsmc.targets.errors import FailedRunError

__all__ = [
    "Settings",
    "freeze",
    "smc",
    "start",
    "step",
]


@dataclass(frozen=True)
class Settings:
    """How particles are resampled and moved.

    Arguments:
        move: The kernel.
        num_moves: Moves at each level.
        resample: Resampling scheme.
        ess_threshold: Resample below this ESS relative to N; 1 resamples at every level.
        mass: Estimator of the mass from weighted particles.
        adapt: Whether step sizes follow the acceptance.
        chain_length: Above 1 the sampler is waste-free: of N particles N / chain_length are
            resampled, each starts a chain of so many states, and all states are particles.
        least_ess: A step whose conditional ESS, relative to N, is below ends the run: what so few
            particles say is no answer.
        max_levels: More levels than this end the run.
    """

    move: Move = field(default_factory=HMC)
    num_moves: int = 1
    resample: Resampling = systematic
    ess_threshold: float = 1.0
    mass: MassEstimator = dense_mass
    adapt: bool = True
    chain_length: int = 1
    least_ess: float = 0.0
    max_levels: int = 2000

    def __post_init__(self) -> None:
        if self.num_moves < 0:
            raise ValueError(f"num_moves must be at least 0, got {self.num_moves}")
        if self.chain_length < 1:
            raise ValueError(f"chain_length must be at least 1, got {self.chain_length}")
        if self.max_levels < 1:
            raise ValueError(f"max_levels must be at least 1, got {self.max_levels}")


def start(
    path: Path,
    settings: Settings,
    num_islands: int,
    num_particles: int,
    *,
    generator: torch.Generator,
) -> State:
    """Draw the particles of level 0.

    Raises:
        NonFiniteLogDensityError: A log-density is NaN or ``+inf``.
    """
    if num_islands < 1 or num_particles < 2:
        raise ValueError(f"need 1 island and 2 particles, got {num_islands} and {num_particles}")
    if settings.chain_length < 1 or num_particles % settings.chain_length:
        raise ValueError(
            f"num_particles must be a multiple of chain_length, got {num_particles} and "
            f"{settings.chain_length}"
        )
    cloud = path.start(num_islands, num_particles, generator=generator)
    invalid = torch.zeros_like(cloud.base[:, 0], dtype=torch.int32)
    if path.draws_are_proposals:
        cloud, invalid = reject_invalid(cloud, 0)
    else:
        check_finite(cloud, 0)
    zeros = torch.zeros_like(cloud.base)
    eves = torch.arange(zeros.shape[-1], dtype=torch.int32, device=zeros.device).expand_as(zeros)
    step_size = torch.full_like(zeros[:, 0], settings.move.initial_step(cloud.particles.shape[-1]))
    none = torch.zeros_like(zeros[:, 0])
    shares = path.log_shares(none)
    return State(cloud, zeros, none, eves, none.int(), step_size, shares, invalid, 0.0, 0)


def step(
    state: State,
    path: Path,
    schedule: Schedule,
    settings: Settings,
    plan: Plan | None = None,
    *,
    generator: torch.Generator,
) -> tuple[State, StepInfo]:
    """Take one step: advance, resample, move.

    Arguments:
        state: State before the step.
        path: The path.
        schedule: Gives the next level; not asked when there is a plan.
        settings: Move and resampling.
        plan: Levels, step sizes and masses of a frozen run.
        generator: Source of all draws.

    Raises:
        NonFiniteLogDensityError: A log-density is ``+inf``, or NaN at many points.
        FailedRunError: There are too many levels, or too few particles matter after a step.
    """
    level = _next_level(state, schedule, settings, plan)
    state, cess, invalid, moved = _advance(state, path, level, settings, generator=generator)
    ess = effective_sample_size(state.log_weights)
    state, mass, kept = _mass(state, settings, plan)
    chosen = ess <= settings.ess_threshold * state.log_weights.shape[-1]
    state = _resample(state, chosen, settings.resample, settings.chain_length, generator=generator)
    used = state.step_size
    density = path.density(level)
    before = None if moved else state.cloud
    state, acceptance, rejected = _move(
        state, density, mass, settings, plan is None, generator=generator
    )
    info = StepInfo(
        level,
        ess,
        cess,
        acceptance,
        _renewal(before, state, density.temperature),
        chosen,
        _count_families(state.eves),
        total_log_normalizer(state),
        used,
        invalid + rejected,
        kept,
    )
    return state, info


def _next_level(state: State, schedule: Schedule, settings: Settings, plan: Plan | None) -> float:
    """Give the level of a plan, or ask the schedule; too many end the run."""
    if state.num_steps >= settings.max_levels:
        raise FailedRunError(
            f"level {state.level:.3g} after {state.num_steps} steps (max_levels): the target may "
            "be improper, or far narrower or wider than its scale says"
        )
    return schedule.next_level(state) if plan is None else plan.levels[state.num_steps + 1]


def _advance(
    state: State, path: Path, level: float, settings: Settings, *, generator: torch.Generator
) -> tuple[State, Tensor, Tensor, bool]:
    """Weigh particles for a level; give conditional ESS, NaN particles, and whether all moved."""
    cloud, increments, moved = path.advance(state.cloud, state.level, level, generator=generator)
    invalid = state.invalid
    if moved:
        cloud, more = reject_invalid(cloud, state.num_steps + 1)
        invalid = invalid + more
        increments = increments.where(~increments.isnan(), -torch.inf)
    cess = conditional_ess(state.log_weights, increments)
    check_ess(cess, state.level, level, settings.least_ess)
    state = state._replace(
        cloud=cloud,
        log_weights=state.log_weights + increments,
        invalid=torch.zeros_like(state.invalid),
        level=level,
        num_steps=state.num_steps + 1,
    )
    return state, cess, invalid, moved


def _mass(state: State, settings: Settings, plan: Plan | None) -> tuple[State, Mass, Mass]:
    """Give the mass of each island, and the one that the history keeps.

    Masses and step sizes of a frozen run are its plan's, which holds them once for all islands.
    """
    if plan is None:
        mass = settings.mass(state.cloud.particles, state.log_weights)
        return state, mass, mass
    kept, num = plan.masses[state.num_steps - 1], len(state.log_weights)
    step_size = _tile(plan.step_sizes[state.num_steps - 1], num)
    mass = Mass(_tile(kept.mean, num), _tile(kept.factor, num))
    return state._replace(step_size=step_size), mass, kept


def total_log_normalizer(state: State) -> Tensor:
    r"""Give :math:`\log\hat Z` of each island so far, ``(R,)``."""
    num = state.log_weights.shape[-1]
    return state.log_normalizer + state.log_weights.logsumexp(-1) - math.log(num)


def _resample(
    state: State,
    chosen: Tensor,
    scheme: Resampling,
    chain_length: int,
    *,
    generator: torch.Generator,
) -> State:
    """Resample the chosen islands, ``(R,)``; the others keep particles and weights."""
    drawn = scheme(state.log_weights, generator=generator)
    if chain_length > 1:
        # every so-maniest ancestor from a random one on: unbiased for every scheme
        kept, shape = drawn.shape[-1] // chain_length, (len(drawn), 1)
        offset = torch.randint(chain_length, shape, generator=generator, device=drawn.device)
        place = offset + chain_length * torch.arange(kept, device=drawn.device)
        drawn, chosen = drawn.gather(1, place), torch.ones_like(chosen)
    keep = torch.arange(drawn.shape[-1], device=drawn.device).expand_as(drawn)
    ancestors = torch.where(chosen[:, None], drawn, keep)

    num = state.log_weights.shape[-1]
    rows = (ancestors + num * torch.arange(len(drawn), device=drawn.device)[:, None]).flatten()

    def take(a: Tensor) -> Tensor:
        taken = a.flatten(0, 1).index_select(0, rows)
        return taken.reshape(*ancestors.shape, *a.shape[2:])

    return state._replace(
        cloud=Cloud(*map(take, state.cloud)),
        eves=take(state.eves),
        log_normalizer=torch.where(chosen, total_log_normalizer(state), state.log_normalizer),
        log_weights=torch.where(chosen[:, None], 0.0, take(state.log_weights)),
        num_resampled=state.num_resampled + chosen.int(),
    )


def _move(
    state: State,
    density: Density,
    mass: Mass,
    settings: Settings,
    adapt: bool,
    *,
    generator: torch.Generator,
) -> tuple[State, Tensor, Tensor]:
    """Move the particles; give acceptances, NaN without moves, and numbers of NaN proposals.

    Waste-free chains keep all their states, each with the weight gathered so far.
    """
    acceptance = torch.full_like(state.log_normalizer, torch.nan)
    invalid = torch.zeros_like(state.num_resampled)
    chain = [(state.cloud, state.log_weights)]
    waste_free = settings.chain_length > 1
    dtype = state.cloud.particles.dtype
    mass = Mass(mass.mean.to(dtype), mass.factor.to(dtype))
    for _ in range(settings.chain_length - 1 if waste_free else settings.num_moves):
        cloud, info = settings.move.step(
            state.cloud, density, mass, state.step_size.to(dtype), generator=generator
        )
        most = INVALID_SHARE if state.level == 1 else WANDERING
        invalid = (
            invalid + reject_invalid(info.proposal, state.num_steps, most, state.cloud.particles)[1]
        )
        step_size = state.step_size
        if adapt and settings.adapt:
            step_size = adapt_step(step_size, info.acceptance, settings.move)
        state = state._replace(
            cloud=cloud, log_weights=state.log_weights + info.log_weights, step_size=step_size
        )
        acceptance = info.acceptance.mean(-1)
        chain.append((state.cloud, state.log_weights))
    return (_unroll(state, chain) if waste_free else state), acceptance, invalid


def _renewal(before: Cloud | None, state: State, temperature: float) -> Tensor:
    """Share of the log-density's variance that moves renewed, ``(R,)``; see `StepInfo`."""
    after = state.cloud
    if before is None or before is after or before.tilt.shape != after.tilt.shape:
        return torch.full_like(state.log_normalizer, torch.nan)
    weights = state.log_weights.softmax(-1)
    # particles of density zero stay there with weight zero
    old, new = (
        torch.where(weights > 0, temperature * cloud.tilt + cloud.base, 0.0)
        for cloud in (before, after)
    )
    variance = (weights * (new - (weights * new).sum(-1, keepdim=True)).square()).sum(-1)
    return (weights * (new - old).square()).sum(-1) / (2 * variance)


def _unroll(state: State, chain: list[tuple[Cloud, Tensor]]) -> State:
    """Make particles of all states of the chains."""
    clouds, log_weights = zip(*chain, strict=True)
    return state._replace(
        cloud=Cloud(*(torch.cat(parts, 1) for parts in zip(*clouds, strict=True))),
        log_weights=torch.cat(log_weights, 1),
        eves=state.eves.repeat(1, len(chain)),
    )


def _count_families(eves: Tensor) -> Tensor:
    ordered = eves.sort(-1).values
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(-1)


def smc(
    path: Path,
    schedule: Schedule,
    settings: Settings,
    num_islands: int,
    num_particles: int,
    *,
    plan: Plan | None = None,
    generator: torch.Generator,
) -> Iterator[tuple[State, StepInfo]]:
    """Run from level 0 to level 1, yielding the state after each step.

    References:
        Chopin & Papaspiliopoulos (2020), An Introduction to Sequential Monte Carlo, chapter 17.
    """
    state = start(path, settings, num_islands, num_particles, generator=generator)
    while state.level < 1:
        state, info = step(state, path, schedule, settings, plan, generator=generator)
        yield state, info


def freeze(history: list[StepInfo], num_strata: int = 1) -> Plan:
    """Make a plan of what a run adapted, pooled over its islands.

    Arguments:
        history: What the run did.
        num_strata: Strata of an island, each of which keeps its own masses and steps.
    """
    steps = [info.step_size.log().reshape(-1, num_strata).mean(0).exp() for info in history]
    masses = [pool_masses(info.mass, num_strata) for info in history]
    return Plan([0.0, *(info.level for info in history)], steps, masses)


def _tile(values: Tensor, num_rows: int) -> Tensor:
    """Repeat what a plan holds by stratum for every island."""
    return values.repeat(num_rows // len(values), *[1] * (values.dim() - 1))
