r"""Geodesics from a point and a velocity, and what travels along them.

The classical Runge-Kutta method of fourth order integrates position, velocity and any
vectors that are carried along in parallel,

.. math:: \dot z = v, \qquad \dot v = -\Gamma_z(v, v), \qquad \dot w = -\Gamma_z(v, w) .

The derivative of the end point with respect to the initial velocity is the Jacobi field
that starts at zero, :math:`J(1) = d\exp_z(v)\, w`; with it a simplified Newton method turns
the velocity of a boundary-value curve into the logarithm of the very same exponential.

References:
    do Carmo (1992), Riemannian Geometry, chapters 3 and 5.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.curvature import Field, christoffel, derivative

__all__ = ["Flow", "jacobi", "refine_velocity", "shoot"]


_JACOBI_STEPS = 8


class Flow(NamedTuple):
    """A geodesic at one time.

    Arguments:
        position: ``(..., d)``.
        velocity: ``(..., d)``.
        carried: Vectors transported in parallel, ``(..., k, d)``.
    """

    position: Tensor
    velocity: Tensor
    carried: Tensor


def _rate(metric_tensor: Field, flow: Flow) -> Flow:
    gamma = christoffel(metric_tensor, flow.position)
    turn = torch.einsum("...lij,...i->...lj", gamma, flow.velocity)
    velocity = -(turn @ flow.velocity.unsqueeze(-1)).squeeze(-1)
    return Flow(flow.velocity, velocity, -flow.carried @ turn.mT)


def _moved(flow: Flow, rate: Flow, step: float) -> Flow:
    return Flow(*(x + step * dx for x, dx in zip(flow, rate, strict=True)))


def _runge_kutta(metric_tensor: Field, flow: Flow, step: float) -> Flow:
    k1 = _rate(metric_tensor, flow)
    k2 = _rate(metric_tensor, _moved(flow, k1, step / 2))
    k3 = _rate(metric_tensor, _moved(flow, k2, step / 2))
    k4 = _rate(metric_tensor, _moved(flow, k3, step))
    mean = Flow(*((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)))
    return _moved(flow, mean, step)


def shoot(
    metric_tensor: Field,
    z: Tensor,
    v: Tensor,
    carried: Tensor | None = None,
    *,
    num_steps: int = 64,
) -> Flow:
    """The geodesic from ``z`` with velocity ``v``, after unit time.

    Arguments:
        metric_tensor: Field ``(..., d) -> (..., d, d)``.
        z: Start, ``(..., d)``.
        v: Velocity, ``(..., d)``.
        carried: Vectors at ``z`` to transport, ``(..., k, d)``.
        num_steps: Runge-Kutta steps; the error is of their fourth power.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if carried is None:
        carried = z.new_zeros(*z.shape[:-1], 0, z.shape[-1])
    flow = Flow(z, v, carried)
    for _ in range(num_steps):
        flow = _runge_kutta(metric_tensor, flow, 1 / num_steps)
    return flow


def jacobi(metric_tensor: Field, z: Tensor, v: Tensor, *, num_steps: int = 64) -> Tensor:
    """Derivative of the exponential by the velocity, ``(..., d, d)``: Jacobi fields at time one."""
    return derivative(lambda x: shoot(metric_tensor, z, x, num_steps=num_steps).position, v)


def refine_velocity(
    metric_tensor: Field,
    a: Tensor,
    b: Tensor,
    velocity: Tensor,
    *,
    num_steps: int = 64,
    num_corrections: int = 3,
) -> Tensor:
    """Solve ``exp_a(v) = b`` from a good first velocity, ``(..., d)``.

    The Jacobi fields come once and from few steps: they only precondition, each correction
    gains the digits that they are right to.
    """
    slope = jacobi(metric_tensor, a, velocity, num_steps=_JACOBI_STEPS)
    for _ in range(num_corrections):
        miss = b - shoot(metric_tensor, a, velocity, num_steps=num_steps).position
        velocity = velocity + torch.linalg.solve(slope, miss)
    return velocity
