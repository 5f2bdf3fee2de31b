r"""Leapfrog steps compiled: kick, target and drift in one function.

Eager operations on small targets wait for memory and for the interpreter; a compiled step
fuses what isn't a matrix product. One step is compiled and called L times: a compiler that is
given all of them as one merges elementwise targets into a single loop and computes their
scores again and again. The inverse temperature is a tensor, so that one compilation serves all
levels. Random numbers are drawn outside, so a compiled run differs from an eager one by
rounding only.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from diffsmc.smc.density import Score, kick_and_drift

__all__ = ["CompiledLeapfrog"]


class CompiledLeapfrog:
    """Leapfrog steps that ``torch.compile`` makes at the first call.

    Where that fails, for want of a C++ compiler say, a warning says so and the steps go on
    uncompiled.

    Arguments:
        score: Gives the gradient of a path's log-density at an inverse temperature.
    """

    def __init__(self, score: Score) -> None:
        def step(
            x: Tensor, r: Tensor, size: Tensor, spread: Tensor, temperature: Tensor
        ) -> tuple[Tensor, Tensor]:
            return kick_and_drift(x, r, size, spread, score(x, temperature))

        self._plain = step
        # targets must not use up one another's limit of recompilations; not in torch's types yet
        compiler: Any = torch.compile
        self._compiled: Any = compiler(step, isolate_recompiles=True)

    def __call__(
        self,
        x: Tensor,
        r: Tensor,
        size: Tensor,
        spread: Tensor,
        temperature: float,
        num_steps: int,
    ) -> tuple[Tensor, Tensor]:
        """Kick and drift ``num_steps`` times, as `leapfrog` does between its ends.

        Arguments:
            x: Points, ``(R, N, D)``.
            r: Momenta, ``(R, N, D)``.
            size: Step sizes, ``(R, N, 1)``.
            spread: Covariance of the mass, ``(R, D, D)``, or its diagonal, ``(R, 1, D)``.
            temperature: Inverse temperature.
            num_steps: Steps.
        """
        level = torch.tensor(temperature, dtype=x.dtype, device=x.device)
        for _ in range(num_steps):
            x, r = self._step(x, r, size, spread, level)
        return x, r

    def _step(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        if self._compiled is None:
            return self._plain(*arguments)
        try:
            x, r = self._compiled(*arguments)
        except RuntimeError as error:
            # every failure of the compiler is one; a failure of the target comes again below
            self._compiled = None
            cause = str(error).strip().splitlines()[0]
            warnings.warn(f"leapfrog steps run uncompiled: {cause}", stacklevel=4)
            return self._plain(*arguments)
        return x, r
