import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from ardm_guidance.data.files import read_molecules
from ardm_guidance.scores.fingerprints import internal_diversity, morgan, nearest_similarity
from ardm_guidance.sites.molecules import MoleculeAlphabet


@pytest.fixture(scope="module")
def smiles():
    return read_molecules("qm9-sample", MoleculeAlphabet()).smiles[:120]


def tanimoto(a, b):
    """By RDKit, one pair at a time."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    rows = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in a]
    others = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in b]
    table = [DataStructs.BulkTanimotoSimilarity(row, others) for row in rows]
    return torch.tensor(table, dtype=torch.float64)


def bits(smiles):
    return morgan([Chem.MolFromSmiles(text) for text in smiles])


def test_the_nearest_neighbour_is_that_of_rdkit(smiles):
    expected = tanimoto(smiles[:40], smiles[40:]).amax(1).mean()
    found = nearest_similarity(bits(smiles[:40]), bits(smiles[40:]))
    assert found == pytest.approx(float(expected), abs=1e-7)


@pytest.mark.parametrize("order", [1, 2])
def test_diversity_is_that_of_rdkit(smiles, order):
    table = tanimoto(smiles, smiles)
    expected = 1 - ((table**order).mean(1) ** (1 / order)).mean()
    assert internal_diversity(bits(smiles), order) == pytest.approx(float(expected), abs=1e-7)


def test_copies_have_no_diversity_and_a_perfect_neighbour(smiles):
    copies = bits(smiles[:1]).repeat(5, 1)
    assert internal_diversity(copies) == pytest.approx(0, abs=1e-12)
    assert nearest_similarity(copies, bits(smiles[:3])) == pytest.approx(1)


def test_molecules_without_bits_are_alike():
    nothing = torch.zeros(2, 1024, dtype=torch.uint8)
    assert nearest_similarity(nothing, nothing) == 1


def test_blocks_change_nothing(smiles):
    many = bits(smiles).repeat(20, 1)
    assert nearest_similarity(many, bits(smiles[:50])) == pytest.approx(
        nearest_similarity(bits(smiles), bits(smiles[:50])), abs=1e-9
    )
