r"""Sequential Monte Carlo: a group of N particles for each sample.

From each group one particle is kept, drawn by weight, which is exact as :math:`N \to \infty`.
With ``reweight`` samples are drawn from the particles of *all* groups by weight instead, so that
a group counts in proportion to its :math:`\hat Z`: that removes most of the bias of a finite N,
and is what a shared order needs, at the price of groups that are drawn more than once.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.guidance.proposals import Proposing
from ardm_guidance.guidance.smc import Run, chosen, run
from ardm_guidance.methods.method import Drawn, Groups, Method, Model, in_groups
from ardm_guidance.shell.checks import counts
from ardm_guidance.shell.randomness import keyed_generator, keyed_uniform

__all__ = ["Corrected"]

# Counters of keyed noise beside those of training.
_ANCESTORS, _SELECTION = -3, -4


class Corrected(Method):
    """A proposal, corrected by sequential Monte Carlo.

    Sizes and orders are of each particle, unless the order is shared.  The ancestors of a group
    depend on the batch that it is drawn in, and so on batch size and devices.

    Arguments:
        num_particles: N.
        threshold: Share of N below which the effective sample size leads to resampling.
        shared_order: Give all particles of a group the order of the first, as published code
            does; needs ``reweight``.
        reweight: Draw from the particles of all groups by weight.
    """

    @property
    @abstractmethod
    def propose(self) -> Proposing:
        """How each site is proposed."""

    def __init__(
        self,
        num_particles: int = 10,
        threshold: float = 0.7,
        shared_order: bool = False,
        reweight: bool = False,
    ) -> None:
        counts(num_particles=num_particles)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        if shared_order and not reweight:
            raise ValueError("shared_order is biased without reweight: give both")
        self.num_particles, self.threshold = num_particles, threshold
        self.shared_order, self.reweight = shared_order, reweight
        self.pooled = reweight

    def groups(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Run:
        """Finished groups, from which the samples of these numbers are selected."""
        tilt = self.needed(potential)
        generator = keyed_generator(seed, _ANCESTORS, int(index[0]), device=index.device)
        groups = in_groups(model, index, seed, self.num_particles)
        groups = _of_the_first(groups) if self.shared_order else groups
        return run(
            model.ardm(), tilt, *groups, propose=self.propose,
            threshold=self.threshold, generator=generator,
        )  # fmt: skip

    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """A particle of each group, or all of them where groups are to be re-weighted."""
        done = self.groups(model, potential, index, seed)
        normalizer = done.log_normalizer
        if self.pooled:
            numbers = index.repeat_interleave(self.num_particles)
            weights = done.log_weights.flatten()
            unknown = torch.full_like(weights, torch.nan)
            spread = normalizer.repeat_interleave(self.num_particles)
            return Drawn(done.sites.flatten(0, 1), numbers, weights, spread, unknown)
        noise = keyed_uniform(seed, _SELECTION, index, dtype=torch.float64)
        rows = torch.arange(len(index), device=index.device), chosen(done, noise)
        unknown = torch.full_like(normalizer, torch.nan)
        return Drawn(done.sites[rows], index, done.log_weights[rows], normalizer, unknown)


def _of_the_first(groups: Groups) -> Groups:
    """Size and order of the first particle for all of a group; each keeps its noise."""
    first = [part[:, :1].expand_as(part) for part in (groups.sites, groups.order)]
    return Groups(first[0], first[1], groups.noise)
