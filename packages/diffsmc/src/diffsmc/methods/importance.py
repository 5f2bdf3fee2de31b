"""Importance sampling from a fitted mixture."""

import torch
from torch import Tensor

from diffsmc.methods.judgement import proposal
from diffsmc.methods.method import Monitor
from diffsmc.methods.passes import make_result, run_pass
from diffsmc.paths.importance import ImportancePath
from diffsmc.references.mixture import Mixture
from diffsmc.results.result import Result
from diffsmc.smc.adaptation import diagonal_mass
from diffsmc.smc.engine import Settings
from diffsmc.smc.moves import RWM
from diffsmc.smc.schedules import FixedSchedule
from diffsmc.targets.target import Target

__all__ = ["IMPORTANCE", "affordable", "heaviest", "sample_by_importance"]

IMPORTANCE = "importance sampling"
FEWEST = 8  # draws of a component


def sample_by_importance(
    target: Target,
    mixture: Mixture,
    num_islands: int,
    num_draws: int,
    *,
    generator: torch.Generator,
    monitor: Monitor,
) -> Result:
    """Sample by importance sampling from a mixture.

    Arguments:
        target: The target.
        mixture: Where draws come from.
        num_islands: Independent sets of draws.
        num_draws: Draws of each, each one evaluation; components that would get fewer than eight
            are left to the heavier ones.
        generator: Source of all draws.
        monitor: Told of the step.

    References:
        Owen & Zhou (2000), Safe and effective importance sampling, JASA 95.
    """
    path = ImportancePath(target, proposal(target, affordable(mixture, num_draws)))
    settings = Settings(RWM(), 0, ess_threshold=0.0, mass=diagonal_mass)
    done = run_pass(
        "run",
        path,
        FixedSchedule([0.0, 1.0]),
        settings,
        num_islands,
        num_draws,
        generator=generator,
        monitor=monitor,
    )
    particles = done.state.cloud.particles
    result = make_result([done], particles, True, done.state.log_weights.numel(), IMPORTANCE)
    return result._replace(strata=path.labels(num_draws)[0])


def affordable(mixture: Mixture, num_draws: int) -> Mixture:
    """Keep the heaviest components, eight draws each."""
    num = max(1, num_draws // FEWEST)
    if num >= len(mixture.weights):
        return mixture
    kept = mixture.weights.topk(num).indices
    weights = mixture.weights[kept]
    return Mixture(weights / weights.sum(), mixture.means[kept], mixture.factors[kept])


def heaviest(run: Result, num: int = 16) -> Tensor:
    """Give the draws of the largest weights, ``(num, D)``."""
    weights = run.log_weights.flatten()
    rows = weights.topk(min(num, len(weights))).indices
    return run.particles.flatten(0, 1)[rows]
