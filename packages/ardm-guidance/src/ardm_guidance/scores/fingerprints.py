r"""Morgan fingerprints and Tanimoto similarities of sets of molecules.

With :math:`T(a, b) = |a \wedge b| / |a \vee b|` of the bits of two molecules (1 where neither has
any), the similarity to the nearest neighbour is :math:`\mathrm{mean}_g \max_r T(g, r)`, and the
internal diversity of order :math:`p` is

.. math:: 1 - \mathrm{mean}_g \Big( \mathrm{mean}_{h} T(g, h)^p \Big)^{1/p},

each molecule against all, itself included.

References:
    Polykovskiy et al., "Molecular Sets (MOSES)", Front. Pharmacol. 11 (2020).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor
from tqdm import tqdm

__all__ = ["internal_diversity", "morgan", "nearest_similarity"]

_BITS = 1024
_SLOW = 10**8  # pairs from which on progress is shown
Array = NDArray[np.float64]


@lru_cache(maxsize=1)
def _generator() -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=_BITS)


def morgan(molecules: Sequence[Chem.Mol]) -> Tensor:
    """Bits of radius 2, ``(N, 1024)``, as bytes.

    References:
        Rogers & Hahn (2010), Extended-connectivity fingerprints.
    """
    rows = [_generator().GetFingerprintAsNumPy(molecule) for molecule in molecules]
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, _BITS, dtype=torch.uint8)


Words = NDArray[np.uint64]
_ROWS, _COLUMNS = 4, 4096  # of a block, so that what is in work stays in the processor's cache


def _packed(bits: Tensor) -> Words:
    """Bits ``(N, 1024)`` as words of 64, ``(N, 16)``."""
    return np.packbits(bits.numpy(), axis=1).view(np.uint64)


def _in_common(a: Words, b: Words) -> NDArray[np.uint16]:
    """Bits that both of a pair have, ``(R, C)``, of rows ``(R, 16)`` and columns ``(16, C)``."""
    total = np.zeros((len(a), b.shape[1]), np.uint16)
    for own, others in zip(a.T, b, strict=True):
        total += np.bitwise_count(own[:, None] & others)
    return total


def _reduce(
    samples: Tensor, others: Tensor, combine: Callable[[Array, Array], Array], label: str
) -> Array:
    """Combine the similarities of each sample to all others, block by block, ``(N,)``."""
    rows, columns = _packed(samples), np.ascontiguousarray(_packed(others).T)
    sizes = [part.sum(1, dtype=torch.int64).numpy() for part in (samples, others)]
    total = np.zeros(len(rows))
    pairs = len(samples) * len(others)
    starts = tqdm(range(0, len(rows), _ROWS), desc=label, disable=pairs < _SLOW)
    for start in starts:
        chosen = slice(start, start + _ROWS)
        for first in range(0, columns.shape[1], _COLUMNS):
            block = slice(first, first + _COLUMNS)
            both = _in_common(rows[chosen], columns[:, block])
            either = sizes[0][chosen, None] + sizes[1][block] - both
            similarity = np.divide(both, either, out=np.ones(both.shape), where=either > 0)
            total[chosen] = combine(total[chosen], similarity)
    return total


def nearest_similarity(samples: Tensor, reference: Tensor) -> float:
    """Mean similarity of the samples to their nearest reference molecule.

    Arguments:
        samples: Bits, ``(N, C)``.
        reference: Bits, ``(M, C)``.
    """
    nearest = _reduce(
        samples, reference, lambda best, block: np.maximum(best, block.max(1)), "nearest neighbours"
    )
    return float(nearest.mean())


def internal_diversity(samples: Tensor, order: int = 1) -> float:
    """Diversity of samples among themselves.

    Arguments:
        samples: Bits, ``(N, C)``.
        order: Exponent :math:`p`.
    """
    total = _reduce(samples, samples, lambda sum_, block: sum_ + (block**order).sum(1), "diversity")
    return 1 - float(((total / len(samples)) ** (1 / order)).mean())
