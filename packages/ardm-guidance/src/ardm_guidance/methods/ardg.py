"""Guided conditionals without correction."""

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.guidance.proposals import Guided
from ardm_guidance.methods.method import Drawn, Method, Model
from ardm_guidance.models.ardm import sample

__all__ = ["ARDG"]


class ARDG(Method):
    """Each site from the tilted conditional, never corrected.

    Biased with the inconsistent conditionals of any trained order-agnostic network, even with
    the optimal discriminator. No weight is known: :class:`~ardm_guidance.FADG` with one particle
    draws the same objects with their weights.

    References:
        Ekström Kelvinius & Lindsten (2024), Discriminator guidance for autoregressive diffusion
        models, AISTATS, et al.
    """

    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """Samples of the tilted conditionals."""
        tilt = self.needed(potential)
        start = model.start(index, seed)
        guided = Guided(model.ardm(), tilt)
        found = sample(guided, start.sites, start.order, start.noise)
        unknown = torch.full_like(found.log_prob, torch.nan)
        return Drawn(found.sites, index, unknown, unknown, found.log_prob)
