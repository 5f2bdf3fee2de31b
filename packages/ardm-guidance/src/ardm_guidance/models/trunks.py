"""What the package asks of a network: answers for one site, and states below its heads."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["Pointed", "Trunk", "TrunkSettings"]


@runtime_checkable
class Pointed(Protocol):
    """A network that can answer for one site of each object, for less than for all."""

    def at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Logits ``(B, K)`` at sites ``(B,)`` of partial objects ``(B, D)``."""
        ...


class TrunkSettings(NamedTuple):
    """What heads on a trunk must know of it."""

    width: int
    pair_width: int
    num_node_classes: int
    num_edge_classes: int


@runtime_checkable
class Trunk(Protocol):
    """A network below its heads: states of the nodes and of the pairs of partial graphs."""

    @property
    def settings(self) -> TrunkSettings:
        """Widths and numbers of classes."""
        ...

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        """What it has above its states; frozen where others are put there."""
        ...

    def states(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        """All states, ``(B, n, width)``, ``(B, E, pair_width)``."""
        ...

    def states_at(self, sites: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Those of one site of each graph, ``(B, width)``, ``(B, pair_width)``."""
        ...
