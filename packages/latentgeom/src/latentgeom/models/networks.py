r"""Smooth networks between observations and coordinates.

Metrics are second derivatives away from the weights, so every activation is twice
differentiable (SiLU): a piecewise linear decoder has a discontinuous metric.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from latentgeom.metrics.metric import Metric
from latentgeom.shell.showing import in_a_line

__all__ = ["Autoencoder", "Perceptron", "SizedAutoencoder"]


class Perceptron(nn.Module):
    """Fully connected layers with SiLU between them.

    Arguments:
        in_features: Width of the input.
        out_features: Width of the output.
        hidden: Widths of the hidden layers.

    References:
        Elfwing, Uchibe & Doya (2018), Sigmoid-Weighted Linear Units for Neural Network Function
        Approximation in Reinforcement Learning, for SiLU.
    """

    __str__ = in_a_line

    def __init__(self, in_features: int, out_features: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.in_features, self.out_features, self.hidden = in_features, out_features, list(hidden)
        widths = [in_features, *hidden, out_features]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_features)`` to ``(..., out_features)``."""
        y: Tensor = self.layers(x)
        return y


class Autoencoder(nn.Module):
    r"""Encoder and decoder over the coordinates of a chosen metric.

    The encoder ends in the metric's chart; the decoder reads the metric's smooth features
    of a point.  ``log_scale`` is :math:`\log c`: the decoder is asked to be an isometry up
    to that factor of the squared lengths.

    Arguments:
        encoder: Network ``(..., D) -> (..., d)``.
        decoder: Network ``(..., n) -> (..., D)``, ``n`` the width of the metric's features.
        metric: The chosen metric, of dimension ``d``.
    """

    __str__ = in_a_line

    def __init__(self, encoder: nn.Module, decoder: nn.Module, metric: Metric) -> None:
        super().__init__()
        self.encoder, self.decoder, self.metric = encoder, decoder, metric
        self.log_scale = nn.Parameter(torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates of observations, ``(..., d)``."""
        return self.metric.projx(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Observations at coordinates, ``(..., D)``."""
        y: Tensor = self.decoder(self.metric.features(z))
        return y


class SizedAutoencoder(nn.Module):
    """An autoencoder of perceptrons that gets as wide as the data, once they are seen.

    Arguments:
        metric: The chosen metric.
        hidden: Widths of the encoder's hidden layers; the decoder's are the reverse.
    """

    __str__ = in_a_line

    def __init__(self, metric: Metric, hidden: Sequence[int] = (128, 64)) -> None:
        super().__init__()
        self.metric, self.hidden = metric, list(hidden)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.encoder: nn.Module | None = None
        self.decoder: nn.Module | None = None
        self.register_load_state_dict_pre_hook(_size_like)  # type: ignore[no-untyped-call]

    def size(self, num_features: int) -> None:
        """Make the networks, if they aren't there."""
        if self.encoder is None:
            read = self.metric.features(self.metric.origin).shape[-1]
            self.encoder = Perceptron(num_features, self.metric.dim, self.hidden)
            self.decoder = Perceptron(read, num_features, self.hidden[::-1])

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates of observations, ``(..., d)``."""
        return self.metric.projx(_made(self.encoder)(x))

    def decode(self, z: Tensor) -> Tensor:
        """Observations at coordinates, ``(..., D)``."""
        y: Tensor = _made(self.decoder)(self.metric.features(z))
        return y


def _made(network: nn.Module | None) -> nn.Module:
    if network is None:
        raise ValueError("the autoencoder has no networks yet; call size(num_features) first")
    return network


def _size_like(
    module: SizedAutoencoder, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Networks as wide as those whose weights are about to be loaded."""
    first = state_dict.get(f"{prefix}encoder.layers.0.weight")
    if first is not None:
        module.size(first.shape[1])
