r"""Fields derived from others by differences on a regular grid, and what a network sees of them.

In units of the grid's steps, with the neighbours of a point to the north, south, east and west,

.. math:: \nabla^2 u = u_n + u_s + u_e + u_w - 4 u, \qquad
    \partial_x u = (u_e - u_w) / 2, \qquad \partial_y u = (u_n - u_s) / 2,

with north the next row. On the outermost ring, where a neighbour is missing, they are zero;
around the globe only the first and the last row lack one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neural_lam.graphs.sides import Sides

__all__ = [
    "DERIVATIVES",
    "Derived",
    "DerivedScales",
    "derived_scales",
    "gradient_x",
    "gradient_y",
    "laplacian",
]


def _neighbours(image: Tensor, sides: Sides) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Centre, next row, row before, next column, column before, of the inner points."""
    if sides is Sides.JOINED:
        image = F.pad(image, (1, 1, 0, 0), mode="circular")
    return (
        image[..., 1:-1, 1:-1],
        image[..., 2:, 1:-1],
        image[..., :-2, 1:-1],
        image[..., 1:-1, 2:],
        image[..., 1:-1, :-2],
    )


def _ringed(inner: Tensor, sides: Sides) -> Tensor:
    """Inner points with zeros on the ring around them."""
    return F.pad(inner, (0, 0, 1, 1) if sides is Sides.JOINED else (1, 1, 1, 1))


def laplacian(image: Tensor, sides: Sides = Sides.APART) -> Tensor:
    """Five-point Laplacian of images ``(B, C, y, x)``, zero on the outermost ring."""
    centre, north, south, east, west = _neighbours(image, sides)
    return _ringed(north + south + east + west - 4 * centre, sides)


def gradient_x(image: Tensor, sides: Sides = Sides.APART) -> Tensor:
    """Central difference along the columns of images ``(B, C, y, x)``."""
    _, _, _, east, west = _neighbours(image, sides)
    return _ringed((east - west) / 2, sides)


def gradient_y(image: Tensor, sides: Sides = Sides.APART) -> Tensor:
    """Central difference along the rows of images ``(B, C, y, x)``."""
    _, north, south, _, _ = _neighbours(image, sides)
    return _ringed((north - south) / 2, sides)


DERIVATIVES: dict[str, Callable[..., Tensor]] = {
    "laplacian": laplacian,
    "gradient_x": gradient_x,
    "gradient_y": gradient_y,
}


# Bound of derived fields in their usual sizes.
_LIMIT = 6.0


class DerivedScales(NamedTuple):
    """Usual size of a derived field in the units of the state, ``(V,)`` each.

    Arguments:
        std: Standard deviation of the field derived from a state.
        change_std: Of that derived from a one-step change.
    """

    std: Tensor
    change_std: Tensor


def derived_scales(
    names: list[str], states: Tensor, changes: Tensor, shape: tuple[int, int], sides: Sides
) -> dict[str, DerivedScales]:
    """Usual sizes, from states and one-step changes ``(N, G, V)`` of a regular grid."""

    def size(field: Tensor, name: str) -> Tensor:
        image = field.transpose(1, 2).reshape(len(field), -1, *shape)
        derived = DERIVATIVES[name](image, sides)
        inner = derived[..., 1:-1, :] if sides is Sides.JOINED else derived[..., 1:-1, 1:-1]
        rows = inner.transpose(0, 1).flatten(1)
        # Beside points where a feature doesn't exist nothing can be derived.
        counted = ~rows.isnan()
        number = counted.sum(1).clamp(min=1)
        mean = torch.nan_to_num(rows).sum(1, keepdim=True) / number[:, None]
        square = torch.where(counted, rows - mean, 0.0).square().sum(1) / number
        return square.sqrt().clamp(min=1e-12)

    return {name: DerivedScales(size(states, name), size(changes, name)) for name in names}


class Derived(nn.Module):
    """Fields derived from the state and its last change, each in units of its usual size.

    Arguments:
        scales: Usual sizes, by the name of what is derived.
        shape: Rows and columns of the grid.
        sides: Whether the last column is followed by the first.
    """

    scale: Tensor

    def __init__(
        self,
        scales: Mapping[str, DerivedScales],
        shape: tuple[int, int],
        sides: Sides = Sides.APART,
    ) -> None:
        super().__init__()
        self.names, self.shape, self.sides = list(scales), shape, sides
        both = [torch.stack(tuple(scale)) for scale in scales.values()]
        self.register_buffer("scale", torch.stack(both))

    @property
    def num_features(self) -> int:
        """Features of a grid node."""
        return self.scale.numel()

    def forward(self, state: Tensor, previous: Tensor) -> Tensor:
        """Features ``(G, B, 2 K V)`` of states ``(G, B, V)``."""
        both = torch.stack((state, state - previous), dim=2)
        nodes, batch, _, num_variables = both.shape
        image = both.permute(1, 2, 3, 0).reshape(2 * batch, num_variables, *self.shape)
        found = [DERIVATIVES[name](image, self.sides) for name in self.names]
        fields = torch.stack([f.reshape(batch, 2, num_variables, nodes) for f in found], dim=1)
        # Beyond what training can have shown, a spike says no more than that it is one.
        scaled = _LIMIT * torch.tanh(fields / self.scale[..., None] / _LIMIT)
        return scaled.flatten(1, 3).permute(2, 0, 1)

    def extra_repr(self) -> str:
        """What is derived."""
        return ", ".join(self.names)
