import pytest

from ardm_guidance.scores.evaluation import check, score

SAMPLES = ["CCO", "OCC", "CCO.O", "C1CC1", "C(C)(C)(C)(C)C", "CCN"]


def test_scores_are_the_shares_of_their_definitions():
    scores = score([check(smiles) for smiles in SAMPLES], {"CCO", "CCCC"})
    assert scores.num_samples == 6
    assert scores.valid == 5 / 6
    assert scores.valid_connected == 4 / 6
    assert scores.unique == 3 / 4
    assert scores.novel == 2 / 3
    assert scores.vun == 2 / 6


def test_molecules_are_compared_by_canonical_smiles_without_stereo():
    scores = score([check("C[C@H](F)O"), check("OC(F)C")], {"CC(O)F"})
    assert (scores.unique, scores.novel) == (0.5, 0.0)


def test_pieces_are_counted():
    assert [check(smiles).num_fragments for smiles in ("CC", "C.C", "C1C", "")] == [1, 2, 0, 0]


@pytest.mark.parametrize("samples", [[], ["C.C"], ["C1C"]])
def test_nothing_to_score_is_refused(samples):
    with pytest.raises(ValueError, match=f"among {len(samples)} samples"):
        score([check(smiles) for smiles in samples], set())


def test_what_would_end_the_process_is_an_invalid_sample():
    for text in ("C" * 20_000, "C(" * 9000):
        checked = check(text)
        assert (checked.valid, checked.num_fragments) == (False, 0)
