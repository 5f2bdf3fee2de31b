"""How much a draw costs: rows that networks are given."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ardm_guidance.models.once import Once
from ardm_guidance.models.trunks import Trunk

__all__ = ["Evaluations", "evaluations"]


class Evaluations:
    """Network evaluations so far: each is one row of one call."""

    def __init__(self) -> None:
        self.rows = 0

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its rows counted."""

        def count(sites: Any, *arguments: Any) -> Any:
            self.rows += len(sites)
            return function(sites, *arguments)

        return count


@contextmanager
def evaluations(*modules: nn.Module) -> Iterator[Evaluations]:
    """Count the rows that the trunks within modules are given.

    Arguments:
        modules: Models and potentials; a trunk that two of them share is counted once a call,
            and what :class:`~ardm_guidance.models.once.Once` has kept isn't counted.
    """
    total = Evaluations()
    trunks = {id(one): one for module in modules for one in _trunks(module)}
    for trunk in trunks.values():
        # Instance attributes hide the methods of the class until they are taken away.
        vars(trunk)["states"] = total.counted(trunk.states)
        vars(trunk)["states_at"] = total.counted(trunk.states_at)
    try:
        yield total
    finally:
        for trunk in trunks.values():
            del vars(trunk)["states"], vars(trunk)["states_at"]


def _trunks(module: nn.Module) -> Iterator[Trunk]:
    """The trunks that compute, not what asks them."""
    if not isinstance(module, Once) and isinstance(module, Trunk):
        yield module
        return
    for child in module.children():
        yield from _trunks(child)
