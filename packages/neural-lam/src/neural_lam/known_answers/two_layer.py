r"""Simulators whose dynamics are known exactly.

Two-layer quasi-geostrophic flow (Phillips 1954) on a doubly periodic beta plane
of side :math:`L`. Each layer :math:`i` conserves potential vorticity up to
friction and scale-selective dissipation,

.. math::
    \partial_t q_i + J(\psi_i, q_i) + U_i \partial_x q_i
        + (\beta + F (U_i - U_j)) \partial_x \psi_i
        = -\delta_{i2}\, r \nabla^2 \psi_2 - \nu (-\nabla^2)^4 q_i,
    \qquad q_i = \nabla^2 \psi_i + F (\psi_j - \psi_i),

with the upper layer first, :math:`F = 1 / (2 L_d^2)` for layers of equal depth
and deformation radius :math:`L_d`. It is solved pseudo-spectrally: products are
formed on the grid and dealiased with the 2/3 rule, so that without friction the
truncated equations conserve energy and potential enstrophy exactly; time steps
are fourth-order Runge-Kutta, followed by the exact solution of the dissipation.

References:
    Vallis, Atmospheric and Oceanic Fluid Dynamics (2017), chapters 5 and 9.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from neural_lam.shell.showing import in_a_line

__all__ = [
    "TwoLayerFlow",
    "energy",
    "invert",
    "perturbed_rest",
    "potential_enstrophy",
    "potential_vorticity",
    "refined",
    "simulate",
    "step",
    "streamfunction",
]


class TwoLayerFlow(NamedTuple):
    """Constants of the two-layer model; the defaults are a mid-latitude atmosphere.

    Arguments:
        num_points: Grid points a side.
        side: Length of the doubly periodic domain in m.
        beta: Gradient of the Coriolis parameter in 1/(m s).
        deformation_radius: Of the baroclinic mode, in m.
        upper_wind: Mean zonal wind of the upper layer in m/s.
        lower_wind: Mean zonal wind of the lower layer in m/s.
        friction: Ekman friction of the lower layer in 1/s.
        dissipation: Rate at the smallest resolved scale in 1/s.
        time_step: Of the integration, in s.

    References:
        Phillips (1954), Energy transformations and meridional circulations associated with simple
        baroclinic waves, doi.org/10.1111/j.2153-3490.1954.tb01123.x.
    """

    num_points: int = 128
    side: float = 1.28e7
    beta: float = 1.6e-11
    deformation_radius: float = 5.0e5
    upper_wind: float = 12.0
    lower_wind: float = 2.0
    friction: float = 2.0e-6
    dissipation: float = 1.0e-4
    time_step: float = 1800.0

    def __str__(self) -> str:
        return in_a_line(self)


class _Operators(NamedTuple):
    """Spectral operators on the half plane of a real transform, ``(N, N // 2 + 1)``."""

    i_k: Tensor
    i_l: Tensor
    k_squared: Tensor
    from_own: Tensor
    from_other: Tensor
    decay: Tensor
    dealias: Tensor
    f: float
    pv_gradient: Tensor
    wind: Tensor


def _operators(flow: TwoLayerFlow, like: Tensor) -> _Operators:
    n, real = flow.num_points, like.real.dtype
    spacing = flow.side / n
    wave = 2 * torch.pi * torch.fft.rfftfreq(n, spacing, dtype=real, device=like.device)
    full = 2 * torch.pi * torch.fft.fftfreq(n, spacing, dtype=real, device=like.device)
    k, l = wave[None, :].expand(n, -1), full[:, None].expand(-1, len(wave))
    cut = 2 / 3 * torch.pi / spacing
    dealias = ((k.abs() < cut) & (l.abs() < cut)).to(real)
    k_squared = k**2 + l**2
    decay = torch.exp(-flow.dissipation * flow.time_step * (k_squared / cut**2) ** 4)
    f = 0.5 / flow.deformation_radius**2
    determinant = k_squared * (k_squared + 2 * f)
    # The area mean is a gauge: only gradients of the streamfunction matter.
    inverse = torch.where(determinant > 0, -1 / determinant, 0.0)
    own, other = (k_squared + f) * inverse, f * inverse
    shear = f * (flow.upper_wind - flow.lower_wind)
    layers = [[[flow.beta + shear]], [[flow.beta - shear]]]
    wind = torch.tensor([[[flow.upper_wind]], [[flow.lower_wind]]], dtype=real, device=like.device)
    gradient = torch.tensor(layers, dtype=real, device=like.device)
    return _Operators(1j * k, 1j * l, k_squared, own, other, decay, dealias, f, gradient, wind)


def invert(q: Tensor, flow: TwoLayerFlow) -> Tensor:
    """Spectral streamfunction of a spectral potential vorticity, the mean set to zero.

    Arguments:
        q: Transform of both layers, ``(..., 2, N, N // 2 + 1)``.
        flow: Constants of the model.
    """
    return _invert(q, _operators(flow, q))


def _invert(q: Tensor, ops: _Operators) -> Tensor:
    return ops.from_own * q + ops.from_other * q.flip(-3)


def potential_vorticity(psi: Tensor, flow: TwoLayerFlow) -> Tensor:
    """Spectral potential vorticity of a spectral streamfunction, ``(..., 2, N, N // 2 + 1)``."""
    ops = _operators(flow, psi)
    return -ops.k_squared * psi + ops.f * (psi.flip(-3) - psi)


def _tendency(q: Tensor, ops: _Operators, friction: float) -> Tensor:
    psi = _invert(q, ops)
    fields = torch.stack((-ops.i_l * psi, ops.i_k * psi, q))
    u, v, vorticity = torch.fft.irfft2(fields, s=(q.shape[-2], q.shape[-2]))
    flux = torch.fft.rfft2(torch.stack(((u + ops.wind) * vorticity, v * vorticity)))
    advection = ops.i_k * flux[0] + ops.i_l * flux[1] + ops.pv_gradient * ops.i_k * psi
    drag = torch.zeros_like(q)
    drag[..., 1, :, :] = friction * ops.k_squared * psi[..., 1, :, :]
    tendency: Tensor = ops.dealias * (drag - advection)
    return tendency


def _runge_kutta(q: Tensor, ops: _Operators, flow: TwoLayerFlow) -> Tensor:
    h = flow.time_step
    k_1 = _tendency(q, ops, flow.friction)
    k_2 = _tendency(q + h / 2 * k_1, ops, flow.friction)
    k_3 = _tendency(q + h / 2 * k_2, ops, flow.friction)
    k_4 = _tendency(q + h * k_3, ops, flow.friction)
    return ops.decay * (q + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4))


def step(q: Tensor, flow: TwoLayerFlow) -> Tensor:
    """One time step of the spectral potential vorticity, ``(..., 2, N, N // 2 + 1)``."""
    return _runge_kutta(q, _operators(flow, q), flow)


def simulate(
    q: Tensor, flow: TwoLayerFlow, *, interval: float, num_states: int
) -> Iterator[Tensor]:
    """States at equal intervals, the given one first.

    Arguments:
        q: Spectral potential vorticity at the start, ``(..., 2, N, N // 2 + 1)``.
        flow: Constants of the model.
        interval: Between states in s, a whole number of time steps.
        num_states: How many states to give.

    Raises:
        ValueError: If the interval is no multiple of the time step.
        FloatingPointError: If the integration became non-finite (time step too long).

    References:
        Orszag (1971), On the elimination of aliasing in finite-difference schemes by filtering
        high-wavenumber components, Journal of the Atmospheric Sciences 28.
    """
    steps = round(interval / flow.time_step)
    if steps < 1 or abs(steps * flow.time_step - interval) > 1e-9 * interval:
        raise ValueError(
            f"interval must be a multiple of the time step {flow.time_step} s, got {interval}"
        )
    ops = _operators(flow, q)
    for state in range(num_states):
        if state > 0:
            for _ in range(steps):
                q = _runge_kutta(q, ops, flow)
            if not torch.isfinite(q.real).all():
                raise FloatingPointError(f"the flow became non-finite before state {state}")
        yield q


def streamfunction(q: Tensor, flow: TwoLayerFlow) -> Tensor:
    """Streamfunction on the grid in m²/s without the mean wind, ``(..., 2, N, N)``, y before x."""
    psi: Tensor = torch.fft.irfft2(invert(q, flow), s=(flow.num_points, flow.num_points))
    return psi


def perturbed_rest(
    flow: TwoLayerFlow,
    *,
    wind: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A random flow of waves 2 to 8 around the mean, as spectral potential vorticity.

    Arguments:
        flow: Constants of the model.
        wind: Root mean square of each wind component's perturbation in m/s.
        generator: Source of one normal number a grid point.
        dtype: Real type of the fields.
    """
    n = flow.num_points
    noise = torch.randn(2, n, n, dtype=dtype, generator=generator, device=generator.device)
    psi = torch.fft.rfft2(noise)
    ops = _operators(flow, psi)
    wavenumber = ops.k_squared.sqrt() * flow.side / (2 * torch.pi)
    psi = psi * ((wavenumber >= 2) & (wavenumber <= 8)) / (1 + ops.k_squared / (2 * ops.f))
    u = torch.fft.irfft2(ops.i_l * psi, s=(n, n))
    return potential_vorticity(psi * (wind / u.square().mean().sqrt()), flow)


def refined(q: Tensor, num_points: int) -> Tensor:
    """The same field on a finer grid: its spectrum, with the new waves zero.

    Arguments:
        q: Transform of a real field, ``(..., N, N // 2 + 1)`` with ``N`` even, without the
            shortest wave (dealiased).
        num_points: Points a side of the finer grid.

    Raises:
        ValueError: The grid isn't finer.
    """
    n = q.shape[-2]
    if num_points < n:
        raise ValueError(f"num_points must be at least {n}, got {num_points}")
    fine = q.new_zeros(*q.shape[:-2], num_points, num_points // 2 + 1)
    half = n // 2
    fine[..., :half, :half] = q[..., :half, :half]
    fine[..., num_points - half + 1 :, :half] = q[..., half + 1 :, :half]
    return fine * (num_points / n) ** 2


def energy(q: Tensor, flow: TwoLayerFlow) -> Tensor:
    r"""Mean energy per mass, :math:`-\tfrac12 \sum_i \langle \psi_i q_i \rangle`, ``(...)``."""
    n = flow.num_points
    vorticity = torch.fft.irfft2(q, s=(n, n))
    mean: Tensor = -0.5 * (streamfunction(q, flow) * vorticity).mean((-2, -1)).sum(-1)
    return mean


def potential_enstrophy(q: Tensor, flow: TwoLayerFlow) -> Tensor:
    r"""Potential enstrophy of each layer, :math:`\tfrac12 \langle q_i^2 \rangle`, ``(..., 2)``."""
    n = flow.num_points
    mean: Tensor = 0.5 * torch.fft.irfft2(q, s=(n, n)).square().mean((-2, -1))
    return mean
