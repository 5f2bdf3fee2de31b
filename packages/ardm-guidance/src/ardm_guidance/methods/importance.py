r"""Sampling importance resampling: one of N objects of the model, in proportion to W."""

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.methods.method import Drawn, Method, Model, in_groups
from ardm_guidance.models.ardm import categorical, sample
from ardm_guidance.shell.checks import counts
from ardm_guidance.shell.randomness import keyed_uniform

__all__ = ["Importance"]

_SELECTION = -5


class Importance(Method):
    r"""One of N objects of the model, drawn in proportion to :math:`W`.

    Exact as :math:`N \to \infty`; weights are known at the end only, so that N must grow as the
    target moves away from the model.

    Arguments:
        num_particles: N.

    References:
        Rubin (1987), comment on Tanner & Wong, JASA 82; Smith & Gelfand et al. (1992), The American
        Statistician 46.
    """

    def __init__(self, num_particles: int = 10) -> None:
        counts(num_particles=num_particles)
        self.num_particles = num_particles

    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """One object of each group, with the mean weight as estimate of the constant."""
        tilt = self.needed(potential)
        groups = in_groups(model, index, seed, self.num_particles)
        shape = groups.sites.shape
        found = sample(model.ardm(), *(part.flatten(0, 1) for part in groups))
        weights = tilt(found.sites).double().view(shape[:2])
        noise = keyed_uniform(seed, _SELECTION, index, dtype=torch.float64)
        dead = (weights == -torch.inf).all(-1, keepdim=True)
        picked = categorical(weights.masked_fill(dead, 0.0).log_softmax(-1), noise)
        rows = torch.arange(len(index), device=index.device), picked
        normalizer = weights.logsumexp(-1) - torch.full((), shape[1], device=index.device).log()
        log_prob = found.log_prob.view(shape[:2])[rows]
        return Drawn(found.sites.view(shape)[rows], index, weights[rows], normalizer, log_prob)
