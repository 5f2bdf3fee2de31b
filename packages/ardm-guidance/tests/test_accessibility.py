import importlib.util
from pathlib import Path

import pytest
from rdkit import Chem, RDConfig

from ardm_guidance.data.files import read_molecules
from ardm_guidance.scores.accessibility import synthetic_accessibility
from ardm_guidance.sites.molecules import MoleculeAlphabet


@pytest.fixture(scope="module")
def contribution():
    """RDKit's own score."""
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    if not path.is_file():
        pytest.skip("this RDKit comes without its contributions")
    spec = importlib.util.spec_from_file_location("sascorer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculateScore


def test_scores_equal_those_of_rdkit(contribution):
    smiles = read_molecules("qm9-sample", MoleculeAlphabet()).smiles[:300]
    # A macrocycle, a steroid, a spiro ring, a salt and a long chain.
    smiles += [
        "C1CCCCCCCCCCC1", "CC12CCC3C(CCC4CC(O)CCC43C)C1CCC2O", "C1CCC2(CC1)CCCC2",
        "C[N+](C)(C)C.[Cl-]", "C" * 60, "C[C@H](O)[C@@H](F)Cl",
    ]  # fmt: skip
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        assert synthetic_accessibility(molecule) == pytest.approx(contribution(molecule), abs=1e-9)


def test_a_steroid_is_harder_than_ethanol():
    easy, hard = (Chem.MolFromSmiles(text) for text in ("CCO", "CC12CCC3C(CCC4CC(O)CCC43C)C1CCC2O"))
    assert 1 <= synthetic_accessibility(easy) < synthetic_accessibility(hard) <= 10
