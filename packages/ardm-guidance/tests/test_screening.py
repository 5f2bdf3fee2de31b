"""Shortcuts of the scores change no answer."""

import json
import warnings

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import QED

from ardm_guidance.data.files import read_rows, source_files
from ardm_guidance.scores.evaluation import check
from ardm_guidance.scores.filters import load_filters
from ardm_guidance.scores.fingerprints import internal_diversity, morgan, nearest_similarity
from ardm_guidance.scores.known import canonical_reference
from ardm_guidance.scores.likeness import drug_likeness
from ardm_guidance.scores.moses import moses_scores, statistics
from ardm_guidance.scores.reports import evaluate
from ardm_guidance.scores.screening import Screened
from ardm_guidance.scores.workers import in_pieces
from ardm_guidance.shell.errors import InputError

OTHERS = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "O=C(O)CC(=O)c1ccc(Cl)cc1",
    "C=CC#N",
    "C1CC2CC1C=C2",
    "N#CC(Cl)(Cl)Cl",
    "O=[N+]([O-])c1ccc(N=Nc2ccccc2)cc1",
    "CCS(=O)(=O)Cl",
    "C1OC1CBr",
    "O=C1C=CC(=O)C=C1",
    "CN=[N+]=[N-]",
    "c1ccc2c(c1)oc1ccccc12",
    "SCCS",
    "OO",
    "CC(C)=NO",
    "CCCCCCCCCCCCCC",
    "NC(=S)N",
    "FC(F)(F)c1ccccc1I",
    "B(O)(O)c1ccccc1",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O",
]


@pytest.fixture(scope="module")
def smiles():
    rows = read_rows(source_files("qm9-sample")[0], "SMILES")
    return OTHERS + [row.smiles for row, _ in zip(rows, range(400), strict=False)]


def unscreened(patterns, molecule):
    return [pattern for pattern in patterns if molecule.HasSubstructMatch(pattern)]


def test_screening_finds_what_a_search_finds(smiles):
    patterns = list(QED.StructuralAlerts)
    try:
        patterns += list(load_filters())
    except InputError:
        warnings.warn("molsets is not installed", stacklevel=1)
    screened, found = Screened(patterns), 0
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        for one in (molecule, Chem.AddHs(molecule)):
            expected = unscreened(patterns, one)
            assert [id(p) for p in screened.found_in(one)] == [id(p) for p in expected], text
            found += len(expected)
    assert found > 200
    assert len(screened) == len(patterns)
    assert screened[0] is patterns[0]


def test_no_patterns_find_nothing():
    assert list(Screened([]).found_in(Chem.MolFromSmiles("CCO"))) == []


def test_drug_likeness_is_rdkit_s(smiles):
    for text in smiles[:150]:
        molecule = Chem.MolFromSmiles(text)
        assert drug_likeness(molecule) == QED.qed(molecule)


def plain_similarity(a, b):
    a, b = a.double(), b.double()
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    return torch.where(either > 0, both / either, 1.0)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (9, 4097), (21, 4096)])
def test_words_count_the_bits_that_bytes_count(sizes):
    generator = torch.Generator().manual_seed(0)
    a, b = ((torch.rand(n, 1024, generator=generator) < 0.3).to(torch.uint8) for n in sizes)
    a[0] = 1
    b[-1] = 0
    expected = plain_similarity(a, b).max(1).values.mean()
    assert nearest_similarity(a, b) == pytest.approx(float(expected), abs=1e-12)
    own = plain_similarity(a, a)
    for order in (1, 2):
        diversity = 1 - ((own**order).mean(1) ** (1 / order)).mean()
        assert internal_diversity(a, order) == pytest.approx(float(diversity), abs=1e-12)


def lengths(texts):
    return [len(text) for text in texts]


@pytest.mark.parametrize("workers", [0, 2])
def test_pieces_keep_their_order(workers):
    texts = [str(10**k) * (k % 7) for k in range(1203)]
    pieces = in_pieces(lengths if workers == 0 else np.char.str_len, texts, workers)
    assert [len(piece) for piece in pieces] == [500, 500, 203]
    assert [int(n) for piece in pieces for n in piece] == lengths(texts)
    assert in_pieces(lengths, [], workers) == []


def test_scores_are_the_same_with_known_forms_and_with_workers(smiles):
    samples = [*smiles[:120], "C1C", "CC"]
    reference = {"test": statistics(smiles[120:200])}
    alone = moses_scores(samples, reference, set(smiles[:30]))
    forms = [one.smiles if one.valid else None for one in map(check, samples)]
    again = moses_scores(samples, reference, set(smiles[:30]), canonicals=forms, num_workers=2)
    assert alone == again
    assert torch.equal(statistics(smiles).bits, morgan([Chem.MolFromSmiles(s) for s in smiles]))


def test_a_reference_is_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ARDM_GUIDANCE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "own.smi"
    source.write_text("OCC\nC1C\nC(=O)[13CH3]\n")
    first = canonical_reference(str(source), "SMILES", large=2)
    assert first[0] == ["CCO", "CC=O"]
    assert [item.row.line for item in first[1]] == [2]
    assert first.removed == {"isotopes": 1}
    [kept] = (tmp_path / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("ardm_guidance.scores.known._form", None)
        assert canonical_reference(str(source), "SMILES", large=2) == first
    with monkeypatch.context() as patch:
        patch.setattr("ardm_guidance.scores.known.__version__", "another")
        assert canonical_reference(str(source), "SMILES", large=2) == first
    assert len(list((tmp_path / "cache").iterdir())) == 2
    kept.write_bytes(kept.read_bytes()[:-9])
    assert canonical_reference(str(source), "SMILES", large=2) == first
    source.write_text("OCC\nCCCC\n")
    assert canonical_reference(str(source), "SMILES", large=2)[0] == ["CCO", "CCCC"]


def test_a_small_reference_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("ARDM_GUIDANCE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "own.smi"
    source.write_text("OCC\n")
    canonical_reference(str(source), "SMILES")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_a_report_is_the_same_with_workers(tmp_path):
    own = tmp_path / "own.smi"
    own.write_text("\n".join(["CCO", "CCN", "C1CC1", "CC#N", "C=O", "CCCC"] * 100) + "\n")
    reports = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        evaluate(str(own), str(own), num_workers=workers, output=str(folder))
        reports.append(json.loads((folder / "report.json").read_text()))
    assert reports[0] == reports[1]
