r"""Many substructures at once: a fingerprint rules most of them out before any search.

A pattern fingerprint sets bits for small subgraphs, such that a substructure's bits are
among those of every molecule that has it.  What is left after the bits is searched for as always,
so that the answer is the same.

References:
    RDKit's substructure screening; Landrum et al., the RDKit documentation, "Pattern fingerprints".
"""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, DataStructs

__all__ = ["Screened"]

_BITS = 2048


def _bits(molecule: Chem.Mol) -> NDArray[np.uint8]:
    bits = np.zeros(_BITS, np.uint8)
    DataStructs.ConvertToNumpyArray(Chem.PatternFingerprint(molecule, fpSize=_BITS), bits)
    return np.packbits(bits)


class Screened(Sequence[Chem.Mol]):
    """Substructures with their fingerprints.

    Arguments:
        patterns: What to look for.
    """

    def __init__(self, patterns: Sequence[Chem.Mol]) -> None:
        self.patterns = tuple(patterns)
        rows = [_bits(pattern) for pattern in self.patterns]
        self._rows = np.stack(rows) if rows else np.zeros((0, _BITS // 8), np.uint8)

    @overload
    def __getitem__(self, index: int) -> Chem.Mol: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Chem.Mol]: ...
    def __getitem__(self, index: int | slice) -> Chem.Mol | Sequence[Chem.Mol]:
        return self.patterns[index]

    def __len__(self) -> int:
        return len(self.patterns)

    def found_in(self, molecule: Chem.Mol) -> Iterator[Chem.Mol]:
        """The substructures that a molecule has."""
        own = _bits(molecule)
        possible = ((self._rows & own) == self._rows).all(-1)
        for index in possible.nonzero()[0].tolist():
            if molecule.HasSubstructMatch(self.patterns[index]):
                yield self.patterns[index]
