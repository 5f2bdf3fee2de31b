"""N objects of the model, one of which is kept: the baseline of every guidance."""

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.guidance.proposals import best_of
from ardm_guidance.methods.method import Drawn, Method, Model, in_groups
from ardm_guidance.shell.checks import counts

__all__ = ["BestOf"]


class BestOf(Method):
    """The object of largest potential among N of the model.

    It isn't a draw from any tilted law: as N grows it collapses to what the potential likes best.

    Arguments:
        num_particles: N.

    References:
        Stiennon et al. (2020), Learning to summarize from human feedback, arXiv:2009.01325.
    """

    def __init__(self, num_particles: int = 10) -> None:
        counts(num_particles=num_particles)
        self.num_particles = num_particles

    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """The best of each group, with its potential as weight."""
        tilt = self.needed(potential)
        groups = in_groups(model, index, seed, self.num_particles)
        found = best_of(model.ardm(), tilt, *groups)
        unknown = torch.full_like(found.log_value, torch.nan)
        return Drawn(found.sites, index, found.log_value, unknown, unknown)
