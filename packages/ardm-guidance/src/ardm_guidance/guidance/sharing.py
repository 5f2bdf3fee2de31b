"""One trunk under a generator and its guides, for as long as objects are drawn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn

from ardm_guidance.guidance.discriminator import Discriminator
from ardm_guidance.guidance.potentials import Potential
from ardm_guidance.models.once import Once
from ardm_guidance.models.trunks import Trunk

__all__ = ["Averaged", "same_weights", "shared_trunks"]


class Averaged(Protocol):
    """A generator: the network that is sampled."""

    average: nn.Module


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Whether two modules have the same weights, name by name and bit by bit."""
    ours, others = first.state_dict(), second.state_dict()
    return ours.keys() == others.keys() and all(
        value.shape == others[name].shape
        and torch.equal(value, others[name].to(value.device, value.dtype))
        for name, value in ours.items()
    )


@contextmanager
def shared_trunks(
    generator: Averaged,
    potential: Potential | None,
    prepare: Callable[[Trunk], Trunk] | None = None,
) -> Iterator[int]:
    """Ask each trunk once, also where the generator and its guides have the same one.

    Equal weights are what makes two trunks the same, as where a discriminator's heads were trained
    on the generator's states (``MoleculeDiscriminator(freeze_trunk=True)``).

    Arguments:
        generator: Holds the network that is sampled; one that is no trunk is left alone.
        potential: Whose discriminators are looked for, at any depth.
        prepare: Makes of a trunk what is asked in its place, such as
            :class:`~ardm_guidance.models.quick.Quick`.

    Yields:
        The number of trunks that differ.
    """
    inside = [] if potential is None else list(potential.modules())
    holders: list[tuple[nn.Module | Averaged, str]] = [(generator, "average")]
    holders += [(one, "trunk") for one in inside if isinstance(one, Discriminator)]
    before = [(holder, name, getattr(holder, name)) for holder, name in holders]
    made: list[tuple[nn.Module, Once]] = []
    try:
        for holder, name, trunk in before:
            if isinstance(trunk, Trunk):
                setattr(holder, name, _found(trunk, made, prepare))
        yield len(made)
    finally:
        for holder, name, trunk in before:
            setattr(holder, name, trunk)


def _found(
    trunk: Trunk, made: list[tuple[nn.Module, Once]], prepare: Callable[[Trunk], Trunk] | None
) -> Once:
    """What asks a trunk of these weights; made anew where there is none yet."""
    assert isinstance(trunk, nn.Module)
    for known, asking in made:
        if same_weights(known, trunk):
            return asking
    made.append((trunk, Once(prepare(trunk) if prepare else trunk)))
    return made[-1][1]
