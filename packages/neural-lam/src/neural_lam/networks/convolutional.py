r"""A convolutional U-Net on regular grids: gated blocks at half and at a quarter of the resolution.

Two by two grid points become the channels of one: their mean, their differences along rows and
columns, and the difference of these (Haar's wavelets). Where fields are smooth, differences are
small, and yet gradients and Laplacians are what moves them: each difference may count several
times, so that all channels are of one size. A block adds to its input what a 3 x 3 convolution and
a gate make of it,

.. math:: (p, q) = A * h, \qquad h \leftarrow h + B\,(\mathrm{SiLU}(p) \odot q),

so that fields are multiplied, as advection does. :math:`B` starts at zero: at first a network
passes its input through, and its output is zero.

References:
    Ronneberger, Fischer & Brox (2015), U-Net, arXiv:1505.04597; Dauphin et al. (2017), Language
    modeling with gated convolutional networks, arXiv:1612.08083; Liu et al. (2018), Multi-level
    wavelet-CNN, arXiv:1805.07071.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.shell.checks import positive
from neural_lam.shell.errors import InputError

__all__ = [
    "ConvLAM",
    "Convolution",
    "GatedBlock",
    "Neighbours",
    "Padding",
    "bounded",
    "from_image",
    "to_image",
    "wavelets",
]


# Bound of the outputs, in their usual sizes: beyond it, products of products run away in a rollout.
_LIMIT = 10.0


class Padding(NamedTuple):
    """What lies beyond the edge of a grid.

    Arguments:
        wraps: Whether the last column is followed by the first, as around the globe.
    """

    wraps: bool

    def __call__(self, image: Tensor, width: int) -> Tensor:
        """An image ``(B, C, y, x)`` with that many points more on each side."""
        if self.wraps:
            image = F.pad(image, (width, width, 0, 0), mode="circular")
            return F.pad(image, (0, 0, width, width))
        return F.pad(image, (width, width, width, width))

    def convolve(self, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The image, ``(B, C, y, x)``, with 3 x 3 weights ``(C', C, 3, 3)``."""
        if self.wraps:
            return F.conv2d(self(image, 1), weight, bias)
        return F.conv2d(image, weight, bias, padding=1)


class Neighbours(Protocol):
    """What is beside each point, for a convolution."""

    def convolve(self, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The image, ``(B, C, y, x)``, with 3 x 3 weights ``(C', C, 3, 3)``."""


def bounded(output: Tensor) -> Tensor:
    """Outputs within a bound far beyond their usual size, where rollouts would run away."""
    return _LIMIT * torch.tanh(output / _LIMIT)


def to_image(features: Tensor, shape: tuple[int, int]) -> Tensor:
    """Node-first features ``(G, B, F)`` as images ``(B, F, y, x)``, channels last in memory."""
    rows, columns = shape
    by_batch = features.transpose(0, 1).reshape(features.shape[1], rows, columns, -1)
    return by_batch.permute(0, 3, 1, 2)


def from_image(image: Tensor) -> Tensor:
    """Images ``(B, F, y, x)`` as node-first features ``(G, B, F)``."""
    return image.flatten(2).permute(2, 0, 1)


def wavelets(image: Tensor, gain: float) -> Tensor:
    """Means and differences of 2 x 2 points, ``(B, C, 2 y, 2 x)`` to ``(B, 4 C, y, x)``.

    Arguments:
        image: Fields.
        gain: What the difference of two points counts, in that of their mean.

    References:
        Liu et al. (2018), Multi-level wavelet-CNN for image restoration, arXiv:1805.07071.
    """
    rows = image[..., ::2, :], image[..., 1::2, :]
    halves = (rows[0] + rows[1]) / 2, gain * (rows[0] - rows[1]) / 2
    pairs = [(half[..., ::2], half[..., 1::2]) for half in halves]
    means = [(left + right) / 2 for left, right in pairs]
    return torch.cat(means + [gain * (left - right) / 2 for left, right in pairs], dim=1)


class Convolution(nn.Module):
    """A 3 x 3 convolution that knows what lies beside each point.

    Arguments:
        num_inputs: Channels in.
        num_outputs: Channels out.
        neighbours: What lies beside each point.
    """

    def __init__(self, num_inputs: int, num_outputs: int, neighbours: Neighbours) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.convolution = nn.Conv2d(num_inputs, num_outputs, 3)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, y, x)`` to ``(B, C', y, x)``."""
        layer = self.convolution
        assert layer.bias is not None
        return self.neighbours.convolve(image, layer.weight, layer.bias)


class GatedBlock(nn.Module):
    """A residual gated convolution.

    Arguments:
        num_channels: Channels in and out.
        neighbours: What lies beside each point.

    References:
        Dauphin et al. (2017), Language modeling with gated convolutional networks,
        arXiv:1612.08083.
    """

    def __init__(self, num_channels: int, neighbours: Neighbours) -> None:
        super().__init__()
        self.inner = Convolution(num_channels, 2 * num_channels, neighbours)
        self.outer = nn.Conv2d(num_channels, num_channels, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, y, x)`` to the same."""
        p, q = self.inner(image).chunk(2, dim=1)
        output: Tensor = image + self.outer(F.silu(p) * q)
        return output


def _blocks(count: int, num_channels: int, padding: Padding) -> nn.Sequential:
    return nn.Sequential(*(GatedBlock(num_channels, padding) for _ in range(count)))


class ConvLAM(GridNetwork):
    """A convolutional U-Net on a grid of rows and columns.

    Rows and columns may be of any number; beyond the edge of a limited area lie zeros, around
    the globe the first column follows the last.

    Arguments:
        graph: Whose grid it acts on; its mesh isn't used.
        num_inputs: Features of a grid node.
        num_outputs: Outputs of a grid node.
        hidden_size: Channels at half the resolution.
        coarse_size: Channels at a quarter.
        num_blocks: Blocks at half the resolution, a half of them before and a half after the
            coarse ones.
        num_coarse_blocks: Blocks at a quarter.
        gain: What the difference of two neighbouring points counts, in that of their mean: more
            than 1 where fields are smooth and no derived ones are given.

    Raises:
        InputError: The grid has no rows and columns, or a size is too small.

    References:
        Ronneberger et al. (2015), U-Net: convolutional networks for biomedical image segmentation,
        arXiv:1505.04597.
    """

    def __init__(
        self,
        graph: Graph,
        num_inputs: int,
        num_outputs: int,
        hidden_size: int = 48,
        coarse_size: int = 64,
        num_blocks: int = 4,
        num_coarse_blocks: int = 2,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        positive(gain=gain)
        if graph.shape is None:
            raise InputError("ConvLAM needs a grid of rows and columns: use GraphLAM")
        for name, value in (("num_blocks", num_blocks), ("num_coarse_blocks", num_coarse_blocks)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        self.shape, self.padding, self.gain = graph.shape, Padding(graph.wraps), gain
        first = num_blocks // 2
        self.stem = Convolution(4 * num_inputs, hidden_size, self.padding)
        self.before = _blocks(first, hidden_size, self.padding)
        self.down = nn.Conv2d(hidden_size, coarse_size, 2, stride=2)
        self.coarse = _blocks(num_coarse_blocks, coarse_size, self.padding)
        self.up = nn.ConvTranspose2d(coarse_size, hidden_size, 2, stride=2)
        self.after = _blocks(num_blocks - first, hidden_size, self.padding)
        self.head = Convolution(hidden_size, 4 * num_outputs, self.padding)
        nn.init.zeros_(self.head.convolution.weight)
        nn.init.zeros_(self.head.convolution.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def output_layer(self) -> nn.Module:
        """The last convolution."""
        return self.head.convolution

    def embed(self) -> None:
        """Nothing is shared by the steps of a rollout."""

    def _filled(self, image: Tensor) -> Tensor:
        """The image with rows and columns repeated up to multiples of four."""
        rows, columns = ((-size) % 4 for size in self.shape)
        if not rows and not columns:
            return image
        mode = "circular" if self.padding.wraps else "replicate"
        image = F.pad(image, (0, columns, 0, 0), mode=mode) if columns else image
        return F.pad(image, (0, 0, 0, rows), mode="replicate") if rows else image

    def forward(self, features: Tensor, embedded: None = None) -> Tensor:
        """Features ``(G, B, F)`` to outputs ``(G, B, V)``."""
        image = self._filled(to_image(features, self.shape))
        points = wavelets(image, self.gain)
        # A state that runs away has large differences first: their gain must not drive it on.
        points = bounded(points) if self.gain > 1 else points
        hidden = self.before(self.stem(points))
        hidden = self.after(hidden + self.up(self.coarse(self.down(hidden))))
        output = bounded(F.pixel_shuffle(self.head(hidden), 2))
        return from_image(output[..., : self.shape[0], : self.shape[1]])
