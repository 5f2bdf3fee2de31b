"""Labelled graphs of a molecule, counted by hand and by trying all numberings."""

from itertools import permutations
from math import exp, factorial, isnan

import pytest
import torch
from rdkit import Chem

from ardm_guidance import MoleculeAlphabet
from ardm_guidance.sites.graphs import to_dense, to_sites
from ardm_guidance.sites.molecules import read_smiles
from ardm_guidance.sites.symmetry import log_labellings


@pytest.mark.parametrize(
    ("smiles", "automorphisms"),
    [("C", 1), ("CC", 2), ("CCO", 1), ("CC(C)(C)C", 24), ("C1CC1", 6), ("C1CCCCC1", 12),
     ("c1ccccc1", 6), ("C#N", 1), ("N#N", 2), ("CC(C)C", 6)],
)  # fmt: skip
def test_automorphisms_of_known_molecules(smiles, automorphisms):
    molecule = Chem.MolFromSmiles(smiles)
    count = factorial(molecule.GetNumAtoms()) / automorphisms
    assert exp(log_labellings(molecule)) == pytest.approx(count)


@pytest.mark.parametrize(
    "smiles",
    ["CC(=O)[O-]", "C[N+](C)(C)C", "C1CC1N", "O=C=O", "CN(C)C", "C1OC1C", "OCCO", "C=CC=C"],
)
def test_all_numberings_give_as_many_graphs(smiles):
    alphabet = MoleculeAlphabet(max_atoms=5)
    molecule = read_smiles(smiles)
    n = molecule.GetNumAtoms()
    dense = to_dense(MoleculeAlphabet(alphabet.atom_types, n).encode(molecule)[None])
    graphs = set()
    for order in map(torch.tensor, permutations(range(n))):
        nodes, edges = dense.nodes[:, order], dense.edges[:, order][:, :, order]
        graphs.add(tuple(to_sites(dense._replace(nodes=nodes, edges=edges))[0].tolist()))
    assert exp(log_labellings(molecule)) == pytest.approx(len(graphs))


def test_too_many_automorphisms_are_no_number():
    assert isnan(log_labellings(Chem.MolFromSmiles(".".join(["C"] * 10))))
