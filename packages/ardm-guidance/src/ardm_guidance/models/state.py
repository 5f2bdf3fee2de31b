r"""Generation with memory: what a model keeps from one site of an object to the next.

A model that only answers for partial objects starts anew at every site.  One with a state can
keep what it has computed (the keys and values of a causal network, a recurrent cell) through

.. math:: s_0 = \mathrm{begin}(x), \quad p_\theta(x_{\sigma(t)} \mid s_t), \quad
          s_{t+1} = \mathrm{extend}(s_t, \sigma(t), x_{\sigma(t)}),

and sequential Monte Carlo carries the states of the particles along with ``select``.

References:
    Pannatier et al. (2024), σ-GPTs: a new approach to autoregressive models, arXiv:2404.09562,
    for any-order models with a cache.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Conditionals", "Stateful", "Stateless", "with_state"]


class Conditionals(Protocol):
    """The law of sites given the ones that are shown."""

    def log_probs_at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Log-probabilities ``(B, P, K)`` at positions ``(B, P)`` of partial objects ``(B, D)``."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Conditionals that keep a state for each object; ``state`` is whatever they like."""

    def begin(self, sites: Tensor) -> Any:
        """The state of partial objects, ``(B, D)``; sites that are shown count as given."""
        ...

    def log_probs(self, state: Any, at: Tensor) -> Tensor:
        """Log-probabilities of the classes at one site of each object, ``(B,)``, ``(B, K)``."""
        ...

    def extend(self, state: Any, at: Tensor, value: Tensor) -> Any:
        """The state once sites ``(B,)`` show classes ``(B,)``; of those shown before, the same."""
        ...

    def select(self, state: Any, rows: Tensor) -> Any:
        """The states of some objects, ``(B',)``, any of them several times."""
        ...


class Stateless:
    """A model without memory as one with: its state are the partial objects.

    Arguments:
        base: The model.
    """

    def __init__(self, base: Conditionals) -> None:
        self.base = base

    def begin(self, sites: Tensor) -> Tensor:
        """The objects, ``(B, D)``."""
        return sites

    def log_probs(self, state: Tensor, at: Tensor) -> Tensor:
        """What the model says, ``(B, K)``."""
        return self.base.log_probs_at(state, at[:, None])[:, 0]

    def extend(self, state: Tensor, at: Tensor, value: Tensor) -> Tensor:
        """The objects with one more site."""
        return state.scatter(-1, at[:, None], value[:, None])

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        """Rows of the objects."""
        return torch.index_select(state, 0, rows)


def with_state(base: "Conditionals | Stateful") -> Stateful:
    """The model's own memory, or none."""
    return base if isinstance(base, Stateful) else Stateless(base)
