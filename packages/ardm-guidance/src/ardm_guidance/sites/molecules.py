r"""Molecules as graphs of sites.

Atoms are nodes whose class is an *(element, formal charge)* pair; bonds are edges of
order 0 to 3 of the kekulised structure.  Hydrogens are implicit: an atom is completed
by the hydrogens that RDKit gives it for its bonds and charge. What a graph of sites cannot hold
is told: stereo marks, isotopes and atom maps are taken off and counted, radicals and hydrogens
that the bonds do not imply are refused.

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
from typing import Any, Literal, NamedTuple

import torch
from rdkit import Chem, rdBase
from torch import Tensor

from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.graphs import PAD, node_count, pairs, to_dense

__all__ = [
    "QM9_ATOM_TYPES",
    "AtomType",
    "Fragments",
    "MoleculeAlphabet",
    "canonical_smiles",
    "choose_fragments",
    "read_counting",
    "read_smiles",
]

Fragments = Literal["reject", "largest", "keep"]

QM9_ATOM_TYPES = ("C", "N", "O", "F", "N+", "O-", "C-", "N-")

_BONDS = (
    Chem.BondType.ZERO,
    Chem.BondType.SINGLE,
    Chem.BondType.DOUBLE,
    Chem.BondType.TRIPLE,
)
# RDKit recurses along a molecule and ends the process where one is too long.
_LONGEST = 2000
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
        shell = number - self.charge
        capacity = max(table.GetValenceList(shell)) if shell > 0 else -1
        # Ions such as Na+ and Cl- have the shell of a noble gas, and no bond at all.
        if capacity < (0 if self.charge else 1):
            raise ValueError(f"the valence of {self.symbol} with charge {self.charge} is unknown")
        return int(capacity)


def read_smiles(smiles: str) -> Chem.Mol:
    """Read a SMILES and take off what no graph of sites holds; see :func:`read_counting`.

    Raises:
        ValueError: RDKit cannot read it, or there is no atom in it.
    """
    return read_counting(smiles)[0]


def read_counting(smiles: str) -> tuple[Chem.Mol, tuple[str, ...]]:
    """Read a SMILES; tell what was taken off: stereo marks, isotopes, atom maps.

    Arguments:
        smiles: A SMILES.

    Returns:
        The molecule, and those of ``"stereo"``, ``"isotopes"`` and ``"atom maps"`` it has lost.

    Raises:
        ValueError: RDKit cannot read it, or there is no atom in it.
    """
    if len(smiles) > _LONGEST:
        raise ValueError(f"{len(smiles)} characters, at most {_LONGEST} are read")
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"not a molecule: {smiles!r}")
    if molecule.GetNumAtoms() == 0:
        raise ValueError("no atoms")
    lost = [name for name, take_off in _TAKEN_OFF.items() if take_off(molecule)]
    if lost:
        # An isotope of hydrogen is an atom of its own; without its mark it is one no longer.
        molecule = Chem.RemoveHs(molecule)
    return molecule, tuple(lost)


def _take_stereo(molecule: Chem.Mol) -> bool:
    bonds = any(bond.GetStereo() != Chem.BondStereo.STEREONONE for bond in molecule.GetBonds())
    atoms = any(
        atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED for atom in molecule.GetAtoms()
    )
    if bonds or atoms:
        Chem.RemoveStereochemistry(molecule)
    return bonds or atoms


def _take_isotopes(molecule: Chem.Mol) -> bool:
    marked = [atom for atom in molecule.GetAtoms() if atom.GetIsotope()]
    for atom in marked:
        atom.SetIsotope(0)
    return bool(marked)


def _take_maps(molecule: Chem.Mol) -> bool:
    marked = [atom for atom in molecule.GetAtoms() if atom.GetAtomMapNum()]
    for atom in marked:
        atom.SetAtomMapNum(0)
    return bool(marked)


_TAKEN_OFF = {"stereo": _take_stereo, "isotopes": _take_isotopes, "atom maps": _take_maps}


def choose_fragments(molecule: Chem.Mol, fragments: Fragments) -> Chem.Mol:
    """What is done about a molecule of several pieces, such as a salt.

    Arguments:
        molecule: The molecule.
        fragments: ``reject`` it, take the ``largest`` piece (by heavy atoms, the first of equals),
            or ``keep`` all.

    Raises:
        ValueError: It is to be rejected.
    """
    pieces = Chem.GetMolFrags(molecule, asMols=True)
    if len(pieces) == 1 or fragments in _KEPT:
        return molecule
    if fragments in _REJECTED:
        raise ValueError(f"{len(pieces)} fragments")
    largest: Chem.Mol = max(pieces, key=lambda piece: piece.GetNumHeavyAtoms())
    return largest


_KEPT, _REJECTED = ("keep",), ("reject",)


def canonical_smiles(molecule: Chem.Mol) -> str:
    """The canonical SMILES."""
    return str(Chem.MolToSmiles(molecule))


def _check_hydrogens(molecule: Chem.Mol) -> None:
    """Refuse hydrogens that bonds and charges don't imply: they would be lost."""
    plain = Chem.Mol(molecule)
    for atom in plain.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    plain.UpdatePropertyCache(strict=False)
    for own, implied in zip(molecule.GetAtoms(), plain.GetAtoms(), strict=True):
        if own.GetTotalNumHs() != implied.GetTotalNumHs():
            raise ValueError(
                f"atom {own.GetSymbol()} has {own.GetTotalNumHs()} hydrogens,"
                f" its bonds imply {implied.GetTotalNumHs()}"
            )


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

    __str__ = in_a_line

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
        if not self.aromatic:
            _check_hydrogens(written)
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
