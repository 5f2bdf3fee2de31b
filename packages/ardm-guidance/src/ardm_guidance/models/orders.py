r"""Generation orders.

An order :math:`\sigma` visits every site of an object once; :math:`\sigma(t)` is the
site generated at step :math:`t = 0, \dots, D-1`.  Orders are ``(..., D)`` integer
tensors; sites that an object lacks (:data:`~ardm_guidance.sites.graphs.PAD`) come last, so
that the first :math:`D_b` entries are an order of object :math:`b` alone.

References:
    Uria, Murray & Larochelle, "A Deep and Tractable Density Estimator", ICML 2014.
"""

import torch
from torch import Tensor

from ardm_guidance.sites.graphs import PAD, node_count

__all__ = ["by_keys", "left_to_right", "nodes_first", "ranks", "uniform"]


def by_keys(sites: Tensor, keys: Tensor) -> Tensor:
    """Orders of increasing keys, padding last.

    Arguments:
        sites: Objects whose padding is to come last, ``(..., D)``.
        keys: One number per site, ``(..., D)``; independent uniform keys give uniform orders.
    """
    return keys.masked_fill(sites == PAD, torch.inf).argsort(dim=-1, stable=True)


def uniform(sites: Tensor, *, generator: torch.Generator) -> Tensor:
    """Orders drawn uniformly, one for each object.

    Arguments:
        sites: As in :func:`by_keys`.
        generator: Source of one key per site.
    """
    keys = torch.rand(sites.shape, generator=generator, device=sites.device)
    return by_keys(sites, keys)


def nodes_first(sites: Tensor, *, generator: torch.Generator) -> Tensor:
    """Orders uniform among those that visit all nodes of a graph before its edges."""
    keys = torch.rand(sites.shape, generator=generator, device=sites.device)
    edge = torch.arange(sites.shape[-1], device=sites.device) >= node_count(sites.shape[-1])
    return by_keys(sites, keys + edge)


def left_to_right(sites: Tensor) -> Tensor:
    """The identity order, with padding moved to the end."""
    keys = torch.arange(sites.shape[-1], device=sites.device, dtype=torch.get_default_dtype())
    return by_keys(sites, keys.expand(sites.shape))


def ranks(order: Tensor) -> Tensor:
    """Step at which each site is generated: the inverse permutation."""
    return order.argsort(dim=-1)
