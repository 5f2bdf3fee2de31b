r"""The variance-preserving diffusion path :math:`\pi_\lambda \propto \hat g_\lambda\,N(0,I)`.

Levels are signal fractions :math:`1-\lambda`, from noise (0) to data (1). The target
must be whitened. A step from :math:`\lambda` to a smaller :math:`\lambda'`, with
:math:`l = 1-\frac{1-\lambda}{1-\lambda'}`, proposes

.. math::
    x' \sim q = N\big(\sqrt{1-l}\,x + l\,u_\lambda(x),\ l I\big)

with :math:`u` the potential's drift, and the increment is

.. math::
    \log N(x';\sqrt{1-l}\,x, lI) - \log q(x'|x) + \log\hat g_{\lambda'}(x')
    - \log\hat g_\lambda(x)

:math:`\hat Z` is unbiased for every :math:`\hat g > 0` with :math:`\hat g_0 = g_0`: an
approximate potential costs variance, never correctness.

References:
    Phillips et al., Particle denoising diffusion sampler, ICML 2024.
    Song et al., Score-based generative modeling through SDEs, ICLR 2021.
"""

import math

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.potentials.monte_carlo import Potential
from diffsmc.smc.density import Cloud, Density
from diffsmc.smc.path import Advance, Path

__all__ = ["DiffusionPath"]

LOG_2PI = math.log(2 * math.pi)


class DiffusionPath(Path):
    """Time reversal of a diffusion, guided by a potential.

    Arguments:
        potential: Potential bound to the whitened target.
        dim: Dimension of the target.
        like: Gives dtype and device.

    References:
        Phillips et al. (2024), Particle denoising diffusion sampler, ICML, arXiv:2402.06320.
    """

    def __init__(self, potential: Potential, dim: int, like: Tensor) -> None:
        self.potential = potential
        self.dim = dim
        self.like = like

    def evaluate(self, x: Tensor, level: float) -> Cloud:
        """Evaluate noise and potential at points, ``(R, N, D)``."""
        value, drift = self.potential.evaluate(x, 1 - level)
        base = -0.5 * x.square().sum(-1) - 0.5 * self.dim * LOG_2PI
        return Cloud(x, base, value, -x, drift)

    @override
    def start(self, num_islands: int, num_particles: int, *, generator: torch.Generator) -> Cloud:
        x = torch.randn(
            (num_islands, num_particles, self.dim),
            generator=generator,
            dtype=self.like.dtype,
            device=self.like.device,
        )
        # at pure noise the potential is a constant, taken to be 1
        zero = torch.zeros_like(x)
        base = -0.5 * x.square().sum(-1) - 0.5 * self.dim * LOG_2PI
        return Cloud(x, base, zero[..., 0], -x, zero)

    @override
    def advance(
        self, cloud: Cloud, level: float, new_level: float, *, generator: torch.Generator
    ) -> Advance:
        variance = 1 - level / new_level
        pull = math.sqrt(1 - variance) * cloud.particles
        shift = variance * cloud.tilt_grad
        noise = torch.randn(
            pull.shape, generator=generator, dtype=pull.dtype, device=pull.device
        ) * math.sqrt(variance)
        new = self.evaluate(pull + shift + noise, new_level)
        # log N(x'; pull, l) - log N(x'; pull + shift, l)
        reference = -(0.5 * shift.square() + shift * noise).sum(-1) / variance
        return Advance(new, reference + new.tilt - cloud.tilt, moved=True)

    @override
    def density(self, level: float) -> Density:
        return Density(lambda x: self.evaluate(x, level), 1.0)
