"""One line from a log-density to a result."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffsmc.methods.automatic import Automatic
from diffsmc.methods.method import Method, Monitor
from diffsmc.methods.progress import progress_bar, report_to
from diffsmc.results.result import Result
from diffsmc.shell.randomness import keyed_generator
from diffsmc.targets.target import LogDensity, Scale, Target

__all__ = ["as_target", "check_seed", "sample"]


def check_seed(seed: int) -> int:
    """Give a seed that generators take.

    Raises:
        ValueError: It is negative or too large.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
    return seed


def as_target(
    target: Target | Callable[[Tensor], Tensor], dim: int | None, scale: Scale | None
) -> Target:
    """Give a target for a function of points, or the target itself.

    Raises:
        ValueError: The dimension of a function isn't given, or contradicts the target's.
    """
    if isinstance(target, Target):
        if dim is not None and dim != target.dim:
            raise ValueError(f"dim must be the target's {target.dim}, got {dim}")
        if scale is not None:
            raise ValueError("scale is the target's own: give it to its constructor")
        return target
    if not callable(target):
        raise ValueError(f"target must be a Target or a function, got {type(target).__name__}")
    if dim is None:
        raise ValueError("dim is needed: the number of coordinates of a function's points")
    return LogDensity(target, dim, 1.0 if scale is None else scale)


def sample(
    target: Target | Callable[[Tensor], Tensor],
    dim: int | None = None,
    *,
    seed: int = 0,
    method: Method | None = None,
    num_islands: int = 8,
    num_particles: int = 1000,
    scale: Scale | None = None,
    budget: int | None = None,
    max_evaluations: int | None = None,
    progress: bool = True,
) -> Result:
    """Sample a target, or a log-density of points.

    Arguments:
        target: A target such as `Posterior`, or a function of points ``(..., D)`` to ``(...)``.
        dim: Dimension, where the target is a function.
        seed: Seed of all draws.
        method: How to sample; by default what the density shows decides.
        num_islands: Independent runs, from which the interval comes.
        num_particles: Particles of each.
        scale: Standard deviation of a Gaussian wide enough to start from, where the target is a
            function.
        budget: Evaluations that the default is to get along with.
        max_evaluations: The run fails that needs more.
        progress: Whether a bar is shown.
    """
    if budget is not None and method is not None:
        raise ValueError("budget is of the default method: give it to Automatic(budget=...)")
    chosen = as_target(target, dim, scale)
    generator = keyed_generator(check_seed(seed), device=chosen.start_mean.device)
    runs = Automatic(budget=budget) if method is None else method
    with torch.no_grad(), progress_bar(progress) as bar:
        return runs.run(
            chosen,
            num_islands,
            num_particles,
            generator=generator,
            monitor=Monitor(report_to(bar)),
            max_evaluations=max_evaluations,
        )
