r"""What a target is: an unnormalised log-density with its gradient.

A target knows :math:`\log\gamma(x)` and :math:`\nabla\log\gamma(x)` on
:math:`\mathbb{R}^D`; its normalising constant :math:`Z = \int\gamma` is what the
samplers of this package estimate.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

__all__ = [
    "LogDensity",
    "NonFiniteLogDensityError",
    "Target",
    "checked_log_prob",
    "differentiate",
]


class NonFiniteLogDensityError(ValueError):
    """A log-density was NaN or ``+inf``: no weight can be made of it.

    Arguments:
        step: Step of the sampler, 0 being the start.
        island: Index of the island.
        particle: Index of the particle in its island.
        value: The offending log-density.
        point: Where it was evaluated, ``(D,)``.
    """

    def __init__(self, step: int, island: int, particle: int, value: float, point: Tensor) -> None:
        self.step, self.island, self.particle = step, island, particle
        self.value, self.point = value, point
        where = ", ".join(f"{x:.6g}" for x in point[:8].tolist()) + (
            ", ..." if len(point) > 8 else ""
        )
        super().__init__(
            f"log-density is {value} at step {step}, island {island}, particle {particle}, "
            f"x = [{where}]; -inf is allowed, NaN and +inf are not"
        )


class Target(nn.Module, ABC):
    r"""An unnormalised density :math:`\gamma` on :math:`\mathbb{R}^D`.

    Arguments:
        dim: Dimension :math:`D`.
        scale: Standard deviation of a centred Gaussian wide enough to start from.
        log_normalizer: :math:`\log Z` where it is known.
        names: Names of the coordinates; ``x[0]``, ``x[1]``... by default.
    """

    def __init__(
        self,
        dim: int,
        *,
        scale: float = 1.0,
        log_normalizer: float | None = None,
        names: list[str] | None = None,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.dim = dim
        self.scale = scale
        self.log_normalizer = log_normalizer
        self.names = [f"x[{i}]" for i in range(dim)] if names is None else names

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        r"""Give :math:`\log\gamma(x)`, ``(..., D)`` to ``(...)``."""

    @abstractmethod
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Give :math:`\log\gamma(x)`, ``(...)``, and its gradient, ``(..., D)``."""

    def score(self, x: Tensor) -> Tensor:
        r"""Give :math:`\nabla\log\gamma(x)` alone, which inner leapfrog steps need."""
        return self.log_prob_and_grad(x)[1]


def differentiate(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Give a log-density and its gradient by one reverse pass for all points.

    Arguments:
        log_prob: Log-density that treats each point alone.
        x: Points, ``(..., D)``.

    Returns:
        :math:`\log\gamma(x)`, ``(...)``, and :math:`\nabla\log\gamma(x)`, ``(..., D)``.
    """
    # a copy made outside inference mode, under which evaluation and prediction may run
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        value = log_prob(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), grad


def checked_log_prob(target: Target, x: Tensor) -> Tensor:
    r"""Give :math:`\log\gamma` of points, ``(N, D)`` to ``(N,)``, that must be a log-density.

    Raises:
        NonFiniteLogDensityError: A value is NaN or ``+inf``; the step is then 0.
    """
    value = target.log_prob(x)
    bad = (value.isnan() | (value == torch.inf)).nonzero()
    if len(bad):
        index = int(bad[0])
        raise NonFiniteLogDensityError(0, 0, index, float(value[index]), x[index])
    return value


class LogDensity(Target):
    r"""A target from a function, differentiated automatically.

    Arguments:
        function: Maps points ``(..., D)`` to :math:`\log\gamma`, ``(...)``.
        dim: Dimension :math:`D`.
        scale: Standard deviation of a centred Gaussian wide enough to start from.
        log_normalizer: :math:`\log Z` where it is known.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        dim: int,
        scale: float = 1.0,
        log_normalizer: float | None = None,
    ) -> None:
        super().__init__(dim, scale=scale, log_normalizer=log_normalizer)
        self.function = function

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.function(x)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return differentiate(self.function, x)
