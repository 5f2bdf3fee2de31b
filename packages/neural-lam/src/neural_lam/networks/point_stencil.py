r"""A convolution's nine weights on points in any order.

A 3 x 3 convolution gives each node :math:`\sum_k W_k\, h(x + o_k)`, over the offsets :math:`o_k` of
the eight neighbours and of the node itself. Where no neighbour lies at an offset, those around it
share its weight, as kernel points do:

.. math:: \sum_k W_k \frac{\sum_s \varphi(x_s - x - o_k)\, h_s}
    {\max(1, \sum_s \varphi(x_s - x - o_k))}, \qquad
    \varphi(d) = (1 - |d_x|)_+\, (1 - |d_y|)_+ ,

with distances in units of the points' spacing. On a grid of rows and columns every
:math:`\varphi` is one or zero, and the sum is the convolution, zeros beyond the edge.

References:
    Thomas et al. (2019), KPConv: flexible and deformable convolution for point clouds,
    arXiv:1904.08889.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from neural_lam.shell.errors import InputError

__all__ = ["PointStencil", "offsets_within", "spacing_of"]

# A tap's neighbours are less than a spacing from it in x and in y, so from the node less than two.
_REACH = 2 * 2**0.5


def spacing_of(positions: Tensor) -> float:
    """Median distance of points to their four nearest."""
    count = min(4, len(positions) - 1)
    if count < 1:
        raise InputError("same-grid edges need at least 2 points")
    distance, _ = cKDTree(positions.numpy()).query(positions.numpy(), k=range(2, count + 2))
    return float(np.median(distance))


def _axes(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors along x and y at each point; on the unit sphere to the east and north."""
    if positions.shape[1] == 2:
        along = torch.eye(2, dtype=positions.dtype)
        return along[0].expand_as(positions), along[1].expand_as(positions)
    x, y, z = positions.unbind(1)
    longitude = torch.atan2(y, x)
    zero = torch.zeros_like(z)
    east = torch.stack((-longitude.sin(), longitude.cos(), zero), 1)
    return east, torch.linalg.cross(positions, east)


def offsets_within(positions: Tensor, spacing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Senders, receivers and offsets ``(E, 2)`` in units of the spacing, of near pairs.

    Arguments:
        positions: In the plane ``(G, 2)``, or on the unit sphere ``(G, 3)``.
        spacing: Unit of the offsets.
    """
    tree = cKDTree(positions.numpy())
    found = tree.sparse_distance_matrix(tree, _REACH * spacing, output_type="ndarray")
    senders, receivers = (torch.from_numpy(found[i].astype(np.int64)) for i in ("i", "j"))
    apart = (positions[senders] - positions[receivers]) / spacing
    offsets = torch.stack([(apart * axis[receivers]).sum(1) for axis in _axes(positions)], 1)
    return senders, receivers, offsets


class PointStencil(nn.Module):
    """Same-grid edges between points, each with its share of one of nine taps.

    Arguments:
        positions: Of the points, in the plane ``(G, 2)`` or on the unit sphere ``(G, 3)``.

    References:
        Thomas et al. (2019), KPConv: flexible and deformable convolution for point clouds,
        arXiv:1904.08889.
    """

    senders: Tensor
    slots: Tensor
    shares: Tensor

    def __init__(self, positions: Tensor) -> None:
        super().__init__()
        positions = positions.double()
        spacing = spacing_of(positions)
        senders, receivers, offsets = offsets_within(positions, spacing)
        # As in a convolution's kernel, rows (y) first.
        taps = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2)).to(offsets)
        share = (1 - (offsets[:, None] - taps.flip(1)).abs()).clamp(min=0).prod(-1)
        # Rounding of positions makes no edges.
        edge, tap = (share > 1e-6).nonzero().unbind(1)
        slots = tap * len(positions) + receivers[edge]
        total = share.new_zeros(9 * len(positions)).index_add_(0, slots, share[edge, tap])
        shares = share[edge, tap] / total[slots].clamp(min=1)
        self.num_points = len(positions)
        self.register_buffer("senders", senders[edge], persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("shares", shares, persistent=False)

    def convolve(self, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Points as a column ``(B, C, G, 1)``, to ``(B, C', G, 1)``.

        Arguments:
            image: Fields on the points.
            weight: Of a convolution, ``(C', C, 3, 3)``.
            bias: ``(C',)``.
        """
        nodes = image.squeeze(-1).permute(2, 0, 1)
        sent = nodes.index_select(0, self.senders) * self.shares.to(nodes)[:, None, None]
        taps = nodes.new_zeros(9 * self.num_points, *nodes.shape[1:])
        gathered = taps.index_add(0, self.slots, sent).reshape(9, *nodes.shape)
        output = torch.einsum("kgbc,okc->bog", gathered, weight.flatten(2).transpose(1, 2))
        return (output + bias[:, None]).unsqueeze(-1)
