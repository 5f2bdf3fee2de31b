"""The model alone: site by site, or several sites from each network call."""

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.methods.method import Drawn, Method, Model
from ardm_guidance.models.ardm import Samples, sample, step_log_probs
from ardm_guidance.models.parallel import Schedule, best_schedule, sample_parallel
from ardm_guidance.shell.checks import counts

__all__ = ["Parallel", "Plain"]

# Samples that no run asks for: the schedule is estimated from others than it serves.
_PILOTS = 2**40


def _alone(found: Samples, index: Tensor, log_weight: Tensor) -> Drawn:
    return Drawn(found.sites, index, log_weight, log_weight, found.log_prob)


class Plain(Method):
    """Ancestral sampling, a network call a site.

    References:
        Hoogeboom et al. (2022), Autoregressive diffusion models, arXiv:2110.02037.
    """

    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """Samples of the model, whose weights are all one."""
        self.refuse(potential)
        start = model.start(index, seed)
        found = sample(model.ardm(), start.sites, start.order, start.noise)
        return _alone(found, index, torch.zeros_like(found.log_prob))


class Parallel(Method):
    r"""Several sites from each network call, by the cheapest schedule of so many calls.

    The schedule is a shortest path over the expected costs
    :math:`L_t = E[-\log p_\theta(x_{\sigma(t)} \mid x_{\sigma(<t)})]`, estimated on samples of the
    model itself, once for each model.

    Arguments:
        num_calls: Network calls of a sample; as many as there are sites is :class:`Plain`.
        num_pilots: Samples that the schedule is estimated from.

    References:
        Hoogeboom et al. (2022), arXiv:2110.02037, section 3.3.
    """

    def __init__(self, num_calls: int = 10, num_pilots: int = 256) -> None:
        counts(num_calls=num_calls, num_pilots=num_pilots)
        self.num_calls, self.num_pilots = num_calls, num_pilots
        self._known: tuple[Model, int, Schedule] | None = None

    def schedule(self, model: Model, seed: int, device: torch.device | None = None) -> Schedule:
        """The schedule for a model, whose pilots are drawn on a device."""
        if self._known is None or self._known[0] is not model or self._known[1] != seed:
            ardm = model.ardm()
            index = torch.arange(_PILOTS, _PILOTS + self.num_pilots, device=device)
            start = model.start(index, seed)
            found = step_log_probs(ardm, start.sites, start.order, start.noise)
            costs = -found.log_probs.double().mean(0).cpu()
            calls = min(self.num_calls, len(costs))
            self._known = model, seed, best_schedule(costs, calls)
        return self._known[2]

    def draw(self, model: Model, potential: Potential | None, index: Tensor, seed: int) -> Drawn:
        """Samples of nearly the model: what one call draws doesn't know of one another."""
        self.refuse(potential)
        start, schedule = model.start(index, seed), self.schedule(model, seed, index.device)
        found = sample_parallel(model.ardm(), start.sites, start.order, start.noise, schedule)
        return _alone(found, index, torch.full_like(found.log_prob, torch.nan))
