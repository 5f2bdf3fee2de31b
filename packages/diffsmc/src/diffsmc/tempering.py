r"""The tempered path :math:`\pi_b \propto p_0^{1-b}\gamma^b`.

From a Gaussian :math:`p_0` (level 0) to the target (level 1): the base is
:math:`\log p_0`, the tilt :math:`\log\gamma - \log p_0`, and a step from :math:`b` to
:math:`b'` has log-increment :math:`(b'-b)(\log\gamma-\log p_0)` at particles that stay.

References:
    Neal, Annealed importance sampling, Statistics and Computing 2001.
"""

import math

import torch
from torch import Tensor
from typing_extensions import override

from .kernels import Cloud, Density
from .reference import GaussianReference
from .smc import Path
from .targets import Target

__all__ = ["TemperedPath"]

LOG_2PI = math.log(2 * math.pi)


class TemperedPath(Path):
    """Geometric bridge from a Gaussian to a target.

    Arguments:
        target: The target.
        base: Where the path starts. Its mean may be ``(R, 1, D)`` and its factor
            ``(R, D, D)``, one for each island.
    """

    def __init__(self, target: Target, base: GaussianReference) -> None:
        self.target = target
        self.base = base
        eye = torch.eye(target.dim, dtype=base.factor.dtype, device=base.factor.device)
        self._inverse = torch.linalg.solve_triangular(base.factor, eye, upper=False)
        log_det = base.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = -log_det - target.dim / 2 * LOG_2PI
        self._constant = constant[:, None] if constant.dim() else constant

    @override
    def start(
        self, num_islands: int, num_particles: int, *, gradient: bool, generator: torch.Generator
    ) -> Cloud:
        factor = self.base.factor
        noise = torch.randn(
            (num_islands, num_particles, self.target.dim),
            generator=generator,
            dtype=factor.dtype,
            device=factor.device,
        )
        return self.evaluate(self.base.mean + noise @ factor.mT, gradient=gradient)

    def base_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Give :math:`\log p_0` and its gradient."""
        unit = (x - self.base.mean) @ self._inverse.mT
        return self._constant - 0.5 * unit.square().sum(-1), -unit @ self._inverse

    def evaluate(self, x: Tensor, *, gradient: bool) -> Cloud:
        """Evaluate base and tilt at points, ``(R, N, D)``."""
        base, base_grad = self.base_density(x)
        if not gradient:
            none = x.new_zeros(()).expand_as(x)
            return Cloud(x, base, self.target.log_prob(x) - base, none, none)
        value, grad = self.target.log_prob_and_grad(x)
        return Cloud(x, base, value - base, base_grad, grad - base_grad)

    @override
    def advance(
        self,
        cloud: Cloud,
        level: float,
        new_level: float,
        *,
        gradient: bool,
        generator: torch.Generator,
    ) -> tuple[Cloud, Tensor]:
        return cloud, (new_level - level) * cloud.tilt

    @override
    def density(self, level: float, *, gradient: bool) -> Density:
        return Density(lambda x: self.evaluate(x, gradient=gradient), level)
