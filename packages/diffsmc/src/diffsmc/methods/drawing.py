r"""Importance sampling that isn't content with few effective draws.

A fit is judged by some thousand draws, and the run has ten times as many. Where these show tails
which the judgement hadn't seen, so that some island has few effective draws or Pareto's
:math:`k` is no longer below 0.7, the mixture is refitted to them and drawn from anew, more often.

References:
    Cappé et al. (2008), Adaptive importance sampling in general mixture classes, Statistics and
    Computing 18, arXiv:0710.4242.
"""

import math

import torch

from diffsmc.methods.importance import sample_by_importance
from diffsmc.methods.judgement import USABLE, Fitted, judge_weights, refit
from diffsmc.methods.method import Monitor
from diffsmc.references.mixture import Mixture
from diffsmc.results.result import Result
from diffsmc.smc.estimators import effective_sample_size
from diffsmc.targets.target import Target

__all__ = ["draw_enough", "draw_if_it_will_do"]

ENOUGH = 200.0  # effective draws of an island, or half of its draws: diagnosis asks for 100
ATTEMPTS = 3
MOST_TIMES = 4  # as many draws in all as were asked for
LEARNT_FROM = 20_000  # heaviest draws to which the mixture is refitted


def draw_enough(
    target: Target,
    mixture: Mixture,
    num_islands: int,
    num_draws: int,
    *,
    most: float = math.inf,
    generator: torch.Generator,
    monitor: Monitor,
) -> tuple[Result, Mixture]:
    """Sample by importance sampling; refit and draw more while islands have too few draws.

    Arguments:
        target: The target.
        mixture: Where draws come from.
        num_islands: Independent sets of draws.
        num_draws: Draws of each, at first.
        most: Evaluations of everything; with no more than the first draws take, these are all.
        generator: Source of all draws.
        monitor: Told of the step.

    Returns:
        The best run, its evaluations being those of all, and the mixture that it came from.
    """
    best, found, spent, num = None, mixture, 0, num_draws
    enough = min(ENOUGH, 0.5 * num_draws)
    for _ in range(ATTEMPTS):
        run = sample_by_importance(
            target, mixture, num_islands, num, generator=generator, monitor=monitor
        )
        spent += run.num_evaluations
        if best is None or _worth(run) > _worth(best):
            best, found = run, mixture
        usable, least = _worth(best)
        more = min(MOST_TIMES * num_draws, math.ceil(num * min(enough / max(least, 1.0), 4.0)))
        if (usable and least >= enough) or least == 0 or spent + more * num_islands > most:
            break
        mixture, num = refit(found, *_heaviest(best)), max(num_draws, more)
    assert best is not None
    return best._replace(num_evaluations=spent), found


def draw_if_it_will_do(
    target: Target,
    fitted: Fitted,
    num_islands: int,
    num_draws: int,
    least_ess: float,
    *,
    generator: torch.Generator,
    monitor: Monitor,
) -> tuple[Result | None, str, int]:
    """Sample from what was fitted unless it won't do; give how it was judged, and the cost.

    A fit whose Pareto's k lies between that of finite variance and that of use is drawn from as
    well: a refit to so many draws costs less than what comes instead. It is then judged by these.

    Arguments:
        target: The target.
        fitted: A mixture and how it was judged.
        num_islands: Independent sets of draws.
        num_draws: Draws of each.
        least_ess: ESS, relative to the draws, from which importance sampling will do.
        generator: Source of all draws.
        monitor: Told of the step.
    """
    judged = fitted.judged
    if not fitted.suffices and not (judged.ess >= least_ess and judged.shape < USABLE):
        return None, str(judged), 0
    run, _ = draw_enough(
        target, fitted.mixture, num_islands, num_draws, generator=generator, monitor=monitor
    )
    again = judge_weights(run.log_weights.flatten())
    few = float(effective_sample_size(run.log_weights).min()) < min(ENOUGH / 2, 0.2 * num_draws)
    if fitted.suffices:
        return run, f"{judged}: that suffices", run.num_evaluations
    if few or not again.suffices(least_ess):
        return None, str(again), run.num_evaluations
    return run, f"{again}: that suffices", run.num_evaluations


def _worth(run: Result) -> tuple[bool, float]:
    """Tell whether a run's weights have a variance to speak of, and its least ESS."""
    shape = judge_weights(run.log_weights.flatten()).shape
    return shape < USABLE, float(effective_sample_size(run.log_weights).min())


def _heaviest(run: Result) -> tuple[torch.Tensor, torch.Tensor]:
    log_weights = run.log_weights.flatten()
    rows = log_weights.topk(min(LEARNT_FROM, len(log_weights))).indices
    return run.particles.flatten(0, 1)[rows], log_weights[rows]
