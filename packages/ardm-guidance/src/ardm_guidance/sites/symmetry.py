r"""How many labelled graphs a molecule is.

A graph model gives probabilities to *labelled*, kekulised graphs.  A molecule of :math:`n` atoms
whose kekulised graph has the automorphisms :math:`\mathrm{Aut}` is :math:`n!/|\mathrm{Aut}|` of
them, all equally likely to a model that doesn't look at the labels, so that

.. math:: -\log p(\text{molecule}) \le -\log p(x) - \log \frac{n!}{|\mathrm{Aut}|}

for any one labelling and Kekulé form :math:`x`; further Kekulé forms only add to the probability.

References:
    Chen et al. (2021), Order matters: probabilistic modeling of node sequence for graph generation,
    arXiv:2106.06189.
"""

from math import lgamma, log, nan

from rdkit import Chem

__all__ = ["log_labellings"]

_MOST = 1_000_000


def log_labellings(molecule: Chem.Mol) -> float:
    r""":math:`\log(n!/|\mathrm{Aut}|)` of the kekulised graph; not a number beyond a million.

    Arguments:
        molecule: Without hydrogens of its own.
    """
    kekulised = Chem.Mol(molecule)
    Chem.Kekulize(kekulised, clearAromaticFlags=True)
    same = kekulised.GetSubstructMatches(kekulised, uniquify=False, maxMatches=_MOST)
    if len(same) >= _MOST:
        return nan
    return lgamma(molecule.GetNumAtoms() + 1) - log(len(same))
