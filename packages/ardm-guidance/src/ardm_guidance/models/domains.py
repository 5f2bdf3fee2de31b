"""Kinds of objects: what a model must know of them, and nothing that is a molecule's alone.

An object is a row of categorical sites with a size; sites beyond its size are
:data:`~ardm_guidance.sites.graphs.PAD`, and those that are not generated yet
:data:`~ardm_guidance.sites.graphs.MASK`. Everything else, from what may stand at a site to how a
finished object is written, is its domain's.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ardm_guidance.models.networks import check_network
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.constraints import Connectivity, Constraint, Valence
from ardm_guidance.sites.graphs import masked_graphs, site_count, sizes
from ardm_guidance.sites.molecules import MoleculeAlphabet
from ardm_guidance.sites.strain import Unstrained

__all__ = ["Domain", "MoleculeGraphs"]


@runtime_checkable
class Domain(Protocol):
    """A kind of objects."""

    @property
    def max_size(self) -> int:
        """Size of the largest object."""
        ...

    @property
    def num_sites(self) -> int:
        """Sites of the largest object, D."""
        ...

    def check(self, network: nn.Module) -> None:
        """Refuse a network whose numbers don't follow from the domain, by ``ValueError``."""
        ...

    def constraints(self) -> Sequence[Constraint]:
        """What every conditional keeps to, in training too: cheap, and true of all the data."""
        ...

    def look_ahead(self) -> Sequence[Constraint]:
        """What tests and samples keep to: those of :meth:`constraints`, or sharper ones."""
        ...

    def empty(self, sizes: Tensor) -> Tensor:
        """Objects of some sizes, ``(B,)``, of which nothing is generated yet, ``(B, D)``."""
        ...

    def sizes(self, sites: Tensor) -> Tensor:
        """Sizes of objects, ``(..., D)``, whatever is shown of them, ``(...)``."""
        ...

    def columns(self, sites: Tensor) -> dict[str, str | int]:
        """How a finished object, ``(D,)``, is written to a table: its text first."""
        ...


class MoleculeGraphs:
    """Molecules as graphs, written as SMILES.

    Arguments:
        alphabet: Their atom classes and largest size.
        connected: Look ahead to connected molecules.
        unstrained: Look ahead to molecules without a triple bond in a ring of three to six atoms.
    """

    __str__ = in_a_line

    def __init__(
        self, alphabet: MoleculeAlphabet, *, connected: bool = True, unstrained: bool = False
    ) -> None:
        self.alphabet, self.connected, self.unstrained = alphabet, connected, unstrained

    @property
    def max_size(self) -> int:
        """Heavy atoms of the largest molecule."""
        return self.alphabet.max_atoms

    @property
    def num_sites(self) -> int:
        """Atoms and pairs of the largest molecule."""
        return site_count(self.alphabet.max_atoms)

    def check(self, network: nn.Module) -> None:
        """Refuse a graph transformer of other classes or too few atoms."""
        check_network(network, self.alphabet)

    def constraints(self) -> list[Constraint]:
        """Valences; of aromatic bonds they depend on the whole ring, and can't be checked."""
        return [] if self.alphabet.aromatic else [Valence(self.alphabet.capacities)]

    def look_ahead(self) -> list[Constraint]:
        """Valences and what is asked for besides."""
        capacities = self.alphabet.capacities
        if self.alphabet.aromatic:
            return []
        found: list[Constraint] = [(Connectivity if self.connected else Valence)(capacities)]
        return [*found, Unstrained(len(capacities))] if self.unstrained else found

    def empty(self, sizes: Tensor) -> Tensor:
        """Molecules of some numbers of atoms, nothing of them known."""
        return masked_graphs(sizes, self.alphabet.max_atoms)

    def sizes(self, sites: Tensor) -> Tensor:
        """Numbers of atoms."""
        return sizes(sites)

    def columns(self, sites: Tensor) -> dict[str, str | int]:
        """``smiles``, of the unchecked structure where it is invalid, and ``num_atoms``."""
        return {"smiles": self.alphabet.smiles(sites), "num_atoms": int(sizes(sites))}
