r"""What a target is: an unnormalised log-density with its gradient.

A target knows :math:`\log\gamma(x)` and :math:`\nabla\log\gamma(x)` on
:math:`\mathbb{R}^D`; its normalising constant :math:`Z = \int\gamma` is what the
samplers of this package estimate.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from diffsmc.targets.errors import NonFiniteLogDensityError

__all__ = ["LogDensity", "Scale", "Target", "differentiate", "proposal_log_prob", "tolerate"]

Scale = float | Sequence[float] | Sequence[Sequence[float]] | Tensor


class Target(nn.Module, ABC):
    r"""An unnormalised density :math:`\gamma` on :math:`\mathbb{R}^D`.

    Arguments:
        dim: Dimension :math:`D`.
        scale: Of a Gaussian wide enough to start from: its standard deviation, one for each
            coordinate, ``(D,)``, or the lower Cholesky factor of its covariance, ``(D, D)``.
        location: Mean of that Gaussian, ``(D,)``; zero by default.
        log_normalizer: :math:`\log Z` where it is known.
        names: Names of the coordinates; ``x[0]``, ``x[1]``... by default.
        log_concave: Whether :math:`\log\gamma` is known to be concave, so that no second mode
            can hide.
    """

    start_mean: Tensor
    start_factor: Tensor
    # coordinates that end at a bound, beyond which the density counts as zero: none by default
    bounded: Tensor | None
    bound: float = math.inf

    def __init__(
        self,
        dim: int,
        *,
        scale: Scale = 1.0,
        location: Sequence[float] | Tensor | None = None,
        log_normalizer: float | None = None,
        names: list[str] | None = None,
        log_concave: bool = False,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if names is not None and len(names) != dim:
            raise ValueError(f"names must be {dim}, one a coordinate, got {len(names)}")
        self.dim = dim
        self.log_normalizer = log_normalizer
        self.log_concave = log_concave
        self.names = [f"x[{i}]" for i in range(dim)] if names is None else names
        factor = _start_factor(scale, dim)
        self.scale = scale if isinstance(scale, int | float) else _typical(factor)
        mean = torch.zeros(dim, dtype=torch.float64, device="cpu")
        if location is not None:
            mean = torch.as_tensor(location, dtype=torch.float64, device="cpu")
        if mean.shape != (dim,) or not bool(mean.isfinite().all()):
            raise ValueError(f"location must be {dim} finite numbers, got {location}")
        self.register_buffer("start_mean", mean, persistent=False)
        self.register_buffer("start_factor", factor, persistent=False)
        self.register_buffer("bounded", None, persistent=False)

    def __repr__(self) -> str:
        known = "" if self.log_normalizer is None else f", log Z = {self.log_normalizer:.6g}"
        plural = "" if self.dim == 1 else "s"
        return f"{type(self).__name__} in {self.dim} dimension{plural}{known}"

    def functions(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Give the user's functions of points that must each be a log-density, by name."""
        return {f"log-density of {type(self).__name__}": self.log_prob}

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        r"""Give :math:`\log\gamma(x)`, ``(..., D)`` to ``(...)``."""

    @abstractmethod
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Give :math:`\log\gamma(x)`, ``(...)``, and its gradient, ``(..., D)``."""

    def score(self, x: Tensor) -> Tensor:
        r"""Give :math:`\nabla\log\gamma(x)` alone, which inner leapfrog steps need."""
        return self.log_prob_and_grad(x)[1]


def _start_factor(scale: Scale, dim: int) -> Tensor:
    """Give the lower Cholesky factor of the start, ``(D, D)``.

    Raises:
        ValueError: The scale has another shape, or isn't positive.
    """
    given = torch.as_tensor(scale, dtype=torch.float64, device="cpu").detach().clone()
    if given.shape not in {(), (dim,), (dim, dim)}:
        raise ValueError(
            f"scale must be a number, {dim} numbers or a ({dim}, {dim}) Cholesky factor, got "
            f"shape {tuple(given.shape)}"
        )
    factor = given if given.dim() == 2 else torch.diag(given.expand(dim))
    diagonal = factor.diagonal()
    if not bool((diagonal > 0).all()) or not bool(factor.isfinite().all()):
        raise ValueError(f"scale must be positive and finite, got {scale}")
    if not torch.equal(factor, factor.tril()):
        raise ValueError("scale must be a lower Cholesky factor: it has numbers above its diagonal")
    return factor


def _typical(factor: Tensor) -> float:
    """Give the geometric mean of the standard deviations."""
    return math.exp(float(factor.square().sum(-1).log().mean()) / 2)


def differentiate(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Give a log-density and its gradient by one reverse pass for all points.

    A function that is constant in pieces, such as an indicator, has gradient zero.

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
        if not value.requires_grad:
            return value.detach(), torch.zeros_like(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    return value.detach(), torch.zeros_like(leaf) if grad is None else grad


def proposal_log_prob(target: Target, x: Tensor) -> Tensor:
    r"""Give :math:`\log\gamma` of proposed points, ``(N, D)`` to ``(N,)``, ``-inf`` for NaN.

    Raises:
        NonFiniteLogDensityError: A value is ``+inf``, or most are NaN; the step is then 0.
    """
    value = target.log_prob(x)
    bad = value == torch.inf
    if 2 * int(value.isnan().sum()) > len(value):
        bad = bad | value.isnan()
    if bool(bad.any()):
        index = int(bad.nonzero()[0])
        raise NonFiniteLogDensityError(0, 0, index, float(value[index]), x[index])
    return value.nan_to_num(nan=-torch.inf, neginf=-torch.inf)


def tolerate(
    function: Callable[[Tensor], Tensor], errors: tuple[type[Exception], ...], x: Tensor
) -> Tensor:
    """Evaluate points, ``(..., D)``, those alone at which an exception is raised being ``-inf``.

    Where a batch fails its halves are tried, so that k bad ones of N points take about
    k log N calls.
    """
    try:
        return function(x)
    except errors:
        flat = x.reshape(-1, x.shape[-1])
        if len(flat) == 1:
            return torch.full_like(x[..., 0], -torch.inf)
        half = len(flat) // 2
        parts = [tolerate(function, errors, part) for part in (flat[:half], flat[half:])]
        return torch.cat(parts).reshape(x.shape[:-1])


class LogDensity(Target):
    r"""A target from a function, differentiated automatically.

    Arguments:
        function: Maps points ``(..., D)`` to :math:`\log\gamma`, ``(...)``.
        dim: Dimension :math:`D`.
        scale: Of a Gaussian wide enough to start from: its standard deviation, one for each
            coordinate, ``(D,)``, or the lower Cholesky factor of its covariance, ``(D, D)``.
        log_normalizer: :math:`\log Z` where it is known.
        vectorize: Whether the function takes one point, ``(D,)`` to a scalar; ``torch.func.vmap``
            gives it the others.
        reject: Exceptions by which the function says that a point has density zero.
        location: Mean of the start, ``(D,)``; zero by default.
        names: Names of the coordinates.
        log_concave: Whether the function is known to be concave: then no second mode can hide.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        dim: int,
        scale: Scale = 1.0,
        log_normalizer: float | None = None,
        *,
        vectorize: bool = False,
        reject: tuple[type[Exception], ...] = (),
        location: Sequence[float] | Tensor | None = None,
        names: list[str] | None = None,
        log_concave: bool = False,
    ) -> None:
        super().__init__(
            dim,
            scale=scale,
            location=location,
            log_normalizer=log_normalizer,
            names=names,
            log_concave=log_concave,
        )
        if not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}")
        self.function = function
        self.vectorize, self.reject = vectorize, tuple(reject)

    @override
    def functions(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {f"log-density {getattr(self.function, '__name__', 'function')}": self.log_prob}

    def _evaluate(self, x: Tensor) -> Tensor:
        if not self.vectorize:
            return self.function(x)
        flat = x.reshape(-1, x.shape[-1])
        try:
            value = torch.func.vmap(self.function)(flat)
        except self.reject:
            # vmap has no exceptions of single points: torch's batched factorisations raise for all
            value = torch.stack([self._evaluate_one(point) for point in flat])
        return value.reshape(x.shape[:-1] + value.shape[1:])

    def _evaluate_one(self, point: Tensor) -> Tensor:
        try:
            return self.function(point)
        except self.reject:
            return point.new_full((), -torch.inf)

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return tolerate(self._evaluate, self.reject, x) if self.reject else self._evaluate(x)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return differentiate(self.log_prob, x)
