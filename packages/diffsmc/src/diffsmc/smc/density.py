r"""One density of a path, particles evaluated under it, and leapfrog steps along it.

A path has densities :math:`\pi_b \propto p(x)\,e^{b\,h(x)}`: a *base* with :math:`\log p` and a
*tilt* :math:`h`, with their gradients. Steps

.. math::
    p \leftarrow p + \tfrac\epsilon2 L^\top\nabla\log\pi(x),\quad
    x \leftarrow x + \epsilon L p,\quad
    p \leftarrow p + \tfrac\epsilon2 L^\top\nabla\log\pi(x)

are taken for :math:`r = L^{-\top}p`, whose kicks need no product with :math:`L`; between its ends
a trajectory asks for scores alone.

References:
    Neal, MCMC using Hamiltonian dynamics, 2011.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.shell.showing import in_a_line

__all__ = [
    "Cloud",
    "Density",
    "Mass",
    "Score",
    "kick_and_drift",
    "leapfrog",
    "log_density",
    "scale_by",
    "trajectory",
]


class Cloud(NamedTuple):
    """Particles, ``(R, N, D)``, with base and tilt, ``(R, N)``, and their gradients."""

    particles: Tensor
    base: Tensor
    tilt: Tensor
    base_grad: Tensor
    tilt_grad: Tensor

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


Score = Callable[[Tensor, float | Tensor], Tensor]


class Density(NamedTuple):
    """One density of a path: how to evaluate points, and the factor of the tilt.

    ``score`` gives the gradient of the log-density alone, ``score(x, temperature)``, where
    that costs less than ``evaluate``; ``inner`` takes the leapfrog steps between a trajectory's
    ends, compiled.
    """

    evaluate: Callable[[Tensor], Cloud]
    temperature: float
    score: Score | None = None
    inner: Callable[[Tensor, Tensor, Tensor, Tensor, float, int], tuple[Tensor, Tensor]] | None = (
        None
    )

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


class Mass(NamedTuple):
    """Coordinates of a move: centre, ``(R, D)``, and factor, ``(R, D, D)`` or ``(R, D)``.

    A factor ``(R, D)`` is a diagonal.
    """

    mean: Tensor
    factor: Tensor

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


def log_density(cloud: Cloud, temperature: float | Tensor) -> Tensor:
    r"""Give :math:`\log p + b h`, where an infinite tilt counts only for :math:`b > 0`."""
    if isinstance(temperature, float) and temperature == 0:
        return cloud.base
    return cloud.base + temperature * cloud.tilt


def _score(cloud: Cloud, temperature: float | Tensor) -> Tensor:
    if isinstance(temperature, float) and temperature == 0:
        return cloud.base_grad
    return cloud.base_grad + temperature * cloud.tilt_grad


def scale_by(factor: Tensor, vectors: Tensor) -> Tensor:
    """Apply L to vectors, ``(R, N, D)``."""
    return vectors * factor[:, None] if factor.dim() == 2 else vectors @ factor.mT


def _scale_transposed(factor: Tensor, vectors: Tensor) -> Tensor:
    return vectors * factor[:, None] if factor.dim() == 2 else vectors @ factor


def _unscale_transposed(factor: Tensor, vectors: Tensor) -> Tensor:
    """Apply the inverse of L transposed."""
    if factor.dim() == 2:
        return vectors / factor[:, None]
    solved: Tensor = torch.linalg.solve_triangular(factor, vectors, upper=False, left=False)
    return solved


def _covariance(factor: Tensor) -> Tensor:
    r"""Give :math:`LL^\top`, ``(R, D, D)``, or its diagonal, ``(R, 1, D)``."""
    return factor.square()[:, None] if factor.dim() == 2 else factor @ factor.mT


def _drift(covariance: Tensor, r: Tensor) -> Tensor:
    return r * covariance if covariance.shape[-2] == 1 else r @ covariance


def kick_and_drift(
    x: Tensor, r: Tensor, step: Tensor, covariance: Tensor, score: Tensor
) -> tuple[Tensor, Tensor]:
    """Kick momenta by a score and let points drift: an inner leapfrog step, for compilers."""
    r = torch.addcmul(r, step, score)
    return torch.addcmul(x, step, _drift(covariance, r)), r


def leapfrog(
    cloud: Cloud, momentum: Tensor, density: Density, factor: Tensor, step: Tensor, num_steps: int
) -> tuple[Cloud, Tensor]:
    """Take leapfrog steps of size ``step``, ``(R, N, 1)``, in the coordinates of ``factor``."""
    temperature, covariance = density.temperature, _covariance(factor)
    r = _unscale_transposed(factor, momentum)
    r = torch.addcmul(r, step, _score(cloud, temperature), value=0.5)
    x = torch.addcmul(cloud.particles, step, _drift(covariance, r))
    if density.inner is not None:
        x, r = density.inner(x, r, step, covariance, temperature, num_steps - 1)
    else:
        # x and r are fresh tensors, so they may be written to
        for _ in range(num_steps - 1):
            r.addcmul_(step, _score_at(density, x))
            x.addcmul_(step, _drift(covariance, r))
    new = density.evaluate(x)
    r.addcmul_(step, _score(new, temperature), value=0.5)
    return new, _scale_transposed(factor, r)


def _score_at(density: Density, x: Tensor) -> Tensor:
    if density.score is None:
        return _score(density.evaluate(x), density.temperature)
    return density.score(x, density.temperature)


def trajectory(
    cloud: Cloud, noise: Tensor, density: Density, factor: Tensor, step: Tensor, num_steps: int
) -> tuple[Cloud, Tensor]:
    r"""Give the end of a Hamiltonian trajectory and its log-ratio :math:`\Delta`, ``(R, N)``.

    Arguments:
        cloud: Where it starts.
        noise: Momenta, standard normal, ``(R, N, D)``.
        density: What it follows.
        factor: Factor of the mass.
        step: Step sizes, ``(R, N, 1)``.
        num_steps: Leapfrog steps.
    """
    new, end = leapfrog(cloud, noise, density, factor, step, num_steps)
    kinetic = 0.5 * (noise.square().sum(-1) - end.square().sum(-1))
    temperature = density.temperature
    return new, log_density(new, temperature) - log_density(cloud, temperature) + kinetic
