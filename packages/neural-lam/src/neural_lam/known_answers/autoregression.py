r"""A linear-Gaussian field on a periodic grid, whose forecasts are known in closed form.

Each Fourier mode :math:`k` is its own autoregression,

.. math:: \hat x_{t+1}(k) = a(k)\, e^{-i k \cdot u}\, \hat x_t(k) + \hat\varepsilon_t(k),
    \qquad E|\hat\varepsilon(k)|^2 = (1 - a(k)^2)\, s(k),

with damping :math:`a(k) = e^{-\nu |k|^2}\, a_0`, advection by :math:`u` grid points a step and the
stationary spectrum :math:`s(k) \propto (1 + \ell^2 |k|^2)^{-2}`, of unit variance at a point. Hence
:math:`x_{t+l} \mid x_t` is Gaussian with mean :math:`A^l x_t` and the covariance of the spectrum
:math:`(1 - a^{2l}) s`, the same at every point; its marginal gives the CRPS of the ideal forecast.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "GaussianField",
    "forecast_distribution",
    "gaussian_crps",
    "ideal_crps",
    "simulate_field",
]


class GaussianField(NamedTuple):
    r"""Constants of the field.

    Arguments:
        shape: Rows and columns of the periodic grid, even.
        length: Correlation length :math:`\ell` in grid points.
        memory: Damping :math:`a_0` of the largest scale in a step, below 1.
        diffusion: :math:`\nu` in squared grid points.
        velocity: Rows and columns that the field moves in a step.
    """

    shape: tuple[int, int] = (32, 32)
    length: float = 3.0
    memory: float = 0.95
    diffusion: float = 0.1
    velocity: tuple[float, float] = (0.4, 1.0)


def _modes(field: GaussianField) -> tuple[Tensor, Tensor, Tensor]:
    """Damping, phase factor and spectrum of each mode of the half plane, in double precision."""
    rows, columns = field.shape
    k_y = 2 * torch.pi * torch.fft.fftfreq(rows, dtype=torch.float64)[:, None]
    k_x = 2 * torch.pi * torch.fft.rfftfreq(columns, dtype=torch.float64)[None]
    squared = k_y**2 + k_x**2
    damping = field.memory * torch.exp(-field.diffusion * squared)
    angle = k_y * field.velocity[0] + k_x * field.velocity[1]
    # The shortest waves are their own conjugates: a fraction of a step can't move them.
    shortest = (k_y.abs() > math.pi - 1e-9) | (k_x.abs() > math.pi - 1e-9)
    phase = torch.where(shortest, 1.0, torch.polar(torch.ones_like(angle), -angle))
    spectrum = torch.where(shortest, 0.0, (1 + field.length**2 * squared) ** -2)
    # Modes of the inner columns stand for two.
    weight = torch.full_like(spectrum, 2.0)
    weight[:, 0] = weight[:, -1] = 1
    return damping, phase, spectrum / (weight * spectrum).sum()


def _noise(
    field: GaussianField, spectrum: Tensor, batch: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Transform of noise of a spectrum, ``(*batch, N, M // 2 + 1)``."""
    white = torch.randn(*batch, *field.shape, generator=generator, dtype=torch.float64)
    # White noise has the power N M in each mode; a field of spectrum s has (N M)^2 s.
    noise: Tensor = torch.fft.rfft2(white) * (spectrum * math.prod(field.shape)).sqrt()
    return noise


def simulate_field(
    field: GaussianField, num_states: int, *, batch: int = 1, generator: torch.Generator
) -> Tensor:
    """Stationary series, ``(batch, num_states, rows, columns)``.

    Arguments:
        field: Constants.
        num_states: Length of each series.
        batch: Independent series.
        generator: Source of one normal number a point and state.

    Raises:
        ValueError: The shape is odd, or the memory isn't in [0, 1).
    """
    if any(size % 2 for size in field.shape) or not 0 <= field.memory < 1:
        raise ValueError(f"expected an even shape and a memory in [0, 1), got {field}")
    damping, phase, spectrum = _modes(field)
    state = _noise(field, spectrum, (batch,), generator)
    states = [state]
    for _ in range(num_states - 1):
        noise = _noise(field, (1 - damping**2) * spectrum, (batch,), generator)
        state = damping * phase * state + noise
        states.append(state)
    series: Tensor = torch.fft.irfft2(torch.stack(states, 1), s=field.shape)
    return series


def forecast_distribution(
    field: GaussianField, state: Tensor, num_steps: int
) -> tuple[Tensor, Tensor]:
    """The forecast given a state: its means, and the standard deviation at each point.

    Arguments:
        field: Constants.
        state: ``(..., rows, columns)``.
        num_steps: Lead times.

    Returns:
        Means ``(num_steps, ..., rows, columns)`` and standard deviations ``(num_steps,)``.
    """
    damping, phase, spectrum = _modes(field)
    transformed = torch.fft.rfft2(state.double())
    means, deviations = [], []
    weight = torch.full_like(spectrum, 2.0)
    weight[:, 0] = weight[:, -1] = 1
    for lead in range(1, num_steps + 1):
        means.append(torch.fft.irfft2((damping * phase) ** lead * transformed, s=field.shape))
        deviations.append((weight * (1 - damping ** (2 * lead)) * spectrum).sum().sqrt())
    return torch.stack(means), torch.stack(deviations)


def gaussian_crps(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    r"""CRPS of a Gaussian, :math:`\sigma [z (2\Phi(z) - 1) + 2\varphi(z) - \pi^{-1/2}]`.

    References:
        Gneiting & Raftery (2007), equation 21.
    """
    z = (truth - mean) / std
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return std * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def ideal_crps(field: GaussianField, num_steps: int) -> Tensor:
    r"""Expected CRPS of the ideal forecast, :math:`\sigma_l / \sqrt\pi`, ``(num_steps,)``.

    References:
        Gneiting & Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
        doi.org/10.1198/016214506000001437.
    """
    deviations = forecast_distribution(field, torch.zeros(field.shape), num_steps)[1]
    return deviations / math.sqrt(math.pi)
