r"""Markov kernels that move particles under one density of a path.

A path has densities :math:`\pi_b \propto p(x)\,e^{b\,h(x)}`: a *base* with
:math:`\log p` and a *tilt* :math:`h`, with their gradients. Kernels work in the
coordinates of a mass :math:`(m, L)`, :math:`x = m + Ly`, with one step size
:math:`\epsilon` per island.

All gradient kernels are leapfrog steps

.. math::
    p \leftarrow p + \tfrac\epsilon2 L^\top\nabla\log\pi(x),\quad
    x \leftarrow x + \epsilon L p,\quad
    p \leftarrow p + \tfrac\epsilon2 L^\top\nabla\log\pi(x)

with :math:`p\sim N(0, I)` and :math:`\Delta = \log\pi(x') - \tfrac12|p'|^2 -
\log\pi(x) + \tfrac12|p|^2`: HMC accepts with probability :math:`1\wedge e^\Delta`,
MALA is one leapfrog step of it, and ULA takes every step and multiplies the weight
by :math:`e^\Delta`. Any vector field may stand for the gradient, since the leapfrog
map stays reversible and keeps volume. Steps are taken for :math:`r = L^{-\top}p`, whose
kicks need no product with :math:`L`; between its ends a trajectory asks for scores alone.

References:
    Neal, MCMC using Hamiltonian dynamics, 2011.
    Cotter, Roberts, Stuart & White, MCMC methods for functions, Statistical Science 2013.
    Heng, Bishop, Deligiannidis & Doucet, Controlled SMC, 2020 (weights of unadjusted moves).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.shell.showing import in_a_line
from diffsmc.smc.density import Cloud, Density, Mass, log_density, scale_by, trajectory

__all__ = [
    "HMC",
    "MALA",
    "PCN",
    "RWM",
    "ULA",
    "Move",
    "MoveInfo",
]

BLOCK = 65_536  # numbers in one array of a block: a few of them fill a second-level cache


class MoveInfo(NamedTuple):
    """Acceptance probabilities and log-weights, ``(R, N)``, and the points proposed."""

    acceptance: Tensor
    log_weights: Tensor
    proposal: Cloud

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _metropolis(
    old: Cloud, new: Cloud, log_ratio: Tensor, *, generator: torch.Generator
) -> tuple[Cloud, MoveInfo]:
    """Accept or reject; a NaN ratio, of a diverged proposal, is rejected."""
    log_ratio = torch.where(log_ratio.isnan(), -torch.inf, log_ratio)
    accepted = _uniform(log_ratio, generator).log() < log_ratio
    mixed = (
        torch.where(accepted if a.dim() == 2 else accepted[..., None], b, a)
        for a, b in zip(old, new, strict=True)
    )
    info = MoveInfo(log_ratio.clamp(max=0).exp(), torch.zeros_like(log_ratio), new)
    return Cloud(*mixed), info


def _check_acceptance(value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"target_acceptance must be between 0 and 1, got {value}")


class Move(ABC):
    """A kernel: final subclasses are the moves.

    ``uses_gradient`` tells whether clouds must carry gradients, ``num_evaluations``
    how many evaluations a step takes, ``target_acceptance`` what the step size is
    adapted to.
    """

    uses_gradient: bool = True
    num_evaluations: int = 1
    target_acceptance: float = 0.65

    __repr__ = __str__ = in_a_line

    @abstractmethod
    def initial_step(self, dim: int) -> float:
        """Give a step size for a standard Gaussian in ``dim`` dimensions."""

    @abstractmethod
    def step(
        self,
        cloud: Cloud,
        density: Density,
        mass: Mass,
        step_size: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Cloud, MoveInfo]:
        """Move all particles once; ``step_size`` is ``(R,)``."""


def _trajectory(
    cloud: Cloud,
    density: Density,
    mass: Mass,
    step: Tensor,
    num_leapfrogs: int,
    *,
    generator: torch.Generator,
) -> tuple[Cloud, Tensor]:
    """Follow a trajectory with fresh momenta.

    On a CPU many particles go block by block: what a block needs stays in its cache.
    """
    noise = _normal(cloud.particles, generator)
    step = step.to(noise.dtype).expand(*noise.shape[:2], 1)
    islands, num, dim = noise.shape
    block = max(1, BLOCK // (islands * dim))
    if noise.device.type != "cpu" or num <= block:
        return trajectory(cloud, noise, density, mass.factor, step, num_leapfrogs)
    columns = [torch.split(part, block, 1) for part in (*cloud, noise, step)]
    parts = [
        trajectory(Cloud(*part), kick, density, mass.factor, size, num_leapfrogs)
        for *part, kick, size in zip(*columns, strict=True)
    ]
    ends, ratios = zip(*parts, strict=True)
    return Cloud(*(torch.cat(part, 1) for part in zip(*ends, strict=True))), torch.cat(ratios, 1)


@dataclass(frozen=True, repr=False)
class HMC(Move):
    r"""Hamiltonian Monte Carlo with a step size drawn for every particle.

    Steps are uniform around the adapted one, or, with :math:`u` uniform,
    :math:`\epsilon e^{s(u - 1/2)}`: where modes have unequal widths one step size serves the
    widest and freezes the narrowest.

    Arguments:
        num_leapfrogs: Leapfrog steps.
        jitter: Steps are uniform in ``1 - jitter`` to ``1 + jitter`` of the step size.
        target_acceptance: What the step size is adapted to.
        spread: :math:`s`, the log of the ratio of the largest to the smallest step; above 0 it
            replaces the jitter.

    References:
        Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
    """

    num_leapfrogs: int = 10
    jitter: float = 0.4
    target_acceptance: float = 0.65
    spread: float = 0.0

    def __post_init__(self) -> None:
        _check_acceptance(self.target_acceptance)
        if self.num_leapfrogs < 1:
            raise ValueError(f"num_leapfrogs must be at least 1, got {self.num_leapfrogs}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {self.jitter}")
        if not 0 <= self.spread < math.inf:
            raise ValueError(f"spread must be at least 0 and finite, got {self.spread}")

    @property
    def num_evaluations(self) -> int:  # type: ignore[override]
        """Evaluations of a step."""
        return self.num_leapfrogs

    @override
    def initial_step(self, dim: int) -> float:
        return 0.8 / math.sqrt(math.sqrt(dim))

    @override
    def step(
        self,
        cloud: Cloud,
        density: Density,
        mass: Mass,
        step_size: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Cloud, MoveInfo]:
        u = 2 * _uniform(cloud.base, generator) - 1
        factor = torch.exp(0.5 * self.spread * u) if self.spread else 1 + self.jitter * u
        step = (step_size[:, None] * factor)[..., None]
        new, ratio = _trajectory(
            cloud, density, mass, step, self.num_leapfrogs, generator=generator
        )
        return _metropolis(cloud, new, ratio, generator=generator)


@dataclass(frozen=True, repr=False)
class MALA(Move):
    """Metropolis-adjusted Langevin: one leapfrog step and a Metropolis test.

    Arguments:
        target_acceptance: What the step size is adapted to.

    References:
        Roberts & Tweedie (1996), Exponential convergence of Langevin distributions, Bernoulli 2.
    """

    target_acceptance: float = 0.574

    def __post_init__(self) -> None:
        _check_acceptance(self.target_acceptance)

    @override
    def initial_step(self, dim: int) -> float:
        return 1.2 / math.cbrt(math.sqrt(dim))

    @override
    def step(
        self,
        cloud: Cloud,
        density: Density,
        mass: Mass,
        step_size: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Cloud, MoveInfo]:
        step = step_size[:, None, None]
        new, ratio = _trajectory(cloud, density, mass, step, 1, generator=generator)
        return _metropolis(cloud, new, ratio, generator=generator)


@dataclass(frozen=True, repr=False)
class ULA(Move):
    r"""Unadjusted Langevin, made exact by its weight :math:`e^\Delta`.

    A diverged step gets weight zero.

    Arguments:
        target_acceptance: Mean of :math:`1\wedge e^\Delta` that the step is adapted to.

    References:
        Heng et al. (2020), Controlled sequential Monte Carlo, Annals of Statistics 48,
        arXiv:1708.08396, for backward kernels that make it exact.
    """

    target_acceptance: float = 0.95

    def __post_init__(self) -> None:
        _check_acceptance(self.target_acceptance)

    @override
    def initial_step(self, dim: int) -> float:
        return 0.4 / math.sqrt(math.sqrt(dim))

    @override
    def step(
        self,
        cloud: Cloud,
        density: Density,
        mass: Mass,
        step_size: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Cloud, MoveInfo]:
        step = step_size[:, None, None]
        new, ratio = _trajectory(cloud, density, mass, step, 1, generator=generator)
        bad = ratio.isnan()
        ratio = torch.where(bad, -torch.inf, ratio)
        kept = (
            torch.where(bad if a.dim() == 2 else bad[..., None], a, b)
            for a, b in zip(cloud, new, strict=True)
        )
        return Cloud(*kept), MoveInfo(ratio.clamp(max=0).exp(), ratio, new)


@dataclass(frozen=True, repr=False)
class RWM(Move):
    """Random-walk Metropolis: needs no gradient.

    Arguments:
        target_acceptance: What the step size is adapted to.

    References:
        Roberts, Gelman & Gilks (1997), Weak convergence and optimal scaling of random walk
        Metropolis algorithms, Annals of Applied Probability 7.
    """

    target_acceptance: float = 0.234
    uses_gradient = False

    def __post_init__(self) -> None:
        _check_acceptance(self.target_acceptance)

    @override
    def initial_step(self, dim: int) -> float:
        return 2.38 / math.sqrt(dim)

    @override
    def step(
        self,
        cloud: Cloud,
        density: Density,
        mass: Mass,
        step_size: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Cloud, MoveInfo]:
        jump = step_size[:, None, None] * scale_by(mass.factor, _normal(cloud.particles, generator))
        new = density.evaluate(cloud.particles + jump)
        ratio = log_density(new, density.temperature) - log_density(cloud, density.temperature)
        return _metropolis(cloud, new, ratio, generator=generator)


@dataclass(frozen=True, repr=False)
class PCN(Move):
    r"""Preconditioned Crank-Nicolson: reversible for the Gaussian of the mass.

    :math:`x' = m + \sqrt{1-\epsilon^2}\,(x - m) + \epsilon L\xi` and :math:`\Delta =
    \log\frac{\pi(x')}{N(x';m,LL^\top)} - \log\frac{\pi(x)}{N(x;m,LL^\top)}`. The step
    size is kept below 0.99.

    Arguments:
        target_acceptance: What the step size is adapted to.

    References:
        Cotter et al. (2013), MCMC methods for functions, Statistical Science 28, arXiv:1202.0709.
    """

    target_acceptance: float = 0.4
    uses_gradient = False

    def __post_init__(self) -> None:
        _check_acceptance(self.target_acceptance)

    @override
    def initial_step(self, dim: int) -> float:
        return 0.5

    @override
    def step(
        self,
        cloud: Cloud,
        density: Density,
        mass: Mass,
        step_size: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Cloud, MoveInfo]:
        beta = step_size.clamp(max=0.99)[:, None, None]
        old_unit = _solve(mass, cloud.particles)
        unit = (1 - beta.square()).sqrt() * old_unit + beta * _normal(old_unit, generator)
        new = density.evaluate(mass.mean[:, None] + scale_by(mass.factor, unit))
        gaussian = 0.5 * (unit.square().sum(-1) - old_unit.square().sum(-1))
        change = log_density(new, density.temperature) - log_density(cloud, density.temperature)
        return _metropolis(cloud, new, change + gaussian, generator=generator)


def _solve(mass: Mass, x: Tensor) -> Tensor:
    centred = x - mass.mean[:, None]
    if mass.factor.dim() == 2:
        return centred / mass.factor[:, None]
    unit: Tensor = torch.linalg.solve_triangular(mass.factor.mT, centred, upper=True, left=False)
    return unit
