r"""Batched symmetric block-tridiagonal systems.

A chain of :math:`n` nodes with :math:`d` unknowns each gives

.. math::

    U_{i-1}^\top x_{i-1} + D_i x_i + U_i x_{i+1} = b_i .

Forward elimination keeps the pivots :math:`S_1 = D_1`,
:math:`S_{i+1} = D_{i+1} - U_i^\top S_i^{-1} U_i`; the matrix is positive definite
exactly when all pivots are.  Cost :math:`O(n d^3)` a chain, all chains at once.

References:
    Golub & Van Loan (2013), Matrix Computations, section 4.5.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Factorization", "eliminate", "factorize", "substitute"]


class Factorization(NamedTuple):
    """Block Cholesky factors of a batch of chains.

    Arguments:
        cholesky: Lower factors of the pivots, ``n`` tensors ``(B, d, d)``.
        coupling: ``S_i^{-1} U_i``, ``n - 1`` tensors ``(B, d, d)``.
        positive: Whether every pivot of the chain is positive definite, ``(B,)``.
    """

    cholesky: list[Tensor]
    coupling: list[Tensor]
    positive: Tensor


def _cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    factor, info = torch.linalg.cholesky_ex(matrix)
    positive = info == 0
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.where(positive[:, None, None], factor, identity), positive


def factorize(diagonal: Tensor, upper: Tensor) -> Factorization:
    r"""Factor the chains.

    Arguments:
        diagonal: Blocks :math:`D_i`, ``(B, n, d, d)``.
        upper: Blocks :math:`U_i` that couple node ``i`` to ``i + 1``, ``(B, n - 1, d, d)``.

    Returns:
        Factors; where ``positive`` is false they are finite and meaningless.

    References:
        Golub & Van Loan (2013), Matrix Computations, section 4.5.
    """
    factor, positive = _cholesky(diagonal[:, 0])
    cholesky, coupling = [factor], []
    for i in range(upper.shape[1]):
        coupling.append(torch.cholesky_solve(upper[:, i], cholesky[-1]))
        factor, is_positive = _cholesky(diagonal[:, i + 1] - upper[:, i].mT @ coupling[-1])
        cholesky.append(factor)
        positive = positive & is_positive
    return Factorization(cholesky, coupling, positive)


def eliminate(factors: Factorization, right: Tensor) -> list[Tensor]:
    """Forward elimination of right-hand sides ``(B, n, d, k)``, pivots applied."""
    solved = [torch.cholesky_solve(right[:, 0], factors.cholesky[0])]
    previous = right[:, 0]
    for i, coupling in enumerate(factors.coupling):
        previous = right[:, i + 1] - coupling.mT @ previous
        solved.append(torch.cholesky_solve(previous, factors.cholesky[i + 1]))
    return solved


def substitute(factors: Factorization, right: Tensor) -> Tensor:
    """Solve for ``(B, n, d)`` unknowns given right-hand sides ``(B, n, d)``."""
    solved = eliminate(factors, right.unsqueeze(-1))
    for i in range(len(factors.coupling) - 1, -1, -1):
        solved[i] = solved[i] - factors.coupling[i] @ solved[i + 1]
    return torch.stack(solved, 1).squeeze(-1)
