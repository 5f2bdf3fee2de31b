r"""Geodesics from a point and a velocity, and what travels along them.

The method of Dormand and Prince, of fifth order with an error estimate of fourth, integrates
position, velocity and any vectors that are carried along in parallel,

.. math:: \dot z = v, \qquad \dot v = -\Gamma_z(v, v), \qquad \dot w = -\Gamma_z(v, w) ,

all curves at once, each with steps of its own.  The derivative of the end point with respect
to the initial velocity is the Jacobi field that starts at zero, :math:`J(1) = d\exp_z(v)\, w`;
with it a simplified Newton method turns the velocity of a boundary-value curve into the
logarithm of the very same exponential.

References:
    do Carmo (1992), Riemannian Geometry, chapters 3 and 5;
    Hairer, Norsett & Wanner (1993), Solving Ordinary Differential Equations I, section II.5.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.curvature import Connection, derivative

__all__ = ["Flow", "jacobi", "refine_velocity", "shoot"]

_ROUGH = 1e-4  # tolerance of Jacobi fields that only precondition
_FIRST, _SAFETY, _LEAST, _MOST = 0.1, 0.9, 0.2, 5.0  # first step; bounds of its change
_MAX_STEPS, _SHORTEST = 2000, 1e-9  # after which, and below which, a curve is given up
_ENOUGH = 3.0  # misses of so many tolerances are not corrected
_WEIGHTS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class Flow(NamedTuple):
    """A geodesic at one time.

    Arguments:
        position: ``(..., d)``; NaN where the integration did not arrive.
        velocity: ``(..., d)``.
        carried: Vectors transported in parallel, ``(..., k, d)``.
    """

    position: Tensor
    velocity: Tensor
    carried: Tensor


class _Progress(NamedTuple):
    state: Tensor
    rate: Tensor
    time: Tensor
    step: Tensor


def _rate(connection: Connection, state: Tensor) -> Tensor:
    """Time derivative of position, velocity and carried vectors, stacked ``(B, 2 + k, d)``."""
    velocity = state[:, 1]
    turned = connection(state[:, 0], velocity, state[:, 1:])
    return torch.cat([velocity.unsqueeze(1), -turned], 1)


def _combined(rates: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    total = torch.zeros_like(rates[0])
    for rate, weight in zip(rates, weights, strict=True):
        if weight:
            total = total + weight * rate
    return total


def _advance(connection: Connection, progress: _Progress, tolerance: float) -> _Progress:
    """One step of every curve, taken where its error is small enough."""
    step = torch.minimum(progress.step, 1 - progress.time)
    h = step[:, None, None]
    rates, trial = [progress.rate], progress.state
    for weights in _WEIGHTS:
        trial = progress.state + h * _combined(rates, weights)
        rates.append(_rate(connection, trial))
    missed = (h * _combined(rates, _ERROR)).detach().abs()
    size = 1 + torch.maximum(progress.state.detach().abs(), trial.detach().abs())
    error = (missed / (tolerance * size)).amax((1, 2)).nan_to_num(nan=torch.inf)
    taken = error <= 1
    change = (_SAFETY * error.clamp(min=1e-12) ** -0.2).clamp(_LEAST, _MOST)
    keep = taken[:, None, None]
    return _Progress(
        torch.where(keep, trial, progress.state),
        torch.where(keep, rates[-1], progress.rate),
        torch.where(taken, progress.time + step, progress.time),
        torch.where(progress.time + step >= 1, progress.step, step * change),
    )


def shoot(
    connection: Connection,
    z: Tensor,
    v: Tensor,
    carried: Tensor | None = None,
    *,
    tolerance: float = 1e-9,
) -> Flow:
    """The geodesic from ``z`` with velocity ``v``, after unit time.

    Arguments:
        connection: Christoffel symbols as a bilinear map, :func:`latentgeom.levi_civita`.
        z: Start, ``(..., d)``.
        v: Velocity, ``(..., d)``.
        carried: Vectors at ``z`` to transport, ``(..., k, d)``.
        tolerance: Error of a step, relative to ``1 + |x|`` in each coordinate.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if carried is None:
        carried = z.new_zeros(*z.shape[:-1], 0, z.shape[-1])
    stacked = torch.cat([torch.stack([z, v], -2), carried], -2)
    state = stacked.reshape(-1, *stacked.shape[-2:])
    zero = torch.zeros_like(state[:, 0, 0].detach())
    progress = _Progress(state, _rate(connection, state), zero, zero + _FIRST)
    for _ in range(_MAX_STEPS):
        progress = _advance(connection, progress, tolerance)
        if bool(((progress.time >= 1) | (progress.step < _SHORTEST)).all()):
            break
    arrived = (progress.time >= 1)[:, None, None]
    end = torch.where(arrived, progress.state, torch.nan).reshape(stacked.shape)
    return Flow(end[..., 0, :], end[..., 1, :], end[..., 2:, :])


def jacobi(connection: Connection, z: Tensor, v: Tensor, *, tolerance: float = 1e-9) -> Tensor:
    """Derivative of the exponential by the velocity, ``(..., d, d)``: Jacobi fields at time one.

    References:
        do Carmo (1992), Riemannian Geometry, chapter 5.
    """
    return derivative(lambda x: shoot(connection, z, x, tolerance=tolerance).position, v)


def refine_velocity(
    connection: Connection,
    a: Tensor,
    b: Tensor,
    velocity: Tensor,
    *,
    tolerance: float = 1e-9,
    num_corrections: int = 6,
) -> Tensor:
    """Solve ``exp_a(v) = b`` from a good first velocity, ``(..., d)``.

    The Jacobi fields come once and roughly, if at all: they only precondition, each
    correction gains the digits that they are right to.
    """
    slope = None
    for _ in range(num_corrections):
        miss = b - shoot(connection, a, velocity, tolerance=tolerance).position
        if bool((miss.abs() <= _ENOUGH * tolerance * (1 + b.abs())).all()):
            break
        if slope is None:
            slope = jacobi(connection, a, velocity, tolerance=_ROUGH)
        velocity = velocity + torch.linalg.solve(slope, miss)
    return velocity
