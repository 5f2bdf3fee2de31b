r"""Importance sampling that isn't content with few effective draws.

A fit is judged by some thousand draws, and the run has ten times as many. Where these show tails
which the judgement hadn't seen, so that some island has few effective draws or Pareto's
:math:`k` is no longer below 0.7, the mixture is refitted and drawn from anew. It is refitted to
all :math:`n = \sum_i n_i` draws so far, weighted by the proposal of all together,
:math:`w = \gamma / \sum_i (n_i/n)\, q_i`. The answer is that of the last draws alone: to keep the
run that looks best is to keep the one that missed a tail, and draws to which a proposal was fitted
have too little weight under it.

References:
    Cornuet, Marin, Mira & Robert (2012), Adaptive multiple importance sampling, Scandinavian
    Journal of Statistics 39, arXiv:0907.1254.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.methods.importance import affordable, sample_by_importance
from diffsmc.methods.judgement import USABLE, Fitted, judge_weights, proposal, refit
from diffsmc.methods.method import Monitor
from diffsmc.paths.importance import ImportancePath
from diffsmc.references.mixture import Mixture
from diffsmc.results.result import Result
from diffsmc.smc.estimators import effective_sample_size
from diffsmc.targets.target import Target

__all__ = ["draw_enough", "draw_if_it_will_do"]

ENOUGH = 200.0  # effective draws of an island, or half of its draws: diagnosis asks for 100
ATTEMPTS = 3
MOST_TIMES = 4  # as many draws at once as were asked for
LEARNT_FROM = 20_000  # heaviest draws to which the mixture is refitted


class _Drawn(NamedTuple):
    """Draws of a mixture, ``num`` an island."""

    run: Result
    mixture: Mixture
    num: int

    def log_density(self, target: Target, x: Tensor) -> Tensor:
        """Give the log-density of such draws at any points."""
        mixture = affordable(self.mixture, self.num)
        path = ImportancePath(target, proposal(target, mixture))
        return path.log_density(x, *path.labels(self.num))


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
        The last draws, the evaluations being those of all, and the mixture that they came from.
    """
    drawn: list[_Drawn] = []
    num, enough, spent = num_draws, min(ENOUGH, 0.5 * num_draws), 0
    while True:
        run = sample_by_importance(
            target, mixture, num_islands, num, generator=generator, monitor=monitor
        )
        drawn.append(_Drawn(run, mixture, num))
        spent += run.num_evaluations
        shape = judge_weights(run.log_weights.flatten()).shape
        least = float(effective_sample_size(run.log_weights).min())
        times = min(MOST_TIMES, max(1.0, 2 * enough / max(least, 1.0)))
        num = math.ceil(times * num_draws)
        done = shape < USABLE and least >= enough
        if done or least == 0 or spent + num * num_islands > most or len(drawn) == ATTEMPTS:
            return run._replace(num_evaluations=spent), mixture
        mixture = refit(mixture, *_heaviest(*_together(target, drawn)))


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


def _together(target: Target, drawn: list[_Drawn]) -> tuple[Tensor, Tensor]:
    """Give all draws, ``(N, D)``, weighted by the proposal that they are draws of together."""
    total = sum(one.num for one in drawn)
    x = torch.cat([one.run.particles.flatten(0, 1) for one in drawn])
    # a run's own weights say what the density is at its draws
    density = torch.cat([
        (one.run.log_weights + one.log_density(target, one.run.particles)).flatten()
        for one in drawn
    ])  # fmt: skip
    parts = [one.log_density(target, x) + math.log(one.num / total) for one in drawn]
    return x, density - torch.stack(parts).logsumexp(0)


def _heaviest(points: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    rows = log_weights.topk(min(LEARNT_FROM, len(log_weights))).indices
    return points[rows], log_weights[rows]
