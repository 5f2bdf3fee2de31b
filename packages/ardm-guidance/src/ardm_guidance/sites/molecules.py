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

from ardm_guidance.sites.graphs import PAD, node_count, pairs, to_dense

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
            with rdBase.BlockLogs():
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

    References:
        Weininger (1988), SMILES, a chemical language, for the valence model of implicit hydrogens.
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
        if molecule.GetNumAtoms() > self.max_atoms:
            raise ValueError(f"{molecule.GetNumAtoms()} heavy atoms, at most {self.max_atoms} fit")
        nodes = [self._class(atom) for atom in molecule.GetAtoms()]
        written = Chem.Mol(molecule)
        if not self.aromatic:
            Chem.Kekulize(written, clearAromaticFlags=True)
        # Lists: writing single entries of a tensor would take most of the time of reading a file.
        edges = list(self._no_bonds[len(nodes)])
        for bond in written.GetBonds():
            i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            edges[i * (2 * self.max_atoms - i - 1) // 2 + j - i - 1] = self._bond_class(bond)
        return torch.tensor(nodes + [PAD] * (self.max_atoms - len(nodes)) + edges)

    @cached_property
    def _no_bonds(self) -> list[list[int]]:
        """Pairs without bonds of molecules of each size, padding among them."""
        i, j = pairs(self.max_atoms)
        return [
            torch.where(torch.maximum(i, j) < size, 0, PAD).tolist()
            for size in range(self.max_atoms + 1)
        ]

    def _class(self, atom: Chem.Atom) -> int:
        found = self._classes.get(self._type(atom))
        if found is None:
            charge = f"{atom.GetFormalCharge():+d}" if atom.GetFormalCharge() else ""
            raise ValueError(f"atom {atom.GetSymbol()}{charge} is not among the atom types")
        if atom.GetNumRadicalElectrons():
            raise ValueError(f"atom {atom.GetSymbol()} is a radical")
        return found

    @cached_property
    def _bond_classes(self) -> dict[Any, int]:
        return {kind: index for index, kind in enumerate(self._bonds) if index}

    def _bond_class(self, bond: Chem.Bond) -> int:
        found = self._bond_classes.get(bond.GetBondType())
        if found is None:
            raise ValueError(f"bond type {bond.GetBondType()} has no class")
        return found

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
