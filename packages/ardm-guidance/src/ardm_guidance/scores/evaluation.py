r"""Scores of generated molecules.

Of :math:`n` samples, *valid* is the share that RDKit can read and sanitise,
*valid and connected* the share of these in one piece (RDKit finds ``CCO.O`` valid),
*unique* the share of distinct canonical SMILES among the valid and connected, *novel* the
share of the distinct ones that are not in the training set, and *V.U.N.* the
share of the :math:`n` that is all of it, duplicates counted once.

References:
    V.U.N. as in Martinkus et al., "SPECTRE: Spectral Conditioning Helps to Overcome the
    Expressivity Limits of One-shot Graph Generators", ICML 2022.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rdkit import Chem

from ardm_guidance.sites.molecules import canonical_smiles, read_counting

__all__ = ["Checked", "Scores", "check", "score"]


class Checked(NamedTuple):
    """What is wrong with a generated molecule.

    Attributes:
        smiles: Canonical without stereo marks, or as given where invalid.
        valid: RDKit reads it.
        num_fragments: Pieces, 0 where invalid.
        strained: A triple bond lies in a ring of 3 to 6 atoms: valid to RDKit, and to no chemist.
        removed: What was taken off, by name: ``stereo``, ``isotopes``, ``atom maps``.
    """

    smiles: str
    valid: bool
    num_fragments: int
    strained: bool = False
    removed: tuple[str, ...] = ()


class Scores(NamedTuple):
    """Shares, see the module; ``num_samples`` is :math:`n`.

    Attributes:
        num_samples: :math:`n`.
        valid: Of the samples.
        valid_connected: Of the samples.
        unique: Of the valid and connected.
        novel: Of the unique.
        vun: Of the samples.
        strained: Share of the valid and connected with a triple bond in a ring of 3 to 6 atoms.
    """

    num_samples: int
    valid: float
    valid_connected: float
    unique: float
    novel: float
    vun: float
    strained: float


def is_strained(molecule: Chem.Mol) -> bool:
    """Whether a triple bond lies in a ring of 3 to 6 atoms."""
    rings = molecule.GetRingInfo()
    return any(
        bond.GetBondType() == Chem.BondType.TRIPLE
        and any(rings.IsBondInRingOfSize(bond.GetIdx(), size) for size in range(3, 7))
        for bond in molecule.GetBonds()
    )


def check(smiles: str) -> Checked:
    """Read one generated SMILES."""
    try:
        molecule, removed = read_counting(smiles)
    except ValueError:
        return Checked(smiles, False, 0)
    canonical = canonical_smiles(molecule)
    return Checked(canonical, True, canonical.count(".") + 1, is_strained(molecule), removed)


def score(checked: Sequence[Checked], training: Collection[str]) -> Scores:
    """Score generated molecules.

    Arguments:
        checked: The samples, all of them, invalid ones too.
        training: Canonical SMILES of the training set.

    Raises:
        ValueError: There are no samples, or none is valid and connected.
    """
    whole = [item.smiles for item in checked if item.num_fragments == 1]
    if not whole:
        raise ValueError(f"no valid and connected molecule among {len(checked)} samples")
    distinct = set(whole)
    new = distinct.difference(training)
    return Scores(
        num_samples=len(checked),
        valid=sum(item.valid for item in checked) / len(checked),
        valid_connected=len(whole) / len(checked),
        unique=len(distinct) / len(whole),
        novel=len(new) / len(distinct),
        vun=len(new) / len(checked),
        strained=sum(item.strained for item in checked if item.num_fragments == 1) / len(whole),
    )
