r"""Looks at single points for modes that climbs from random starts wouldn't meet.

A needle's basin is small, but it is larger than nothing: of :math:`N` points under the start
(at several scales) those are followed by climbs at which the density outweighs the fit,
:math:`\gamma(x) > e^2 Z q(x)`. A look takes one evaluation, a climb dozens, so where one mode was
found and a second might hide, many looks see more than many climbs.

References:
    Rinnooy Kan & Timmer, Stochastic global optimization methods, part II: multi level methods,
    Mathematical Programming 1987.
"""

import torch
from torch import Tensor

from diffsmc.methods.climbing import Hills, follow_up, scaled_starts
from diffsmc.methods.judgement import OUTWEIGHS, Fitted, proposal
from diffsmc.methods.seeing import POWERFUL, chance_of_seeing, pooled
from diffsmc.paths.importance import ImportancePath
from diffsmc.smc.estimators import log_mean_exp
from diffsmc.targets.target import Target

__all__ = ["look_further"]

LOOKS = 25_000
MOST_LOOKS = 100_000
HOPELESS = 0.4  # chance from which so many looks won't make a good one
FOLLOWED = 32


def look_further(
    target: Target, hills: Hills, fitted: Fitted, *, generator: torch.Generator, num: int = LOOKS
) -> Hills:
    """Look where a further mode would hardly have been seen, and follow what outweighs the fit.

    Arguments:
        target: The target.
        hills: What climbs found.
        fitted: The mixture fitted to it.
        generator: Source of all draws.
        num: Number of looks.
    """
    while len(hills.looks) < MOST_LOOKS:
        chance = _chance(target, hills, fitted)
        if chance >= POWERFUL or (len(hills.looks) and chance < HOPELESS):
            break
        points = _look_points(target, num, generator=generator)
        log_ratio = outweighing(target, fitted, points)
        hills = hills._replace(
            looks=torch.cat([hills.looks, points]), num_evaluations=hills.num_evaluations + num
        )
        rows = log_ratio.topk(min(FOLLOWED, num)).indices
        rows = rows[log_ratio[rows] > OUTWEIGHS]
        known = len(hills.modes)
        hills = follow_up(target, hills, points[rows]) if len(rows) else hills
        # the counts of several modes speak for themselves
        if len(hills.modes) > max(known, 1):
            break
    return hills


def _look_points(target: Target, num: int, *, generator: torch.Generator) -> Tensor:
    """Draw half of the points from the start, and half from it at several scales."""
    mean, factor = target.start_mean, target.start_factor
    near = scaled_starts(target, num // 2, generator=generator)
    shape = (num - num // 2, target.dim)
    noise = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return torch.cat([near, mean + noise @ factor.mT])


def _chance(target: Target, hills: Hills, fitted: Fitted) -> float:
    seed = torch.Generator(hills.starts.device).manual_seed(0)
    mixture = pooled(fitted.mixture) if len(hills.modes) == 1 else fitted.mixture
    return chance_of_seeing(target, mixture, torch.cat([hills.starts, hills.looks]), generator=seed)


def outweighing(target: Target, fitted: Fitted, points: Tensor) -> Tensor:
    r"""Give :math:`\log\gamma(x) - \log Zq(x)`, ``(N,)``, the proposal's heavy parts included.

    Arguments:
        target: The target.
        fitted: A mixture, and the draws by which it was judged.
        points: ``(N, D)``.
    """
    path = ImportancePath(target, proposal(target, fitted.mixture))
    labels, student = path.labels(1000 + 20 * len(fitted.mixture.weights))
    found = path.log_density(points, labels, student) + log_mean_exp(fitted.draws.tilt[0])
    values = target.log_prob(points).double()
    return torch.where(values.isfinite(), values - found, -torch.inf)
