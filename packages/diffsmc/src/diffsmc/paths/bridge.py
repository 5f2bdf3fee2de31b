r"""The stratified bridge from a reference mixture to the target.

.. math:: \pi_b(x, k) \propto q_k(x)\,\Big(\frac{\gamma(x)}{q(x)}\Big)^b

with the label :math:`k` fixed: each stratum starts at its own component, and
:math:`\sum_k w_k Z_k = Z` since :math:`\sum_k w_k q_k\,\gamma/q = \gamma`. Resampling
stays within a stratum, so mass never drifts between modes by chance. In the engine each
stratum is an island of its own: rows are (island, stratum), flattened.
"""

import functools

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import GaussianReference
from diffsmc.references.mixture import Mixture, log_prob_and_grad, sample_component
from diffsmc.smc.density import Cloud, Density
from diffsmc.smc.path import Advance, Path
from diffsmc.targets.target import Target

__all__ = ["StratifiedPath", "join_strata"]


class StratifiedPath(Path):
    """Rows of strata: row ``r K + k`` is stratum ``k`` of island ``r``.

    Arguments:
        target: The target.
        mixture: The reference.

    References:
        Neal (2001), Annealed importance sampling, Statistics and Computing 11,
        arXiv:physics/9803008.
    """

    def __init__(self, target: Target, mixture: Mixture) -> None:
        self.target = target
        self.mixture = mixture

    draws_are_proposals = True

    @override
    def log_shares(self, like: Tensor) -> Tensor:
        return self.mixture.weights.log().repeat(len(like) // len(self.mixture.weights))

    def _component(self, num_rows: int) -> TemperedPath:
        """Give base densities by row."""
        repeat = num_rows // len(self.mixture.weights)
        means = self.mixture.means.repeat(repeat, 1)[:, None]
        return TemperedPath(
            self.target, GaussianReference(means, self.mixture.factors.repeat(repeat, 1, 1))
        )

    def _evaluate(self, x: Tensor, component: TemperedPath) -> Cloud:
        base, base_grad = component.base_density(x)
        value, grad = self.target.log_prob_and_grad(x)
        reference, reference_grad = log_prob_and_grad(self.mixture, x)
        return Cloud(x, base, value - reference, base_grad, grad - reference_grad)

    @override
    def start(self, num_islands: int, num_particles: int, *, generator: torch.Generator) -> Cloud:
        device = self.mixture.means.device
        labels = torch.arange(num_islands, device=device) % len(self.mixture.weights)
        labels = labels[:, None].expand(num_islands, num_particles)
        x = sample_component(self.mixture, labels, generator=generator)
        return self._evaluate(x, self._component(num_islands))

    @override
    def advance(
        self, cloud: Cloud, level: float, new_level: float, *, generator: torch.Generator
    ) -> Advance:
        return Advance(cloud, (new_level - level) * cloud.tilt, moved=False)

    @override
    def density(self, level: float) -> Density:
        component = functools.cache(self._component)

        def evaluate(x: Tensor) -> Cloud:
            return self._evaluate(x, component(len(x)))

        def score(x: Tensor, temperature: float | Tensor) -> Tensor:
            reference_grad = log_prob_and_grad(self.mixture, x)[1]
            tilt_grad = self.target.score(x) - reference_grad
            return component(len(x)).base_score(x) + temperature * tilt_grad

        return Density(evaluate, level, score)


def join_strata(values: Tensor, num_strata: int) -> Tensor:
    """Put the strata of an island together, ``(R K, N, ...)`` to ``(R, K N, ...)``."""
    return values.reshape(-1, num_strata * values.shape[1], *values.shape[2:])
