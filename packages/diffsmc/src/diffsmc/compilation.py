r"""Trajectories compiled as one: L leapfrog steps, their target and their log-ratio.

Eager operations on small targets wait for memory and for the interpreter; one compiled
function fuses what isn't a matrix product. The noise is passed in, the inverse temperature
is a tensor, so that one compilation serves all levels. Random numbers are drawn outside, so a
compiled run differs from an eager one by rounding only.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .kernels import Cloud, Density, Score, trajectory

__all__ = ["CompiledTrajectory"]


class CompiledTrajectory:
    """A `trajectory` that ``torch.compile`` makes at its first call.

    Where that fails, for want of a C++ compiler say, a warning says so and the trajectory
    goes on uncompiled.

    Arguments:
        evaluate: Evaluates points of a path, with gradients.
        score: Gives the gradient of its log-density at an inverse temperature.
    """

    def __init__(self, evaluate: Callable[[Tensor], Cloud], score: Score) -> None:
        def run(
            cloud: Cloud,
            noise: Tensor,
            temperature: Tensor,
            factor: Tensor,
            step: Tensor,
            num_steps: int,
        ) -> tuple[Cloud, Tensor]:
            # a tensor in the place of a number: a number would be compiled in
            density = Density(evaluate, temperature, score)  # type: ignore[arg-type]
            return trajectory(cloud, noise, density, factor, step, num_steps)

        self._plain = run
        # targets must not use up one another's limit of recompilations; not in torch's types yet
        compiler: Any = torch.compile
        self._compiled: Any = compiler(run, isolate_recompiles=True)

    def __call__(
        self,
        cloud: Cloud,
        noise: Tensor,
        density: Density,
        factor: Tensor,
        step: Tensor,
        num_steps: int,
    ) -> tuple[Cloud, Tensor]:
        """Follow the trajectory from a cloud, as `trajectory` does."""
        temperature = torch.tensor(
            density.temperature, dtype=cloud.tilt.dtype, device=cloud.tilt.device
        )
        arguments = (cloud, noise, temperature, factor, step, num_steps)
        if self._compiled is None:
            return self._plain(*arguments)
        try:
            end, ratio = self._compiled(*arguments)
        except RuntimeError as error:
            # every failure of the compiler is one; a failure of the target comes again below
            self._compiled = None
            cause = str(error).strip().splitlines()[0]
            warnings.warn(f"trajectories run uncompiled: {cause}", stacklevel=2)
            return self._plain(*arguments)
        return Cloud(*end), ratio
