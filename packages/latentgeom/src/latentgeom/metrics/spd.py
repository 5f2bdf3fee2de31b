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

from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from latentgeom.metrics.metric import Metric
from latentgeom.metrics.trigonometry import safe_norm, sinc

__all__ = ["PositiveDefinite"]

_ORDERS = 3  # of derivatives that matrix logarithms have


class PositiveDefinite(Metric):
    """Positive definite matrices in logarithmic coordinates.

    Arguments:
        size: Rows ``n`` of the matrices; the dimension is ``n (n + 1) / 2``.

    References:
        Pennec, Fillard & Ayache (2006), A Riemannian Framework for Tensor Computing.
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

    @override
    def to_frame(self, z: Tensor, v: Tensor) -> Tensor:
        """Normal coordinates at ``z``, in which the metric is the Frobenius one."""
        point, inverse = self.to_matrix(z), self._roots(z)[1]
        moved = _exp_slope(point, self.to_matrix(v))
        return self.from_matrix(_symmetric(inverse @ moved @ inverse))

    @override
    def from_frame(self, z: Tensor, a: Tensor) -> Tensor:
        point, root = self.to_matrix(z), self._roots(z)[0]
        return self.from_matrix(_log_slope(point, _symmetric(root @ self.to_matrix(a) @ root)))

    @override
    def exp_frame(self, z: Tensor, a: Tensor) -> Tensor:
        root = self._roots(z)[0]
        step = torch.linalg.matrix_exp(self.to_matrix(a))
        return self.from_matrix(_log(_symmetric(root @ step @ root)))

    @override
    def log_frame(self, a: Tensor, b: Tensor) -> Tensor:
        return self.from_matrix(_log(self._between(a, b)))

    @override
    def transp_frame(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        (root, _), (_, target) = self._roots(a), self._roots(b)
        # In normal coordinates the transport is the rotation of the polar decomposition.
        turn = target @ root @ torch.linalg.matrix_exp(_log(self._between(a, b)) / 2)
        return self.from_matrix(_symmetric(turn @ self.to_matrix(c) @ turn.mT))

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        wide = z.unsqueeze(-2).expand(*z.shape, self.dim)
        columns = self.to_frame(wide, basis.expand(*z.shape, self.dim))
        return columns @ columns.mT

    @override
    def orthonormal_frame(self, z: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=z.dtype, device=z.device)
        wide = z.unsqueeze(-2).expand(*z.shape, self.dim)
        return self.from_frame(wide, basis.expand(*z.shape, self.dim)).mT

    @override
    def norm(self, z: Tensor, v: Tensor) -> Tensor:
        return safe_norm(self.to_frame(z, v))

    @override
    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.where((a == b).all(-1), 0.0, safe_norm(self.log_frame(a, b)))

    @override
    def squared_dist(self, a: Tensor, b: Tensor) -> Tensor:
        return self.log_frame(a, b).square().sum(-1)

    @override
    def expmap(self, z: Tensor, v: Tensor) -> Tensor:
        return self.exp_frame(z, self.to_frame(z, v))

    @override
    def logmap(self, a: Tensor, b: Tensor) -> Tensor:
        return self.from_frame(a, self.log_frame(a, b))

    @override
    def transp(self, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return self.from_frame(b, self.transp_frame(a, b, self.to_frame(a, v)))

    @override
    def projx(self, z: Tensor) -> Tensor:
        return z

    @override
    def features(self, z: Tensor) -> Tensor:
        return z


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


class _Slope(NamedTuple):
    r"""Inverse of the derivative of the exponential at a point, which is held fixed.

    Its weights are divided differences, :math:`(\lambda_i - \lambda_j) / (e^{\lambda_i} -
    e^{\lambda_j})`, by a series where eigenvalues coincide.
    """

    basis: Tensor
    weights: Tensor

    def __call__(self, matrix: Tensor) -> Tensor:
        turned = self.basis.mT @ matrix @ self.basis * self.weights
        whole: Tensor = self.basis @ turned @ self.basis.mT
        return _symmetric(whole)


def _slope(values: Tensor, basis: Tensor) -> _Slope:
    mean = (values.unsqueeze(-1) + values.unsqueeze(-2)) / 2
    half = (values.unsqueeze(-1) - values.unsqueeze(-2)) / 2
    return _Slope(basis, (-mean).exp() / sinc(-half.square()))


def _exp_slope(point: Tensor, v: Tensor) -> Tensor:
    """Derivative of the exponential at ``point`` along ``v``: a block of a larger exponential."""
    point, v = torch.broadcast_tensors(point, v)  # type: ignore[no-untyped-call]
    upper = torch.cat([point, v], -1)
    lower = torch.cat([torch.zeros_like(point), point], -1)
    size = point.shape[-1]
    whole = torch.linalg.matrix_exp(torch.cat([upper, lower], -2))
    block: Tensor = whole[..., :size, size:]
    return block


def _log(matrix: Tensor) -> Tensor:
    """Logarithm, differentiable at coinciding eigenvalues too.

    Newton's method on :math:`e^L = M` with its slope held fixed: the first value is the
    logarithm, so that the steps change nothing but give one order of derivatives each.
    """
    values, basis = torch.linalg.eigh(matrix.detach())
    values = values.log()
    logarithm = _symmetric(basis @ (values.unsqueeze(-1) * basis.mT))
    slope = _slope(values, basis)
    for _ in range(_ORDERS if matrix.requires_grad else 0):
        logarithm = logarithm + slope(matrix - torch.linalg.matrix_exp(logarithm))
    return logarithm


def _log_slope(point: Tensor, v: Tensor) -> Tensor:
    """The matrix whose derivative of the exponential at ``point`` is ``v``; as above."""
    point, v = torch.broadcast_tensors(point, v)  # type: ignore[no-untyped-call]
    values, basis = torch.linalg.eigh(point.detach())
    slope = _slope(values, basis)
    found = slope(v.detach())
    for _ in range(_ORDERS if point.requires_grad or v.requires_grad else 0):
        found = found + slope(v - _exp_slope(point, found))
    return found
