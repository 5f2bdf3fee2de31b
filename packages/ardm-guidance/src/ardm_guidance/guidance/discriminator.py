r"""A discriminator of partial graphs with a one-pass look-ahead head.

Trained to tell real from generated objects of which some sites are masked, its logit is an
estimate of :math:`d(x_S) = \log q(x_S) - \log p_\theta(x_S)`.  A guided step needs
:math:`d(x_S \cup \{x_k = c\})` for *every* class :math:`c`, a network call for each.  The
look-ahead head answers them all from one call on :math:`x_S`: a logit for every
hidden site and class, trained on the classes that the object has there, so that one object
teaches it all its hidden sites at once,

.. math::
    \mathcal L = \mathrm{CE}\big(y, d(x_S)\big)
      + \frac{1}{|\bar S|} \sum_{k \notin S} \mathrm{CE}\big(y, d(x_S, k, x_k)\big).

The last site is looked ahead by calls on the complete objects, so that the law that
sequential Monte Carlo samples is tilted by :math:`W(x) = \exp d(x)`, whatever the path.

Logits are divided by a temperature, fitted on held-out objects: an over-confident
discriminator makes samples worse.

References:
    Ekström Kelvinius & Lindsten, "Discriminator Guidance for Autoregressive Diffusion Models",
    AISTATS 2024; for continuous diffusion, Kim et al., "Refining Generative Process with
    Discriminator Guidance in Score-based Diffusion Models", ICML 2023.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ardm_guidance.guidance.potentials import Potential, per_class
from ardm_guidance.models.networks import pick, widen
from ardm_guidance.models.trunks import Trunk
from ardm_guidance.sites.graphs import MASK, PAD, node_count

__all__ = ["Discriminator", "losses"]


class Discriminator(Potential):
    """Heads on a trunk that judge partial graphs: a value, and a look-ahead.

    The two are separate functions, trained on the same labels: the value judges an object, the
    look-ahead each object with one more site. The target of guided sampling is the value's
    on complete objects; the look-ahead only steers there.

    The heads start at zero, which is no guidance at all. On a trunk that isn't trained with them,
    they need layers of their own to judge by what the generator has no use for.

    Arguments:
        trunk: Its states are read; start it from the generator's weights.
        head_width: Features of two layers under the heads; none, and the heads are linear.
    """

    temperature: Tensor

    def __init__(self, trunk: Trunk, head_width: int | None = None) -> None:
        super().__init__()
        self.trunk, self.head_width = trunk, head_width
        # Only the states are read; DDP refuses trainable weights without a gradient.
        for unused in trunk.heads:
            unused.requires_grad_(False)
        width, pair_width, num_node_classes, num_edge_classes = trunk.settings
        self.node_norm, self.pair_norm = nn.LayerNorm(width), nn.LayerNorm(pair_width)
        self.node_body, self.pair_body = (
            _body(features, head_width) for features in (width, pair_width)
        )
        width, pair_width = head_width or width, head_width or pair_width
        self.value = nn.Linear(width + pair_width, 1)
        self.node_ahead = nn.Linear(width, num_node_classes)
        self.edge_ahead = nn.Linear(pair_width, num_edge_classes)
        for head in (self.value, self.node_ahead, self.edge_ahead):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.register_buffer("temperature", torch.ones(()))

    def _states(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        h, e = self.trunk.states(sites)
        return self._read(h, e)

    def _read(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        return self.node_body(self.node_norm(h)), self.pair_body(self.pair_norm(e))

    def _value(self, sites: Tensor, h: Tensor, e: Tensor) -> Tensor:
        present = (sites != PAD).unsqueeze(-1)
        n = node_count(sites.shape[-1])
        pooled = [_mean(h, present[:, :n]), _mean(e, present[:, n:])]
        value: Tensor = self.value(torch.cat(pooled, -1))[:, 0]
        return value

    def _ahead(self, h: Tensor, e: Tensor) -> Tensor:
        return widen(self.node_ahead(h), self.edge_ahead(e))

    def logits(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        """Untempered logits of objects and look-ahead, ``(B,)`` and ``(B, D, K)``."""
        h, e = self._states(sites)
        return self._value(sites, h, e), self._ahead(h, e)

    def forward(self, sites: Tensor) -> Tensor:
        """The tempered logit of each object, ``(B,)``."""
        return self._value(sites, *self._states(sites)).double() / self.temperature

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """Logits after each class at one position, from one call but for the last site."""
        hidden = sites == MASK
        # Sites that are shown, as the ends of smaller molecules are, have nothing to be asked.
        last = hidden.gather(-1, positions[:, None])[:, 0] & (hidden.sum(-1) == 1)
        h, e = self._read(*self.trunk.states_at(sites, positions))
        heads = self.node_ahead(h), self.edge_ahead(e)
        ahead = pick(*heads, positions, node_count(sites.shape[-1]))
        values = ahead.double() / self.temperature
        values = values.masked_fill(~allowed, -torch.inf)
        if not bool(last.any()):
            return values
        rows = sites[last], positions[last], allowed[last]
        return values.index_put((last,), per_class(self, *rows))


def _body(features: int, width: int | None) -> nn.Module:
    """Two layers, or none."""
    if width is None:
        return nn.Identity()
    inner, outer = nn.Linear(features, width), nn.Linear(width, width)
    return nn.Sequential(inner, nn.GELU(), outer, nn.GELU())


def _mean(states: Tensor, present: Tensor) -> Tensor:
    """Mean over present rows, zero without any, ``(B, C)``."""
    return (states * present).sum(1) / present.sum(1).clamp(min=1)


def losses(discriminator: Discriminator, sites: Tensor, partial: Tensor, real: Tensor) -> Tensor:
    """Cross-entropies of the value and of the look-ahead, ``(B, 2)``, in nats.

    Arguments:
        discriminator: What is trained.
        sites: Complete objects, ``(B, D)``.
        partial: The same with some sites masked.
        real: 1 for real objects, 0 for generated ones, ``(B,)``.

    References:
        Sugiyama, Suzuki & Kanamori (2012), Density Ratio Estimation, chapter 4.
    """
    value, ahead = discriminator.logits(partial)
    hidden = partial == MASK
    own = ahead.gather(-1, sites.clamp(min=0)[..., None])[..., 0].masked_fill(~hidden, 0.0)
    label = real[:, None].expand_as(own).to(own.dtype)
    entropy = functional.binary_cross_entropy_with_logits(own, label, reduction="none")
    mean_ahead = (entropy * hidden).sum(-1) / hidden.sum(-1).clamp(min=1)
    plain = functional.binary_cross_entropy_with_logits(
        value, real.to(value.dtype), reduction="none"
    )
    return torch.stack([plain, mean_ahead], -1)
