"""Passes of a run: adapt, freeze, rerun; what they cost, and the result they give."""

import torch
from torch import Tensor

from diffsmc.methods.method import SILENT, Monitor
from diffsmc.methods.resume import SavedPass
from diffsmc.results.result import Result
from diffsmc.smc.engine import Settings, freeze, start, step, total_log_normalizer
from diffsmc.smc.path import Path, Plan
from diffsmc.smc.schedules import Schedule

__all__ = ["count_evaluations", "make_result", "run_pass", "run_passes"]


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
    monitor: Monitor = SILENT,
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
    """Run; or adapt with a few islands, freeze and run with all.

    References:
        Beskos et al. (2016), On the convergence of adaptive sequential Monte Carlo methods, Annals
        of Applied Probability 26, arXiv:1306.6462: an adapted pass, then a frozen one.
    """

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
