r"""Learned potentials.

.. math::
    \log\hat g_\theta(x, \lambda) = \lambda\,\langle f_\theta(x,\lambda), x\rangle
    + (1-\lambda)\log g_0\big(\sqrt{1-\lambda}\,x\big)

with a network :math:`f_\theta`. It is :math:`g_0` at :math:`\lambda = 0` whatever the
weights are, so the evidence stays unbiased when training was poor. Additive constants
in each level cancel.

References:
    Phillips et al., Particle denoising diffusion sampler, ICML 2024.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from diffsmc.potentials.monte_carlo import Potential, log_ratio_and_grad
from diffsmc.references.gaussian import GaussianReference
from diffsmc.shell.showing import in_a_line
from diffsmc.targets.target import Target, differentiate

__all__ = ["LearnedPotential", "VectorNetwork", "network_potential"]


class VectorNetwork(nn.Module):
    r"""Multilayer perceptron :math:`f_\theta(x, \lambda)`, zero at the start, in float64.

    Arguments:
        dim: Dimension of the target.
        width: Units of a hidden layer.
        depth: Hidden layers.

    References:
        Vargas et al. (2023), Denoising diffusion samplers, ICLR, arXiv:2302.13834.
    """

    def __init__(self, dim: int, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        if min(dim, width, depth) < 1:
            raise ValueError(f"dim, width and depth must be positive, got {dim}, {width}, {depth}")
        self.dim, self.width, self.depth = dim, width, depth
        sizes = [dim + 2, *[width] * depth]
        layers = [
            layer
            for a, b in pairwise(sizes)
            for layer in (nn.Linear(a, b, dtype=torch.float64), nn.SiLU())
        ]
        last = nn.Linear(width, dim, dtype=torch.float64)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    __repr__ = __str__ = in_a_line

    def forward(self, x: Tensor, variance: Tensor) -> Tensor:
        """Map points ``(..., D)`` and noise variances ``(...)`` to vectors ``(..., D)``."""
        time = torch.stack([variance.sqrt(), (1 - variance).sqrt()], -1)
        vector: Tensor = self.layers(torch.cat([x, time], -1))
        return vector


def network_potential(network: nn.Module, x: Tensor, variance: Tensor) -> Tensor:
    r"""Give :math:`\lambda\langle f_\theta(x,\lambda), x\rangle`, ``(...)``."""
    value: Tensor = variance * (network(x, variance) * x).sum(-1)
    return value


class LearnedPotential(Potential):
    """A trained network beside the naive potential.

    Arguments:
        network: Maps points and noise variances to vectors.
        reference: The Gaussian whose coordinates it was trained in.
    """

    def __init__(self, network: nn.Module, reference: GaussianReference | None = None) -> None:
        self.network = network
        self.reference = reference
        self.target: Target | None = None

    @override
    def bind(self, target: Target, *, generator: torch.Generator) -> "LearnedPotential":
        bound = LearnedPotential(self.network, self.reference)
        bound.target = target
        return bound

    @override
    def evaluate(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        assert self.target is not None
        shrink = math.sqrt(1 - variance)
        value, grad = log_ratio_and_grad(self.target, shrink * x)
        if variance == 0:
            return value, grad

        def learned(points: Tensor) -> Tensor:
            level = torch.full_like(points[..., 0], variance, requires_grad=False)
            return network_potential(self.network, points, level)

        added, slope = differentiate(learned, x)
        keep = 1 - variance
        return keep * value + added, keep * shrink * grad + slope
