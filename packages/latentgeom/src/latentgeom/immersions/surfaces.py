r"""Surfaces in Euclidean space, without a chart that could be singular.

A point is its ambient position; a step :math:`\delta \in \mathbb{R}^{d}` goes along an
orthonormal basis of the tangent space and is projected back,

.. math:: R_x(\delta) = \Pi(x + B(x)\, \delta) .

So an ellipsoid has no poles and a torus no seam.

References:
    Karney (2013), Algorithms for Geodesics, for the ellipsoid; Clairaut's relation
    :math:`\rho \sin\alpha = \text{const}` for surfaces of revolution.
"""

from abc import abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.immersions.immersion import Immersion

__all__ = ["Ellipsoid", "Torus"]

_OFF = 1e-6


class _Surface(Immersion):
    """A closed surface known by its normal and its projection."""

    @abstractmethod
    def normal(self, x: Tensor) -> Tensor:
        """A normal vector, not necessarily of unit length, ``(..., n)``."""

    @override
    def embed(self, x: Tensor) -> Tensor:
        return x

    @override
    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        return self.projx(x + _along(self.normal(x), delta))

    @override
    def to_local(self, x: Tensor, step: Tensor) -> Tensor:
        return _components(self.normal(x), step)

    @override
    def check(self, x: Tensor, name: str) -> None:
        """Refuse points that are off the surface by more than a millionth."""
        off = torch.linalg.vector_norm(self.projx(x) - x, dim=-1)
        size = torch.linalg.vector_norm(x, dim=-1)
        worst = float((off / size).max()) if x.numel() else 0.0
        if not worst <= _OFF:
            raise ValueError(
                f"{name} must lie on the {type(self).__name__}, got a point off by {worst:.1e}"
                " of its size; project with projx first"
            )


def _mirror(normal: Tensor) -> Tensor:
    r"""Householder vector whose reflection takes the first axis to the normal's line.

    The reflection takes the other axes to an orthonormal basis of the normal's complement;
    the sign avoids cancellation.
    """
    unit = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    sign = 1 - 2 * (unit[..., :1] < 0).to(unit)
    return torch.cat([unit[..., :1] + sign, unit[..., 1:]], -1)


def _reflected(mirror: Tensor, vector: Tensor) -> Tensor:
    weight = 2 * (mirror * vector).sum(-1, keepdim=True) / mirror.square().sum(-1, keepdim=True)
    return vector - weight * mirror


def _along(normal: Tensor, delta: Tensor) -> Tensor:
    """Tangent vector of components ``delta`` in the Householder basis of the normal."""
    flat = torch.cat([torch.zeros_like(delta[..., :1]), delta], -1)
    return _reflected(_mirror(normal), flat)


def _components(normal: Tensor, vector: Tensor) -> Tensor:
    """Components of a vector's tangential part in that basis."""
    return _reflected(_mirror(normal), vector)[..., 1:]


class Ellipsoid(_Surface):
    r"""The ellipsoid :math:`\sum_k (x_k / a_k)^2 = 1` in ambient coordinates.

    Points are projected along rays from the centre.

    Arguments:
        axes: Half axes ``a``, ``(n,)``, all positive; equal ones make a sphere.

    References:
        Karney (2013), Algorithms for Geodesics, https://doi.org/10.1007/s00190-012-0578-z.
    """

    axes: Tensor

    def __init__(self, axes: Tensor) -> None:
        super().__init__()
        if axes.ndim != 1 or len(axes) < 2 or not bool((axes > 0).all()):
            raise ValueError(f"axes must be two or more positive numbers, got {axes.tolist()}")
        self.register_buffer("axes", axes)
        self.dim, self.num_coordinates = len(axes) - 1, len(axes)

    @override
    def normal(self, x: Tensor) -> Tensor:
        return x / self.axes.to(x).square()

    @override
    def projx(self, x: Tensor) -> Tensor:
        scaled: Tensor = torch.linalg.vector_norm(x / self.axes.to(x), dim=-1, keepdim=True)
        return x / scaled


class Torus(_Surface):
    r"""The torus :math:`(\rho - R)^2 + x_3^2 = r^2`, :math:`\rho^2 = x_1^2 + x_2^2`.

    Points are projected along rays from the central circle.

    Arguments:
        major: Radius ``R`` of the central circle.
        minor: Radius ``r`` of the tube, below ``R``.
    """

    def __init__(self, major: float, minor: float) -> None:
        super().__init__()
        if not 0 < minor < major:
            raise ValueError(f"radii must be 0 < minor < major, got {minor} and {major}")
        self.major, self.minor = major, minor
        self.dim, self.num_coordinates = 2, 3

    def _from_circle(self, x: Tensor) -> Tensor:
        rho = torch.linalg.vector_norm(x[..., :2], dim=-1, keepdim=True)
        centre = self.major * x[..., :2] / rho
        return torch.cat([x[..., :2] - centre, x[..., 2:]], -1)

    @override
    def normal(self, x: Tensor) -> Tensor:
        return self._from_circle(x)

    @override
    def projx(self, x: Tensor) -> Tensor:
        offset = self._from_circle(x)
        radius: Tensor = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        return x - offset * (1 - self.minor / radius)
