r"""The one interface behind which every metric stands.

A metric :math:`G(z)` on coordinates :math:`z \in \mathbb{R}^d` gives

.. math::

    \langle u, v \rangle_z = u^\top G(z) v, \qquad |u|_z = \sqrt{\langle u, u \rangle_z},
    \qquad \mathrm{vol}(z) = \sqrt{\det G(z)} ,

and with them distances, geodesics, exponential and logarithm, parallel transport: in
closed form where there is one, by the solvers of :mod:`latentgeom.pullback.numerical` otherwise.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Metric", "check_points"]


def check_points(points: Tensor, dim: int, name: str = "points") -> Tensor:
    """Refuse points of a wrong width or with non-finite coordinates.

    Raises:
        ValueError: With what was expected and what was got.
    """
    if points.ndim == 0 or points.shape[-1] != dim:
        raise ValueError(f"{name} must have {dim} coordinates, got shape {tuple(points.shape)}")
    if not torch.isfinite(points).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return points


class Metric(nn.Module, ABC):
    """A Riemannian metric on one coordinate chart of dimension ``dim``.

    All methods broadcast over leading dimensions; vectors are coordinate vectors.
    """

    dim: int

    @abstractmethod
    def metric_tensor(self, z: Tensor) -> Tensor:
        """Metric tensor, ``(..., d, d)``."""

    @abstractmethod
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        """Geodesic distance, ``(...,)``."""

    @abstractmethod
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        """End after unit time of the geodesic leaving ``z`` with velocity ``v``, ``(..., d)``."""

    @abstractmethod
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        """Velocity at ``a`` of the geodesic that reaches ``b`` in unit time, ``(..., d)``."""

    @abstractmethod
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        """Parallel transport of ``v`` from ``a`` to ``b`` along their geodesic, ``(..., d)``."""

    @abstractmethod
    def projx(self, z: Tensor) -> Tensor:
        """Smooth map of any ``z`` in R^d into the chart's domain; what encoders end with."""

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """What a decoder network reads: a smooth injective function of the point, ``(..., n)``."""

    def check(self, z: Tensor, name: str = "points") -> Tensor:
        """Refuse points of a wrong width, non-finite, or outside of the chart.

        Raises:
            ValueError: With what was expected and what was got.
        """
        return check_points(z, self.dim, name)

    def inner(self, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Inner product of ``u`` and ``v`` at ``z``, ``(...,)``."""
        return torch.einsum("...i,...ij,...j->...", u, self.metric_tensor(z), v)

    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        """Length of ``v`` at ``z``, ``(...,)``."""
        return self.inner(z, v, v).sqrt()

    def log_volume(self, z: Tensor) -> Tensor:
        """Log of the Riemannian volume density, ``(...,)``; ``-inf`` where it degenerates."""
        factor, info = torch.linalg.cholesky_ex(self.metric_tensor(z))
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.where(info == 0, log_det, -torch.inf)

    def orthonormal_frame(self, z: Tensor) -> Tensor:
        """Matrix ``W`` with orthonormal columns, ``W^T G W = I``, ``(..., d, d)``."""
        factor = torch.linalg.cholesky(self.metric_tensor(z))
        identity = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        frame: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False).mT
        return frame

    def geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Points at times ``t`` (``(T,)``) of the geodesic from ``a`` to ``b``, ``(..., T, d)``."""
        velocity = self.logmap(a, b).unsqueeze(-2)
        steps = t.unsqueeze(-1) * velocity
        return self.expmap(a.unsqueeze(-2) + torch.zeros_like(steps), steps)
