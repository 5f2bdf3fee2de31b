r"""Symmetric positive definite matrices with the affine-invariant metric.

A point is stored as its matrix logarithm :math:`U = \log P`, in an orthonormal basis of the
symmetric matrices (off-diagonal entries times :math:`\sqrt2`): every vector is a point, there
is no boundary.  With eigenvalues :math:`\lambda` of :math:`U`,

.. math::

    d(P, Q) = \| \log P^{-1/2} Q P^{-1/2} \|_F, \qquad
    |dU|^2 = \sum_{ij} \Bigl( \frac{\sinh((\lambda_i - \lambda_j) / 2)}
        {(\lambda_i - \lambda_j) / 2} \Bigr)^2 dU_{ij}^2

in the eigenbasis of :math:`U`: non-positive curvature, and flat along commuting matrices.

References:
    Pennec, Fillard & Ayache (2006), A Riemannian Framework for Tensor Computing.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.metric import Metric

__all__ = ["PositiveDefinite"]


class PositiveDefinite(Metric):
    """Positive definite matrices in logarithmic coordinates.

    Arguments:
        size: Rows ``n`` of the matrices; the dimension is ``n (n + 1) / 2``.
    """

    basis: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.size, self.dim = size, size * (size + 1) // 2
        rows, columns = torch.triu_indices(size, size)
        basis = torch.zeros(self.dim, size, size, dtype=torch.float64)
        basis[torch.arange(self.dim), rows, columns] = 1.0
        basis = basis + basis.mT
        self.register_buffer("basis", basis / basis.norm(dim=(-2, -1), keepdim=True))

    def to_matrix(self, z: Tensor) -> Tensor:
        """Symmetric matrices of coordinates, ``(..., n, n)``."""
        return torch.einsum("...d,dij->...ij", z, self.basis.to(z))

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Coordinates of symmetric matrices, ``(..., d)``."""
        return torch.einsum("...ij,dij->...d", matrix, self.basis.to(matrix))

    def _roots(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Root of the matrix and its inverse."""
        half = self.to_matrix(z) / 2
        return torch.linalg.matrix_exp(half), torch.linalg.matrix_exp(-half)

    def _between(self, a: Tensor, b: Tensor) -> Tensor:
        inverse = self._roots(a)[1]
        return _symmetric(inverse @ torch.linalg.matrix_exp(self.to_matrix(b)) @ inverse)

    def _stretch(self, z: Tensor, v: Tensor, power: int) -> Tensor:
        """Normal coordinates at ``z`` of a coordinate vector, or the inverse by ``power`` -1."""
        values, basis = torch.linalg.eigh(self.to_matrix(z))
        gap = (values.unsqueeze(-1) - values.unsqueeze(-2)) / 2
        ratio = cc.sine(gap, torch.tensor(-1.0).to(z)) / torch.where(gap == 0, 1.0, gap)
        ratio = torch.where(gap == 0, 1.0, ratio) ** power
        turned = basis.mT @ self.to_matrix(v) @ basis * ratio
        return self.from_matrix(_symmetric(basis @ turned @ basis.mT))

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        columns = self._stretch(z.unsqueeze(-2), basis.expand(*z.shape, self.dim), 1)
        return columns @ columns.mT

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        length = cc.safe_norm(torch.linalg.eigvalsh(self._between(a, b)).log())
        return torch.where((a == b).all(-1), 0.0, length)

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        root = self._roots(z)[0]
        step = torch.linalg.matrix_exp(self.to_matrix(self._stretch(z, v, 1)))
        return self.from_matrix(_function(root @ step @ root, torch.log))

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        step = self.from_matrix(_function(self._between(a, b), torch.log))
        return self._stretch(a, step, -1)

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        (root, _), (_, target) = self._roots(a), self._roots(b)
        # In normal coordinates the transport is the rotation of the polar decomposition.
        turn = target @ root @ _function(self._between(a, b), torch.sqrt)
        moved = turn @ self.to_matrix(self._stretch(a, v, 1)) @ turn.mT
        return self._stretch(b, self.from_matrix(_symmetric(moved)), -1)

    @override
    def projx(self, z: Tensor) -> Tensor:
        return z

    @override
    def features(self, z: Tensor) -> Tensor:
        return z


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


def _function(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    values, basis = torch.linalg.eigh(_symmetric(matrix))
    return _symmetric(basis @ (function(values).unsqueeze(-1) * basis.mT))
