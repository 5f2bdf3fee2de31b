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
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor

__all__ = ["internal_diversity", "morgan", "nearest_similarity"]

_BITS = 1024


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


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """Tanimoto similarities of all pairs, ``(N, M)``."""
    a, b = a.float(), b.float()
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    return torch.where(either > 0, both / either, 1.0)


def _reduce(
    samples: Tensor, others: Tensor, combine: Callable[[Tensor, Tensor], Tensor], size: int = 2048
) -> Tensor:
    """Combine the similarities of each sample to all others, block by block, ``(N,)``."""
    total = torch.zeros(len(samples), dtype=torch.float64)
    for rows in torch.split(torch.arange(len(samples)), size):
        for block in torch.split(others, size):
            total[rows] = combine(total[rows], _similarity(samples[rows], block).double())
    return total


def nearest_similarity(samples: Tensor, reference: Tensor) -> float:
    """Mean similarity of the samples to their nearest reference molecule.

    Arguments:
        samples: Bits, ``(N, C)``.
        reference: Bits, ``(M, C)``.
    """
    nearest = _reduce(samples, reference, lambda best, block: best.maximum(block.amax(1)))
    return float(nearest.mean())


def internal_diversity(samples: Tensor, order: int = 1) -> float:
    """Diversity of samples among themselves.

    Arguments:
        samples: Bits, ``(N, C)``.
        order: Exponent :math:`p`.
    """
    total = _reduce(samples, samples, lambda sum_, block: sum_ + (block**order).sum(1))
    return 1 - float(((total / len(samples)) ** (1 / order)).mean())
