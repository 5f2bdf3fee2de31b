"""Where runs start: a posterior from its prior, unless it says where."""

import copy

import torch

from diffsmc.methods.climbing import find_hills
from diffsmc.methods.judgement import fit_hills
from diffsmc.references.gaussian import GaussianReference, fit_gaussian
from diffsmc.targets.posterior import Posterior
from diffsmc.targets.target import Target

__all__ = ["start_from", "started"]

MOST_DIMENSIONS = 200
PRIOR_ESS = 0.02  # of the draws from which a Gaussian is fitted to the prior
INFLATION = 1.1  # of its standard deviations


def start_from(target: Target, start: GaussianReference) -> Target:
    """Give a target that starts elsewhere; the one given stays as it is."""
    moved = copy.copy(target)
    # a module's shallow copy shares its table of buffers
    moved.__dict__["_buffers"] = dict(target.__dict__["_buffers"])
    moved.start_mean, moved.start_factor = start.mean, start.factor
    return moved


def started(target: Target, *, generator: torch.Generator) -> Target:
    """Give a target whose start is fitted to its prior, where it has one and says no other.

    The prior costs no likelihood: its Gaussian comes from Laplace's mixture at its modes, refitted
    to weighted draws. A prior without a mode or of infinite variance leaves the start as it is.
    """
    if not isinstance(target, Posterior) or not target.starts_from_prior:
        return target
    if target.dim > MOST_DIMENSIONS:
        return target
    prior = target.prior()
    with torch.no_grad():
        hills = find_hills(prior, generator=generator, num_starts=32, most_starts=64)
        fitted = fit_hills(prior, hills, 0.1, budget=30_000, generator=generator)
    if fitted is None or fitted.judged.ess < PRIOR_ESS:
        return target
    draws = fitted.draws
    return start_from(target, fit_gaussian(draws.particles, draws.tilt, INFLATION))
