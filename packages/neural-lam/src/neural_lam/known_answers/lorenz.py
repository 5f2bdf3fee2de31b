r"""Lorenz's model of 1996: a chaotic ring of sites, the smallest test of a forecast.

.. math:: \dot x_i = (x_{i+1} - x_{i-2})\, x_{i-1} - x_i + F.

Without forcing and damping it conserves :math:`\tfrac12 \sum x_i^2`; the state
:math:`x_i = F` is at rest, and linear waves about it grow at the rate

.. math:: \Re\,\lambda(k) = F (\cos k - \cos 2k) - 1, \qquad
          \Im\,\lambda(k) = F (\sin k + \sin 2k).

References:
    Lorenz (1996), Predictability: a problem partly solved.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["growth_rate", "lorenz_step", "lorenz_tendency", "simulate_lorenz"]


def lorenz_tendency(x: Tensor, forcing: float = 8.0) -> Tensor:
    """Time derivative of states ``(..., N)``."""
    return (x.roll(-1, -1) - x.roll(2, -1)) * x.roll(1, -1) - x + forcing


def lorenz_step(x: Tensor, time_step: float, forcing: float = 8.0) -> Tensor:
    """One step of the classical fourth-order Runge-Kutta method, ``(..., N)``."""
    k_1 = lorenz_tendency(x, forcing)
    k_2 = lorenz_tendency(x + time_step / 2 * k_1, forcing)
    k_3 = lorenz_tendency(x + time_step / 2 * k_2, forcing)
    k_4 = lorenz_tendency(x + time_step * k_3, forcing)
    return x + time_step / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)


def growth_rate(wavenumber: Tensor, forcing: float = 8.0) -> Tensor:
    """Complex rate of a wave on the state at rest, angles per site.

    References:
        Benettin et al. (1980), Lyapunov characteristic exponents for smooth dynamical systems,
        doi.org/10.1007/BF02128236.
    """
    k = wavenumber
    real = forcing * (torch.cos(k) - torch.cos(2 * k)) - 1
    return torch.complex(real, forcing * (torch.sin(k) + torch.sin(2 * k)))


def simulate_lorenz(
    x: Tensor, *, num_states: int, interval: float = 0.05, steps: int = 5, forcing: float = 8.0
) -> Iterator[Tensor]:
    """States at equal intervals, the given one first.

    Arguments:
        x: State at the start, ``(..., N)`` with at least 4 sites.
        num_states: How many states to give.
        interval: Between states; 0.05 is 6 hours where errors double as in the atmosphere.
        steps: Of the integration in an interval.
        forcing: :math:`F`.

    Raises:
        ValueError: There are too few sites.
        FloatingPointError: The integration became non-finite (steps too long).
    """
    if x.shape[-1] < 4:
        raise ValueError(f"Lorenz's ring needs at least 4 sites, got {x.shape[-1]}")
    for state in range(num_states):
        if state > 0:
            for _ in range(steps):
                x = lorenz_step(x, interval / steps, forcing)
            if not torch.isfinite(x).all():
                raise FloatingPointError(f"the ring became non-finite before state {state}")
        yield x
