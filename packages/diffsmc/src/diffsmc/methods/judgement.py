"""Judgement of importance sampling from a mixture, and refits of it to its own draws."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.methods.climbing import Hills, follow_up
from diffsmc.paths.importance import ImportancePath, Proposal
from diffsmc.references.gaussian import GaussianReference
from diffsmc.references.mixture import Mixture, expectation_maximization, inflate, split_components
from diffsmc.smc.density import Cloud
from diffsmc.smc.estimators import effective_sample_size, log_mean_exp, pareto_shape
from diffsmc.smc.validity import reject_invalid
from diffsmc.targets.target import Target

__all__ = [
    "FINITE_VARIANCE",
    "Fitted",
    "Judgement",
    "fit_hills",
    "improve",
    "judge",
    "judge_weights",
    "proposal",
    "refit",
]

FINITE_VARIANCE = 0.5  # Pareto shape
USABLE = 0.7  # and that from which estimates are useless
NEARLY_ALL = 0.8  # ESS with which a shape between the two is of no account


class Judgement(NamedTuple):
    """ESS relative to the draws, and Pareto's k, of importance sampling from a mixture."""

    ess: float
    shape: float

    @override
    def __str__(self) -> str:
        k = self.shape
        return f"importance sampling from the fit has ESS {self.ess:.0%} and Pareto k {k:.2f}"

    def suffices(self, least_ess: float, most_shape: float = FINITE_VARIANCE) -> bool:
        """Tell whether importance sampling will do: the variance must be finite."""
        bound = max(USABLE, most_shape) if self.ess > NEARLY_ALL else most_shape
        return self.ess >= least_ess and self.shape < bound


def proposal(target: Target, mixture: Mixture) -> Proposal:
    """Give what draws come from: a mixture, defended by the target's start."""
    return Proposal(mixture, GaussianReference(target.start_mean, target.start_factor))


def judge(
    target: Target, mixture: Mixture, num: int, *, generator: torch.Generator
) -> tuple[Judgement, Cloud]:
    """Judge importance sampling by draws of its own; also give those.

    Arguments:
        target: The target.
        mixture: Where draws would come from.
        num: Number of draws, each one evaluation.
        generator: Source of all draws.
    """
    path = ImportancePath(target, proposal(target, mixture))
    cloud = reject_invalid(path.start(1, num, generator=generator), 0)[0]
    return judge_weights(cloud.tilt[0]), cloud


def judge_weights(log_weights: Tensor) -> Judgement:
    """Judge importance sampling by its log-weights, ``(N,)``.

    References:
        Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25, arXiv:1507.02646.
    """
    shape = pareto_shape(log_weights)
    ess = float(effective_sample_size(log_weights)) / len(log_weights)
    return Judgement(ess, math.inf if math.isnan(shape) else shape)


LOST = 0.5  # of the starts: where more end on no peak, peaks do not describe the density
ROUNDS = 4  # refits of Laplace's mixture to its own weighted draws
GOOD = 0.5  # ESS with which no refit is tried
FEW_EVALUATIONS = 50_000  # a budget with which there is no better than what was found
LOOKS = 4  # from draws that outweigh the hills
OUTWEIGHS = 2.0  # log of the weight over the mean: such draws lie on another hill, or in a tail
HOPELESS = 0.003  # ESS of which nothing can be made
MOST_COMPONENTS = 64


class Fitted(NamedTuple):
    """A mixture, how importance sampling from it was judged, and what that took."""

    mixture: Mixture
    judged: Judgement
    suffices: bool
    draws: Cloud
    num_evaluations: int
    hills: Hills | None = None


def fit_hills(
    target: Target,
    hills: Hills,
    least_ess: float,
    most_shape: float = FINITE_VARIANCE,
    *,
    budget: int = 100_000,
    generator: torch.Generator,
) -> Fitted | None:
    """Refit Laplace's mixture to its own weighted draws until it will do or gains no more.

    Arguments:
        target: The target.
        hills: Modes found by climbing.
        least_ess: ESS, relative to the draws, from which it will do.
        most_shape: And Pareto's k must be below.
        budget: Evaluations of this and of the draws that follow.
        generator: Source of all draws.

    Returns:
        The best mixture; nothing where peaks don't describe the density.
    """
    modes, lost = len(hills.modes), hills.lost / max(1, len(hills.starts))
    if modes == 0 or lost > LOST or modes > MOST_COMPONENTS:
        return None
    alone = int((hills.found < 1.5).sum())
    if modes > 1 and alone > modes / 3 and budget > FEW_EVALUATIONS:
        return None  # there are far more modes than were found
    num = min(2000 + 100 * modes, max(min(150, budget // 4), budget // 8))
    hills, spent = _look_around(target, hills, num, budget // 10, generator=generator)
    fitted = improve(
        target, hills.mixture(), num, least_ess, most_shape, budget=budget - spent,
        generator=generator,
    )  # fmt: skip
    return fitted._replace(hills=hills, num_evaluations=fitted.num_evaluations + spent)


def _look_around(
    target: Target, hills: Hills, num: int, most: int, *, generator: torch.Generator
) -> tuple[Hills, int]:
    """Climb from draws that outweigh what the hills say, while that finds new ones.

    Arguments:
        target: The target.
        hills: What is known.
        num: Draws of a look.
        most: Evaluations after which there is no other look.
        generator: Source of all draws.
    """
    spent = 0
    for _ in range(LOOKS):
        if spent > most or num > 2 * most:
            break
        _, cloud = judge(target, hills.mixture(), num, generator=generator)
        spent += cloud.tilt.numel()
        tilt = cloud.tilt[0]
        high = tilt > log_mean_exp(tilt) + OUTWEIGHS
        rows = torch.where(high, tilt, -torch.inf).topk(min(16, len(tilt))).indices
        rows = rows[high[rows]]
        known = len(hills.modes)
        if not len(rows) or known >= MOST_COMPONENTS:
            break
        before = hills.num_evaluations
        hills = follow_up(target, hills, cloud.particles[0][rows], 2 * most)
        spent += hills.num_evaluations - before
        if len(hills.modes) == known:
            break
    return hills, spent


def improve(
    target: Target,
    mixture: Mixture,
    num: int,
    least_ess: float,
    most_shape: float = FINITE_VARIANCE,
    *,
    budget: int = 100_000,
    generator: torch.Generator,
) -> Fitted:
    """Judge a mixture, and refit it to its own weighted draws until it will do.

    Arguments:
        target: The target.
        mixture: Where to start.
        num: Draws of a round.
        least_ess: ESS, relative to the draws, from which it will do.
        most_shape: And Pareto's k must be below.
        budget: Evaluations of the whole run, of which at most two fifths are spent.
        generator: Source of all draws.

    References:
        Cappé et al. (2008), Adaptive importance sampling in general mixture classes, Statistics and
        Computing 18, arXiv:0710.4242.
    """
    best, spent = None, 0
    for _ in range(ROUNDS):
        judged, cloud = judge(target, mixture, num, generator=generator)
        spent += cloud.tilt.numel()
        ok = judged.suffices(least_ess, most_shape)
        if best is None or (ok, judged.ess) > (best.suffices, best.judged.ess):
            best = Fitted(mixture, judged, ok, cloud, 0)
        dear = spent + num > 0.4 * budget
        enough = (ok and judged.ess > GOOD) or dear or judged.ess < HOPELESS
        if enough or not bool((cloud.tilt > -torch.inf).any()):
            break
        mixture = refit(mixture, cloud.particles[0], cloud.tilt[0])
    assert best is not None
    return best._replace(num_evaluations=spent)


def refit(mixture: Mixture, points: Tensor, log_weights: Tensor) -> Mixture:
    """Fit a mixture to weighted draws of its own; weights are clipped at the mean times root N.

    Arguments:
        mixture: Where the draws come from.
        points: ``(N, D)``.
        log_weights: ``(N,)``.
    """
    seen = log_weights > -torch.inf
    points, log_weights = points[seen], log_weights[seen]
    top = float(log_mean_exp(log_weights)) + 0.5 * math.log(len(points))
    log_weights = log_weights.clamp(max=top)
    mixture = expectation_maximization(mixture, points, 5, log_weights)
    groups = torch.arange(len(points), device=points.device)
    mixture = split_components(mixture, points, groups, MOST_COMPONENTS, log_weights)
    return inflate(expectation_maximization(mixture, points, 3, log_weights), 1.05)
