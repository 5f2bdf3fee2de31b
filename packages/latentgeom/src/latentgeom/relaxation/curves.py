r"""Discrete curves: :math:`T + 1` nodes at equal steps of time in :math:`[0, 1]`.

Derivatives are finite differences of order :math:`p` with one-sided stencils at the ends,
so that a smooth curve through the nodes is read to :math:`O(T^{-p})`:

.. math::

    X'(t_i) \approx T \sum_j w_{ij} X_j, \qquad
    \int_0^1 |X'| \, dt \approx \text{Simpson's rule} .

References:
    Fornberg (1988), Generation of Finite Difference Formulas on Arbitrarily Spaced Grids.
"""

from functools import lru_cache

import torch
from torch import Tensor

__all__ = [
    "MIN_SEGMENTS",
    "chord_length",
    "energy",
    "first_derivative",
    "prolong",
    "resample",
    "second_difference",
    "smooth_length",
    "straight",
]

MIN_SEGMENTS = 8  # one-sided stencils of sixth order need eight segments
_ORDER = 6


@lru_cache(maxsize=64)
def _weights(offsets: tuple[int, ...], derivative: int) -> tuple[float, ...]:
    """Weights of the ``derivative``-th derivative at 0 from values at integer ``offsets``."""
    nodes = torch.tensor(offsets, dtype=torch.float64, device="cpu")
    powers = torch.arange(len(offsets), dtype=torch.float64, device="cpu")
    vandermonde = nodes ** powers[:, None]
    right = torch.zeros(len(offsets), dtype=torch.float64, device="cpu")
    right[derivative] = float(derivative) if derivative else 1.0
    return tuple(torch.linalg.solve(vandermonde, right).tolist())


def _apply(x: Tensor, start: int, stop: int, offsets: range, derivative: int) -> Tensor:
    """Stencil at nodes ``start`` to ``stop - 1`` of ``(..., T + 1, D)``."""
    total = torch.zeros_like(x[..., start:stop, :])
    for offset, weight in zip(offsets, _weights(tuple(offsets), derivative), strict=True):
        if weight:
            total = total + weight * x[..., start + offset : stop + offset, :]
    return total


def _differences(x: Tensor, derivative: int, order: int) -> Tensor:
    """Derivative per squared or single step at every node, central inside, one-sided outside."""
    last, half = x.shape[-2] - 1, order // 2
    width = order + derivative
    parts = [_apply(x, i, i + 1, range(-i, width - i), derivative) for i in range(half)]
    parts.append(_apply(x, half, last + 1 - half, range(-half, half + 1), derivative))
    for i in range(half - 1, -1, -1):
        parts.append(_apply(x, last - i, last - i + 1, range(i + 1 - width, i + 1), derivative))
    return torch.cat(parts, -2)


def first_derivative(x: Tensor, order: int = _ORDER) -> Tensor:
    """Time derivative at all nodes, ``(..., T + 1, D)``.

    Arguments:
        x: Nodes, ``(..., T + 1, D)`` with at least ``order`` segments.
        order: Even order of accuracy.
    """
    return _differences(x, 1, order) * (x.shape[-2] - 1)


def second_difference(x: Tensor, order: int = 2) -> Tensor:
    """Second derivative times the squared step at inner nodes, ``(..., T - 1, D)``."""
    if order == 2:
        return x[..., 2:, :] - 2 * x[..., 1:-1, :] + x[..., :-2, :]
    return _differences(x, 2, order)[..., 1:-1, :]


def energy(x: Tensor) -> Tensor:
    r"""Discrete energy :math:`\tfrac12 \sum_i |x_{i+1} - x_i|^2`, ``(...,)``."""
    total: Tensor = x.diff(dim=-2).square().sum((-1, -2)) / 2
    return total


def chord_length(x: Tensor) -> Tensor:
    """Length of the polygon through the nodes, ``(...,)``."""
    total: Tensor = torch.linalg.vector_norm(x.diff(dim=-2), dim=-1).sum(-1)
    return total


def smooth_length(x: Tensor, order: int = _ORDER) -> Tensor:
    """Length of the smooth curve through the nodes; ``T`` even, ``(...,)``."""
    speed = torch.linalg.vector_norm(first_derivative(x, order), dim=-1)
    inner = 4 * speed[..., 1:-1:2].sum(-1) + 2 * speed[..., 2:-1:2].sum(-1)
    total: Tensor = (speed[..., 0] + inner + speed[..., -1]) / (3 * (x.shape[-2] - 1))
    return total


def prolong(x: Tensor) -> Tensor:
    """Twice as many segments; new nodes by cubic interpolation, ``(..., 2 T + 1, D)``."""
    middle = (x[..., 1:, :] + x[..., :-1, :]) / 2
    bend = x[..., 2:, :] - 2 * x[..., 1:-1, :] + x[..., :-2, :]
    bend = torch.cat([bend[..., :1, :], bend, bend[..., -1:, :]], -2)
    middle = middle - (bend[..., 1:, :] + bend[..., :-1, :]) / 16
    pairs = torch.stack([x[..., :-1, :], middle], -2).flatten(-3, -2)
    return torch.cat([pairs, x[..., -1:, :]], -2)


def resample(x: Tensor, num_segments: int) -> Tensor:
    """Nodes at another number of equal steps, by linear interpolation."""
    position = torch.linspace(0, x.shape[-2] - 1, num_segments + 1, dtype=x.dtype, device=x.device)
    left = position.floor().long().clamp(max=x.shape[-2] - 2)
    fraction = (position - left).unsqueeze(-1)
    return x[..., left, :] * (1 - fraction) + x[..., left + 1, :] * fraction


def straight(a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    """Straight lines ``(B, T + 1, n)`` between points ``(B, n)``."""
    t = torch.linspace(0, 1, num_segments + 1, dtype=a.dtype, device=a.device)[:, None]
    return torch.lerp(a.unsqueeze(-2), b.unsqueeze(-2), t)
