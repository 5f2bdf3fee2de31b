"""Geodesics between many pairs of points, and what is known about them."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["GeodesicBatch"]


class GeodesicBatch(NamedTuple):
    """Curves and what is known about them.

    Arguments:
        points: Nodes at equal steps of time, ``(B, T + 1, n)``.
        length: Lengths, ``(B,)``.
        error_estimate: Estimated absolute error of the lengths, ``(B,)``.
        converged: Whether the curve is a regular minimum of its energy, ``(B,)``; false
            too where the Hessian is singular, as between conjugate points (antipodes).
            The length may then be NaN, where not even a first curve could be drawn.
        iterations: Newton steps over all levels, ``(B,)``.
    """

    points: Tensor
    length: Tensor
    error_estimate: Tensor
    converged: Tensor
    iterations: Tensor
