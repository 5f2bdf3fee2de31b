r"""The default with a budget: what is left after the climbs is divided, and never exceeded.

- Less than a pilot takes: importance sampling from Laplace's mixture, or from the wide start.
- Otherwise a pilot for about a third of it, a fit, importance sampling where that will do or no
  more can be had, and else a bridge with most of the rest. A bridge that would need more stops,
  and what is left goes into importance sampling.

References:
    Zhang, Carpenter, Gelman & Vehtari, Pathfinder: parallel quasi-Newton variational inference,
    JMLR 2022, for a first answer at the price of an optimisation.
"""

import math
from dataclasses import replace

import torch

from diffsmc.methods.climbing import Hills
from diffsmc.methods.importance import sample_by_importance
from diffsmc.methods.judgement import FINITE_VARIANCE, MOST_COMPONENTS, Fitted, improve
from diffsmc.methods.method import Monitor, narrowness_note
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.seeing import Modes, look_back
from diffsmc.methods.strata import particle_spread
from diffsmc.references.mixture import Mixture
from diffsmc.results.result import Result
from diffsmc.targets.errors import FailedRunError
from diffsmc.targets.limits import Limited
from diffsmc.targets.target import Target

__all__ = ["LEAST_PILOT", "PILOT", "sample_thriftily", "smaller"]

PILOT = 1.1e5  # evaluations of a pilot
LEAST_PILOT = 20_000  # and of the least that says something
BRIDGED = 150.0  # evaluations that a particle of the bridge takes, in round numbers
USABLE_ESS = 0.05
FEWEST_PARTICLES = 50  # with which a bridge is worth its price


def smaller(mixture: ReferenceMixture, left: int) -> ReferenceMixture:
    """Cut chains, moves and rounds to a part of the evaluations that are left.

    Arguments:
        mixture: The method as it would be without a budget.
        left: Evaluations.
    """
    fit = mixture.reference
    share = math.sqrt(min(1.0, 0.3 * left / PILOT))
    small = replace(
        fit,
        num_chains=max(16, round(share * fit.num_chains)),
        search_moves=max(8, round(share * fit.search_moves)),
        revisit_chains=max(16, round(share * fit.revisit_chains)),
        revisit_moves=max(4, round(share * fit.revisit_moves)),
        weight_points=max(200, round(share * fit.weight_points)),
    )
    return replace(mixture, reference=small, refits=0)


def sample_thriftily(
    mixture: ReferenceMixture,
    target: Target,
    hills: Hills | None,
    num_islands: int,
    num_particles: int,
    left: int,
    *,
    generator: torch.Generator,
    monitor: Monitor,
) -> Result:
    """Sample with what is left of a budget.

    Arguments:
        mixture: Method whose pilot, fit and bridge are cut.
        target: The target.
        hills: What climbs found.
        num_islands: Independent runs.
        num_particles: Particles of each at most.
        left: Evaluations.
        generator: Source of all draws.
        monitor: Told of each step.
    """
    if left < LEAST_PILOT:
        return _at_once(target, hills, num_islands, left, generator=generator, monitor=monitor)
    small = smaller(mixture, left)
    fit = small.reference
    pilot = fit.pilot(target, hills, generator=generator)
    fitted = fit.fit(target, pilot, generator=generator)
    spent = fitted.num_evaluations
    better = improve(
        target, fitted.mixture, fit.weight_points, small.importance_ess, small.importance_shape,
        budget=left - spent, generator=generator,
    )  # fmt: skip
    spent += better.num_evaluations
    num = min(num_particles, int(0.6 * (left - spent) / (BRIDGED * (num_islands + 2))))
    run = None
    if not better.suffices and num >= FEWEST_PARTICLES:
        run, used = _bridge(
            small, target, fitted.mixture, num_islands, num, int(0.8 * (left - spent)),
            generator=generator, monitor=monitor,
        )  # fmt: skip
        spent += used
    if run is None:
        run = sample_by_importance(
            target, better.mixture, num_islands, max(2, (left - spent) // num_islands),
            generator=generator, monitor=monitor,
        )  # fmt: skip
        spent += run.num_evaluations
    modes = fit.modes(pilot)
    return run._replace(
        reason=f"{len(pilot.starts)} pilot chains found {len(pilot.found)} modes; {_so(better)}",
        notes=(
            *run.notes,
            *fitted.notes,
            *look_back(target, better.mixture, modes, pilot.looks, run),
        ),
        num_evaluations=spent,
    )


def _so(fitted: Fitted) -> str:
    end = "that suffices" if fitted.suffices else "what the budget allows followed"
    return f"{fitted.judged}: {end}"


def _bridge(
    method: ReferenceMixture,
    target: Target,
    mixture: Mixture,
    num_islands: int,
    num_particles: int,
    most: int,
    *,
    generator: torch.Generator,
    monitor: Monitor,
) -> tuple[Result | None, int]:
    """Bridge within some evaluations; give the result, or nothing, and how many it took."""
    limited = Limited(target, most)
    try:
        run = method.bridge(
            limited, mixture, num_islands, num_particles, method.adapt_islands,
            generator=generator, monitor=monitor,
        )  # fmt: skip
    except FailedRunError:
        return None, limited.count
    notes = (*run.notes, *narrowness_note(particle_spread(run, mixture)))
    return run._replace(notes=notes), run.num_evaluations


def _at_once(
    target: Target,
    hills: Hills | None,
    num_islands: int,
    left: int,
    *,
    generator: torch.Generator,
    monitor: Monitor,
) -> Result:
    """Sample from Laplace's mixture at what modes are known, or else from the start."""
    known = 0 if hills is None else len(hills.modes)
    usable = hills is not None and 0 < known <= MOST_COMPONENTS
    mixture = _with_start(target, hills.mixture() if hills is not None and usable else None)
    num = max(2, min(2000, left // 6))
    better = improve(
        target, mixture, num, USABLE_ESS, FINITE_VARIANCE, budget=left, generator=generator
    )
    left -= better.num_evaluations
    run = sample_by_importance(
        target, better.mixture, num_islands, max(2, left // num_islands),
        generator=generator, monitor=monitor,
    )  # fmt: skip
    like = target.start_mean
    found = hills.found if hills is not None and usable else torch.ones_like(like[:1])
    starts = like[None] if hills is None else torch.cat([hills.starts, hills.looks])
    first = hills.mixture() if hills is not None and usable else mixture
    labels = torch.arange(len(first.weights), device=like.device)
    modes = Modes(first.means, first.factors, labels, found)
    what = f"the start and {known} modes, which climbs found" if usable else "the start"
    return run._replace(
        reason=f"importance sampling from a fit begun with {what}: the budget allows no more",
        notes=(*run.notes, *look_back(target, better.mixture, modes, starts, run)),
        num_evaluations=run.num_evaluations + better.num_evaluations,
    )


def _with_start(target: Target, mixture: Mixture | None) -> Mixture:
    """Give a mixture of which half is the wide start."""
    mean, factor = target.start_mean[None], target.start_factor[None]
    if mixture is None:
        return Mixture(torch.ones_like(mean[:, 0]), mean, factor)
    return Mixture(
        torch.cat([torch.ones_like(mean[:, 0]), mixture.weights]) / 2,
        torch.cat([mean, mixture.means]),
        torch.cat([factor, mixture.factors]),
    )
