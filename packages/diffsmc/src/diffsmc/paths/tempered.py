r"""The tempered path :math:`\pi_b \propto p_0^{1-b}\gamma^b`.

From a Gaussian :math:`p_0` (level 0) to the target (level 1): the base is
:math:`\log p_0`, the tilt :math:`\log\gamma - \log p_0`, and a step from :math:`b` to
:math:`b'` has log-increment :math:`(b'-b)(\log\gamma-\log p_0)` at particles that stay.

References:
    Neal, Annealed importance sampling, Statistics and Computing 2001.
"""

import copy
import math

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.references.gaussian import GaussianReference
from diffsmc.smc.compilation import CompiledLeapfrog
from diffsmc.smc.density import Cloud, Density
from diffsmc.smc.path import Advance, Path
from diffsmc.targets.target import Target

__all__ = ["TemperedPath"]

LOG_2PI = math.log(2 * math.pi)


class TemperedPath(Path):
    """Geometric bridge from a Gaussian to a target.

    Arguments:
        target: The target.
        base: Where the path starts. Its mean may be ``(R, 1, D)`` and its factor
            ``(R, D, D)``, one for each island.
        gradient: Whether points carry gradients, which some moves don't need.
        compiled: Whether leapfrog steps are compiled.
        single: Whether particles and gradients are ``float32``; weights, and what they are made
            of, stay ``float64``.

    References:
        Neal (2001), Annealed importance sampling, Statistics and Computing 11,
        arXiv:physics/9803008.
    """

    def __init__(
        self,
        target: Target,
        base: GaussianReference,
        *,
        gradient: bool = True,
        compiled: bool = False,
        single: bool = False,
    ) -> None:
        if single:
            # a copy, since a module's buffers are converted in place
            target = copy.deepcopy(target).float()
            base = GaussianReference(base.mean.float(), base.factor.float())
        self.target = target
        self.base = base
        self.gradient = gradient
        diagonal = base.factor.diagonal(dim1=-2, dim2=-1)
        constant = -diagonal.log().sum(-1) - target.dim / 2 * LOG_2PI
        self._constant = constant[:, None] if constant.dim() else constant
        eye = torch.eye(target.dim, dtype=base.factor.dtype, device=base.factor.device)
        inverse = torch.linalg.solve_triangular(base.factor, eye, upper=False)
        self._precision = _simplest(inverse.mT @ inverse)
        self._mean = _without_zeros(base.mean)
        self._inner = CompiledLeapfrog(self.score) if compiled else None

    @override
    def start(self, num_islands: int, num_particles: int, *, generator: torch.Generator) -> Cloud:
        factor = self.base.factor
        noise = torch.randn(
            (num_islands, num_particles, self.target.dim),
            generator=generator,
            dtype=factor.dtype,
            device=factor.device,
        )
        return self.evaluate(self.base.mean + noise @ factor.mT)

    def base_score(self, x: Tensor) -> Tensor:
        r"""Give :math:`\nabla\log p_0`."""
        centred = self._mean - x
        dense = self._precision.dim() > 1
        return centred @ self._precision if dense else centred.mul_(self._precision)

    def base_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Give :math:`\log p_0` and its gradient."""
        grad = self.base_score(x)
        return self._constant + 0.5 * ((x - self._mean) * grad).sum(-1), grad

    def score(self, x: Tensor, temperature: float | Tensor) -> Tensor:
        r"""Give :math:`\nabla\log\pi_b`."""
        base = self.base_score(x)
        if isinstance(temperature, float) and temperature == 0:
            return base
        if isinstance(temperature, Tensor):
            temperature = temperature.to(x.dtype)
        return torch.lerp(base, self.target.score(x), temperature)

    def evaluate(self, x: Tensor) -> Cloud:
        """Evaluate base and tilt at points, ``(R, N, D)``."""
        base, base_grad = self.base_density(x)
        if not self.gradient:
            none = x.new_zeros(()).expand_as(x)
            value = self.target.log_prob(x).double()
            return Cloud(x, base.double(), value - base, none, none)
        value, grad = self.target.log_prob_and_grad(x)
        return Cloud(x, base.double(), value.double() - base, base_grad, grad - base_grad)

    @override
    def advance(
        self, cloud: Cloud, level: float, new_level: float, *, generator: torch.Generator
    ) -> Advance:
        return Advance(cloud, (new_level - level) * cloud.tilt, moved=False)

    @override
    def density(self, level: float) -> Density:
        if not self.gradient:
            return Density(self.evaluate, level)
        return Density(self.evaluate, level, self.score, self._inner)


def _simplest(precision: Tensor) -> Tensor:
    """Give a precision as ``(D, D)``, or as ``(D,)`` or a number where it is no more."""
    diagonal = precision.diagonal(dim1=-2, dim2=-1)
    if precision.dim() > 2 or not torch.equal(precision, torch.diag(diagonal)):
        return precision
    return diagonal[0] if bool((diagonal == diagonal[0]).all()) else diagonal


def _without_zeros(mean: Tensor) -> Tensor:
    return mean if bool(mean.any()) else mean.new_zeros(())
