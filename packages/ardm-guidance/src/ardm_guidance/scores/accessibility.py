r"""Synthetic accessibility of molecules.

The score of a molecule with :math:`a` atoms is the mean frequency score of its circular
fragments, less penalties for size, stereo centres, spiro and bridgehead atoms and rings of more
than eight atoms, with a bonus for symmetry; mapped onto 1 (easy) to 10 (hard).

References:
    Ertl & Schuffenhauer, J. Cheminformatics 1:8 (2009); symmetry as in RDKit's contribution,
    from which the frequencies come.
"""

import gzip
import io
import pickle
from functools import lru_cache
from math import log, log10
from pathlib import Path
from typing import Any

from rdkit import Chem, RDConfig
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

__all__ = ["synthetic_accessibility"]

_RARE = -4.0
_LOWEST, _HIGHEST = -4.0, 2.5


class _Plain(pickle.Unpickler):
    """Reads numbers and lists, and executes nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"expected plain numbers, found {module}.{name}")


@lru_cache(maxsize=1)
def _frequencies() -> dict[int, float]:
    """Score of each known fragment."""
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "fpscores.pkl.gz"
    groups = _Plain(io.BytesIO(gzip.decompress(path.read_bytes()))).load()
    return {fragment: float(score) for score, *fragments in groups for fragment in fragments}


@lru_cache(maxsize=1)
def _fragments() -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=2)


def synthetic_accessibility(molecule: Chem.Mol) -> float:
    """Score between 1 (easy) and 10 (hard).

    Arguments:
        molecule: Sanitised, with at least one atom.

    References:
        Ertl & Schuffenhauer (2009), Estimation of synthetic accessibility score.
    """
    counts = _fragments().GetSparseCountFingerprint(molecule).GetNonzeroElements()
    known = _frequencies()
    total = sum(known.get(fragment, _RARE) * count for fragment, count in counts.items())
    raw: float = total / sum(counts.values()) - _complexity(molecule)
    if molecule.GetNumAtoms() > len(counts):
        raw += 0.5 * log(molecule.GetNumAtoms() / len(counts))
    score = 11 - 9 * (raw - _LOWEST + 1) / (_HIGHEST - _LOWEST)
    if score > 8:
        score = 8 + log(score - 8)  # the hard end is compressed
    return min(max(score, 1.0), 10.0)


def _complexity(molecule: Chem.Mol) -> float:
    """Penalties of size and topology."""
    atoms = molecule.GetNumAtoms()
    centres = rdMolDescriptors.CalcNumAtomStereoCenters(molecule)
    spiro = rdMolDescriptors.CalcNumSpiroAtoms(molecule)
    bridgeheads = rdMolDescriptors.CalcNumBridgeheadAtoms(molecule)
    large = any(len(ring) > 8 for ring in molecule.GetRingInfo().AtomRings())
    counted = sum(log10(number + 1) for number in (centres, spiro, bridgeheads))
    return float(atoms**1.005 - atoms + counted + large * log10(2))
