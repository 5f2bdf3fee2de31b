r"""Laws small enough to enumerate.

Objects are :math:`D` sites with :math:`K` classes; everything a method claims can be
computed by summing over all :math:`K^D` of them and all :math:`D!` orders.  A table over
*partial* objects has :math:`(K+1)^D` entries, the digit 0 standing for a masked site.

Conditionals are *consistent* if they come from one joint law, so that every order gives
the same product; those of a trained order-agnostic network do not.
"""

from itertools import permutations, product

import torch
from torch import Tensor

from ardm_guidance.guidance.potentials import Potential, per_class
from ardm_guidance.models.ardm import log_prob
from ardm_guidance.models.state import Conditionals
from ardm_guidance.shell.showing import in_a_line

__all__ = [
    "MarginalRatio",
    "Tabular",
    "consistent",
    "inconsistent",
    "law",
    "log_marginals",
    "objects",
    "orders",
    "total_variation",
]


def objects(dimension: int, num_classes: int) -> Tensor:
    """All objects, ``(K^D, D)``, the last site fastest."""
    return torch.tensor(list(product(range(num_classes), repeat=dimension)))


def orders(dimension: int) -> Tensor:
    """All orders, ``(D!, D)``."""
    return torch.tensor(list(permutations(range(dimension))))


def log_marginals(log_joint: Tensor) -> Tensor:
    """Log-probabilities of all partial objects.

    Arguments:
        log_joint: One axis for each site, ``(K, ..., K)``.

    Returns:
        ``(K+1, ..., K+1)``; index 0 is "masked", index ``c + 1`` is class ``c``.
    """
    table = log_joint
    for axis in range(log_joint.dim()):
        table = torch.cat([table.logsumexp(axis, keepdim=True), table], axis)
    return table


def _entries(table: Tensor, sites: Tensor) -> Tensor:
    return table[tuple((sites + 1).unbind(-1))]


class Tabular:
    """Conditionals read from a table.

    Arguments:
        table: Log-probabilities of the classes of every site given every partial object,
            ``(K+1, ..., K+1, D, K)``.
    """

    __str__ = in_a_line

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def log_probs_at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Log-probabilities ``(B, P, K)``."""
        rows = _entries(self.table, sites)
        return rows.gather(-2, positions[..., None].expand(*positions.shape, rows.shape[-1]))


def _given_others(marginals: Tensor, axis: int) -> Tensor:
    """Classes of one site given the others, ``(K+1, ..., K+1, K)``, whatever the site shows."""
    classes = marginals.narrow(axis, 1, marginals.shape[axis] - 1).movedim(axis, -1)
    return classes.log_softmax(-1).unsqueeze(axis).expand(*marginals.shape, -1)


def consistent(log_joint: Tensor) -> Tabular:
    """The conditionals of a joint law, ``(K, ..., K)``."""
    marginals = log_marginals(log_joint)
    sites = [_given_others(marginals, axis) for axis in range(log_joint.dim())]
    return Tabular(torch.stack(sites, -2))


def inconsistent(log_joint: Tensor, scale: float, *, generator: torch.Generator) -> Tabular:
    """Conditionals with independent normal errors in every logit.

    Arguments:
        log_joint: The law that they err about, ``(K, ..., K)``.
        scale: Standard deviation of the errors.
        generator: Source of the errors.
    """
    table = consistent(log_joint).table
    errors = torch.randn(table.shape, generator=generator, dtype=table.dtype)
    return Tabular((table + scale * errors).log_softmax(-1))


class MarginalRatio(Potential):
    r"""The optimal discriminator, :math:`W(x_S) = q(x_S) / p(x_S)`.

    Both marginals are of finished objects masked again, which is what a discriminator is
    trained on.

    Arguments:
        log_target: :math:`\log q`, ``(K, ..., K)``.
        log_model: :math:`\log p`, the law of the samples, ``(K, ..., K)``.
    """

    def __init__(self, log_target: Tensor, log_model: Tensor) -> None:
        super().__init__()
        self.table = log_marginals(log_target) - log_marginals(log_model)

    def forward(self, sites: Tensor) -> Tensor:
        """The log-ratio."""
        return _entries(self.table, sites)

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """One look for each class."""
        return per_class(self, sites, positions, allowed)


def law(base: Conditionals, dimension: int, num_classes: int) -> Tensor:
    r"""Exact :math:`\log p(x \mid \sigma)` of all objects in all orders, ``(D!, K^D)``."""
    x = objects(dimension, num_classes)
    every = orders(dimension)
    rows = x.repeat(len(every), 1), every.repeat_interleave(len(x), 0)
    return log_prob(base, *rows).view(len(every), len(x))


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`\frac12 \sum_x |p(x) - q(x)|` of laws ``(..., M)``."""
    return (p - q).abs().sum(-1) / 2
