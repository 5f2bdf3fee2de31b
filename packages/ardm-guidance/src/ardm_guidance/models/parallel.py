r"""Parallel sampling: which steps to take at once.

With :math:`L_t = E_\sigma[-\log p_\theta(x_{\sigma(t)} \mid x_{\sigma(<t)})]`, the expected
cost of step :math:`t`, predicting steps :math:`t, \dots, t + k - 1` from one network
call costs :math:`k L_t` instead of :math:`\sum_{i<k} L_{t+i}`: independent draws cannot
know of one another.  The cheapest way to take :math:`D` steps in at most :math:`B` calls is
a shortest path,

.. math:: F_b(j) = \min_{i < j} F_{b-1}(i) + (j - i)\, L_i, \qquad F_0(0) = 0,

found in :math:`O(D^2 B)`.

References:
    Hoogeboom et al., "Autoregressive Diffusion Models", ICLR 2022, section 3.3; the program is
    that of Watson et al., "Learning to Efficiently Sample from Diffusion Probabilistic
    Models" (2021).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ardm_guidance.models.ardm import Masked, Samples, categorical
from ardm_guidance.models.state import Conditionals
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.graphs import MASK

__all__ = ["Schedule", "best_schedule", "sample_parallel", "schedule_cost"]


class Schedule(NamedTuple):
    """First steps of the calls, beginning with 0, and what they cost together in nats."""

    starts: list[int]
    cost: float

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def schedule_cost(step_costs: Tensor, starts: list[int]) -> float:
    """Cost of a schedule in nats.

    Arguments:
        step_costs: :math:`L_t`, ``(D,)``.
        starts: First step of each call, ascending from 0.
    """
    ends = [*starts[1:], len(step_costs)]
    return sum(
        (end - start) * float(step_costs[start]) for start, end in zip(starts, ends, strict=True)
    )


def best_schedule(step_costs: Tensor, num_calls: int) -> Schedule:
    """The cheapest schedule with at most so many network calls.

    Arguments:
        step_costs: :math:`L_t`, ``(D,)``.
        num_calls: :math:`B`, between 1 and :math:`D`.

    References:
        Watson et al. (2021), Learning to efficiently sample, arXiv:2106.03802.
    """
    dimension = len(step_costs)
    if not 1 <= num_calls <= dimension:
        raise ValueError(f"num_calls must be between 1 and {dimension}, got {num_calls}")
    if not bool(torch.isfinite(step_costs).all()):
        raise ValueError("step_costs must be finite")
    place = torch.arange(dimension + 1)
    length = place[None] - place[:-1, None]
    move = torch.where(length > 0, length * step_costs.double()[:, None], torch.inf)
    best = torch.full((dimension + 1,), torch.inf, dtype=torch.float64)
    best[0] = 0.0
    choices, finals = [], []
    for _ in range(num_calls):
        best, choice = (best[:-1, None] + move).min(0)
        choices.append(choice.tolist())
        finals.append(float(best[-1]))
    calls = min(range(num_calls), key=finals.__getitem__) + 1
    return Schedule(_path(choices[:calls], dimension), finals[calls - 1])


def _path(choices: list[list[int]], end: int) -> list[int]:
    """Starts of the calls that lead to ``end``."""
    starts = []
    for choice in reversed(choices):
        end = choice[end]
        starts.append(end)
    return starts[::-1]


def sample_parallel(
    base: Conditionals, sites: Tensor, order: Tensor, noise: Tensor, schedule: Schedule
) -> Samples:
    """Generate several sites from each network call.

    The network says nothing new within a call, but the constraints do: they are applied again
    after each draw, so that what is drawn stays within them whatever the schedule.

    Arguments:
        base: The model.
        sites: Partial objects, ``(B, D)``.
        order: A generation order of each, ``(B, D)``.
        noise: Uniform on [0, 1), float64, one number for each step, ``(B, D)``.
        schedule: Which steps to take at once.

    Returns:
        Objects, with the log-probability of having drawn them.

    References:
        Hoogeboom et al. (2022), arXiv:2110.02037, section 4.
    """
    total = torch.zeros(sites.shape[:-1], device=sites.device)
    ends = [*schedule.starts[1:], sites.shape[-1]]
    for start, end in zip(schedule.starts, ends, strict=True):
        block = order[:, start:end]
        masked = base if isinstance(base, Masked) else None
        logits = masked.logits_at(sites, block) if masked else base.log_probs_at(sites, block)
        for place, t in enumerate(range(start, end)):
            at = order[:, t, None]
            allowed = masked.allowed(sites, at) if masked else None
            own = logits[:, place, None]
            own = own if allowed is None else own.masked_fill(~allowed, -torch.inf)
            log_probs = own.log_softmax(-1)
            shown = sites.gather(-1, at)
            drawn = torch.where(shown == MASK, categorical(log_probs, noise[:, t, None]), shown)
            chosen = log_probs.gather(-1, drawn.clamp(min=0)[..., None])[..., 0]
            total = total + torch.where(shown == MASK, chosen, 0.0)[:, 0]
            sites = sites.scatter(-1, at, drawn)
    return Samples(sites, total)
