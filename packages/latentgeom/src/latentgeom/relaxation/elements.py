r"""Curves made of equal elements, and the energy of their images.

A curve of :math:`N` segments is cut into elements of :math:`p`; on an element the energy is a
quadratic form of the images of its :math:`p + 1` nodes,

.. math:: E = \tfrac12 \int_0^1 |X'|^2 \, dt = \tfrac12 \sum_e X_e^\top K X_e, \qquad K = R^\top R .

**Chords** join equally spaced nodes: :math:`K` is tridiagonal, the energy of second order.
**Lobatto** elements take the interpolating polynomial through the Gauss-Lobatto-Legendre
nodes, whose quadrature is exact for it: the smallest energy is of order :math:`2 p`.

References:
    Deville, Fischer & Mund (2002), High-Order Methods for Incompressible Fluid Flow, ch. 2.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

__all__ = ["Grid", "chords", "interpolation", "lobatto", "resampled"]

_NEAR = 6  # nodes that interpolate between equal steps


class Grid(NamedTuple):
    """Elements of a curve.

    Arguments:
        times: Times of all nodes in [0, 1], ``(N + 1,)``.
        root: Rows whose squares sum to twice the energy of an element, ``(r, p + 1)``; the
            stiffness is their Gram matrix.
        tail: Rows whose squares sum to twice the energy of an element's two highest modes,
            ``(2, p + 1)``; of one where there are two.
        degree: Segments ``p`` of an element.
        free: Features of the images that neighbours share; further ones are attached to zero
            instead, at each node by itself.  All are free where it is ``None``.
    """

    times: Tensor
    root: Tensor
    tail: Tensor
    degree: int
    free: int | None = None

    def to(self, like: Tensor) -> "Grid":
        """The same in the precision and on the device of another tensor."""
        return self._replace(
            times=self.times.to(like), root=self.root.to(like), tail=self.tail.to(like)
        )

    def anchored(self, free: int) -> "Grid":
        """The same chords, with all features from ``free`` on attached to zero."""
        return self._replace(free=free)

    @property
    def spring(self) -> int:
        """Stiffness of the attachment of an inner node: two segments pay for it."""
        return 2 * (len(self.times) - 1)

    @property
    def stiffness(self) -> Tensor:
        """Quadratic form ``K`` of one element, ``(p + 1, p + 1)``."""
        return self.root.mT @ self.root

    def split(self, x: Tensor) -> Tensor:
        """Nodes by element, ``(B, N + 1, D)`` to ``(B, E, p + 1, D)``."""
        return x.unfold(1, self.degree + 1, self.degree).mT

    def energy(self, x: Tensor) -> Tensor:
        """Energy of the images ``(B, N + 1, D)``, ``(B,)``."""
        # Squares of differences: the stiffness itself would cancel what the nodes have in common.
        parts = self.split(x[..., : self.free])
        total: Tensor = (self.root @ parts).square().sum((1, 2, 3)) / 2
        if self.free is None:
            return total
        square = x[..., self.free :].square().sum(-1)
        return total + self.spring / 4 * (square[:, 1:] + square[:, :-1]).sum(-1)

    def pull(self, x: Tensor) -> Tensor:
        """The force at all nodes, of the features that they share, ``(B, N + 1, D)``."""
        parts = self.root.mT @ (self.root @ self.split(x[..., : self.free]))
        total = torch.cat([parts[:, :, :-1].flatten(1, 2), parts[:, -1, -1:]], 1)
        total[:, self.degree : -1 : self.degree] += parts[:, :-1, -1]
        return total

    def force(self, x: Tensor) -> Tensor:
        """Derivative of the energy by the images of the inner nodes, ``(B, N - 1, D)``."""
        total = self.pull(x)[:, 1:-1]
        if self.free is None:
            return total
        return torch.cat([total, self.spring * x[:, 1:-1, self.free :]], -1)

    def truncation(self, x: Tensor) -> Tensor:
        """Energy in the two highest modes of all elements, ``(B,)``."""
        total: Tensor = (self.tail @ self.split(x)).square().sum((1, 2, 3)) / 2
        return total


def _tail(nodes: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Highest Legendre modes of the derivative, not the lowest, scaled by their norms."""
    degree = len(nodes) - 1
    modes = np.linalg.pinv(legendre.legvander(nodes, degree - 1)) @ slope
    norms = np.sqrt(2 / (2 * np.arange(degree) + 1))
    tail: np.ndarray = (norms[:, None] * modes)[-min(2, max(degree - 1, 1)) :]
    return tail


@lru_cache(maxsize=64)
def chords(num_segments: int, degree: int) -> Grid:
    """Equal chords; ``degree`` of them, a divisor of ``num_segments``, are one element."""
    root = num_segments**0.5 * np.diff(np.eye(degree + 1), axis=0)
    return _grid(np.linspace(0, 1, num_segments + 1), root, np.zeros((2, degree + 1)))


@lru_cache(maxsize=64)
def lobatto(num_segments: int, degree: int) -> Grid:
    """Polynomial elements of a ``degree`` that divides ``num_segments``."""
    last = np.zeros(degree + 1)
    last[-1] = 1
    nodes = np.concatenate([[-1.0], np.sort(legendre.legroots(legendre.legder(last))), [1.0]])
    weights = 2 / (degree * (degree + 1) * legendre.legval(nodes, last) ** 2)
    vander = legendre.legvander(nodes, degree)
    slopes = np.stack([legendre.legval(nodes, legendre.legder(row)) for row in np.eye(degree + 1)])
    slope = slopes.T @ np.linalg.inv(vander)
    count = num_segments // degree
    # On an element of length 1 / count, d/dt is 2 count d/ds and dt is ds / 2 count.
    scale = (2 * count) ** 0.5
    inner = (nodes[:-1] + 1) / 2
    times = np.append((np.arange(count)[:, None] + inner).ravel() / count, 1.0)
    root = scale * weights[:, None] ** 0.5 * slope
    return _grid(times, root, scale * _tail(nodes, slope))


def _grid(times: np.ndarray, root: np.ndarray, tail: np.ndarray) -> Grid:
    first, second, third = (torch.from_numpy(np.ascontiguousarray(x)) for x in (times, root, tail))
    return Grid(first, second, third, root.shape[1] - 1)


def interpolation(grid: Grid, times: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights that read a curve at other times.

    Arguments:
        grid: Where the curve is known.
        times: Times in [0, 1], ``(M,)``.

    Returns:
        Indices ``(M, w)`` of nodes near each time and their Lagrange weights ``(M, w)``.

    References:
        Berrut & Trefethen (2004), Barycentric Lagrange Interpolation.
    """
    known, wanted = (x.double().cpu().numpy() for x in (grid.times, times))
    first, width = _windows(grid, known, wanted)
    index = first[:, None] + np.arange(width)
    nodes = known[index]
    gaps = nodes[:, :, None] - nodes[:, None, :] + np.eye(width)
    away = np.repeat((wanted[:, None] - nodes)[:, None, :], width, 1)
    away[:, np.arange(width), np.arange(width)] = 1.0
    weights = away.prod(-1) / gaps.prod(-1)
    return torch.from_numpy(index), torch.from_numpy(weights)


def _windows(grid: Grid, known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, int]:
    """First node and number of the nodes around each time: its element, or six of equal steps."""
    last = len(known) - 1
    if bool(grid.tail.any()):
        element = np.searchsorted(known[:: grid.degree], wanted, side="right") - 1
        return np.minimum(element, last // grid.degree - 1) * grid.degree, grid.degree + 1
    width = min(_NEAR, last + 1)
    below = np.floor(wanted * last + 1e-9).astype(int)
    return np.clip(below - (width - 1) // 2, 0, last + 1 - width), width


def resampled(grid: Grid, x: Tensor, times: Tensor) -> Tensor:
    """A curve ``(B, N + 1, n)`` on a grid at other times, ``(B, M, n)``."""
    index, weights = interpolation(grid, times)
    total: Tensor = torch.einsum("mw,bmwn->bmn", weights.to(x), x[:, index.to(x.device)])
    return total
