r"""Molecules as graphs of sites.

Atoms are nodes whose class is an *(element, formal charge)* pair; bonds are edges of
order 0 to 3 of the kekulised structure.  Hydrogens are implicit: an atom is completed
by the hydrogens that its largest valence leaves room for, which makes the round trip
exact for molecules without radicals, stereo marks and isotopes.

The largest number of bonds of an atom with charge :math:`q` is that of the neutral
element with as many electrons (:math:`N^+` binds as carbon, :math:`O^-` as fluorine).

The *aromatic* encoding of published models, a bond class for aromatic bonds and no charges, is
offered to replicate them: molecules with a charge or with a hydrogen on an aromatic nitrogen
(6 % of QM9's, 10 % of MOSES') don't survive it, and valences cannot be checked on partial graphs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from rdkit import Chem, rdBase
from torch import Tensor

from ardm_guidance.graphs import PAD, Graphs, node_count, to_dense, to_sites

__all__ = ["QM9_ATOM_TYPES", "AtomType", "MoleculeAlphabet", "canonical_smiles", "read_smiles"]

QM9_ATOM_TYPES = ("C", "N", "O", "F", "N+", "O-", "C-", "N-")

_BONDS = (
    Chem.BondType.ZERO,
    Chem.BondType.SINGLE,
    Chem.BondType.DOUBLE,
    Chem.BondType.TRIPLE,
)
_AROMATIC = Chem.BondType.AROMATIC


class AtomType(NamedTuple):
    """An element with a formal charge."""

    symbol: str
    charge: int

    @classmethod
    def parse(cls, text: str) -> "AtomType":
        """Read ``"N"``, ``"N+"``, ``"O-"`` or ``"S+2"``."""
        match = re.fullmatch(r"([A-Z][a-z]?)(?:([+-])(\d*))?", text)
        if match is None:
            raise ValueError(f"expected an atom type such as C, N+ or O-, got {text!r}")
        symbol, sign, digits = match.groups()
        return cls(symbol, int(f"{sign}{digits or 1}") if sign else 0)

    @property
    def capacity(self) -> int:
        """Largest number of bonds."""
        table = Chem.GetPeriodicTable()
        try:
            number = table.GetAtomicNumber(self.symbol)
        except RuntimeError as error:
            raise ValueError(f"no element has the symbol {self.symbol!r}") from error
        capacity = max(table.GetValenceList(number - self.charge))
        if capacity < 1:
            raise ValueError(f"the valence of {self.symbol} with charge {self.charge} is unknown")
        return int(capacity)


def read_smiles(smiles: str) -> Chem.Mol:
    """Read a SMILES and take stereo marks off.

    Raises:
        ValueError: RDKit cannot read it, or there is no atom in it.
    """
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"not a molecule: {smiles!r}")
    if molecule.GetNumAtoms() == 0:
        raise ValueError("no atoms")
    Chem.RemoveStereochemistry(molecule)
    return molecule


def canonical_smiles(molecule: Chem.Mol) -> str:
    """The canonical SMILES."""
    return str(Chem.MolToSmiles(molecule))


@dataclass(frozen=True)
class MoleculeAlphabet:
    """The atom classes of a data set, and molecules in them.

    Arguments:
        atom_types: Such as ``("C", "N", "O-")``; class ``k`` is the ``k``-th.
        max_atoms: Heavy atoms of the largest molecule.
        aromatic: Encode aromatic bonds by a class of their own and drop charges, as
            published models do.
    """

    atom_types: Sequence[str] = QM9_ATOM_TYPES
    max_atoms: int = 9
    aromatic: bool = False

    def __post_init__(self) -> None:
        if len(set(self.atom_types)) != len(self.atom_types) or not self.atom_types:
            raise ValueError(f"atom_types must be distinct, got {list(self.atom_types)}")
        if self.max_atoms < 1:
            raise ValueError(f"max_atoms must be at least 1, got {self.max_atoms}")
        if self.aromatic and any(kind.charge for kind in self.types):
            raise ValueError("the aromatic encoding has no charges; give neutral atom_types")
        _ = self.capacities

    @cached_property
    def types(self) -> tuple[AtomType, ...]:
        """The parsed atom types."""
        return tuple(AtomType.parse(text) for text in self.atom_types)

    @cached_property
    def capacities(self) -> tuple[int, ...]:
        """Largest number of bonds of each atom class."""
        return tuple(kind.capacity for kind in self.types)

    @cached_property
    def _classes(self) -> dict[AtomType, int]:
        return {kind: index for index, kind in enumerate(self.types)}

    @property
    def num_atom_classes(self) -> int:
        """Number of atom classes."""
        return len(self.atom_types)

    @property
    def num_bond_classes(self) -> int:
        """Number of bond classes, "no bond" among them."""
        return len(self._bonds)

    @cached_property
    def _bonds(self) -> tuple[Any, ...]:
        return (*_BONDS, _AROMATIC) if self.aromatic else _BONDS

    def _type(self, atom: Chem.Atom) -> AtomType:
        return AtomType(atom.GetSymbol(), 0 if self.aromatic else atom.GetFormalCharge())

    def encode(self, molecule: Chem.Mol) -> Tensor:
        """Sites of a molecule, ``(D,)`` with ``max_atoms`` nodes.

        Raises:
            ValueError: The molecule has no place in this alphabet.
        """
        self._check(molecule)
        written = Chem.Mol(molecule)
        if not self.aromatic:
            Chem.Kekulize(written, clearAromaticFlags=True)
        graph = Graphs(
            torch.full((self.max_atoms,), PAD), torch.full((self.max_atoms, self.max_atoms), PAD)
        )
        self._fill(graph, written)
        return to_sites(graph)

    def _check(self, molecule: Chem.Mol) -> None:
        if molecule.GetNumAtoms() > self.max_atoms:
            raise ValueError(f"{molecule.GetNumAtoms()} heavy atoms, at most {self.max_atoms} fit")
        for atom in molecule.GetAtoms():
            if self._type(atom) not in self._classes:
                charge = f"{atom.GetFormalCharge():+d}" if atom.GetFormalCharge() else ""
                raise ValueError(f"atom {atom.GetSymbol()}{charge} is not among the atom types")
            if atom.GetNumRadicalElectrons():
                raise ValueError(f"atom {atom.GetSymbol()} is a radical")

    def _fill(self, graph: Graphs, molecule: Chem.Mol) -> None:
        size = molecule.GetNumAtoms()
        graph.edges[:size, :size] = 0
        for i, atom in enumerate(molecule.GetAtoms()):
            graph.nodes[i] = self._classes[self._type(atom)]
        for bond in molecule.GetBonds():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            if bond.GetBondType() not in self._bonds[1:]:
                raise ValueError(f"bond type {bond.GetBondType()} has no class")
            graph.edges[i, j] = graph.edges[j, i] = self._bonds.index(bond.GetBondType())

    def structure(self, sites: Tensor) -> Chem.RWMol:
        """The unchecked molecule of complete sites, ``(D,)``."""
        size = int((sites[: node_count(sites.shape[-1])] != PAD).sum())
        nodes, edges = to_dense(sites)
        molecule = Chem.RWMol()
        for index in nodes[:size].tolist():
            atom = Chem.Atom(self.types[index].symbol)
            atom.SetFormalCharge(self.types[index].charge)
            molecule.AddAtom(atom)
        for i, j in edges[:size, :size].clamp(min=0).triu(1).nonzero().tolist():
            self._add_bond(molecule, i, j, self._bonds[int(edges[i, j])])
        return molecule

    def _add_bond(self, molecule: Chem.RWMol, i: int, j: int, kind: Any) -> None:
        molecule.AddBond(i, j, kind)
        if kind == _AROMATIC:
            molecule.GetBondBetweenAtoms(i, j).SetIsAromatic(True)
            for end in (i, j):
                molecule.GetAtomWithIdx(end).SetIsAromatic(True)

    def decode(self, sites: Tensor) -> Chem.Mol | None:
        """The molecule of complete sites, or none where RDKit finds it invalid."""
        molecule = self.structure(sites).GetMol()
        with rdBase.BlockLogs():
            failed = Chem.SanitizeMol(molecule, catchErrors=True)
        return None if failed != Chem.SanitizeFlags.SANITIZE_NONE else molecule

    def smiles(self, sites: Tensor) -> str:
        """Canonical SMILES of complete sites; of the unchecked structure where invalid."""
        return canonical_smiles(self.decode(sites) or self.structure(sites))
