import csv
import gzip
import io
import json
import math
import pickle
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from rdkit import Chem

from ardm_guidance.data.files import installed_folder, read_molecules, source_files
from ardm_guidance.scores.chemnet import load_chemnet
from ardm_guidance.scores.filters import load_filters, passes_filters
from ardm_guidance.scores.moses import (
    _Restricted,
    cosine_similarity,
    fragments,
    merge,
    moses_scores,
    published_statistics,
    scaffold,
    statistics,
    wasserstein_distance,
)
from ardm_guidance.shell.errors import InputError
from ardm_guidance.sites.molecules import MoleculeAlphabet

TWO_RINGS = "c1ccc2ccccc2c1"


@pytest.fixture(scope="module")
def molsets():
    try:
        installed_folder("fcd_torch", "fcd-torch==1.0.7")
        return installed_folder("moses", "molsets==0.3.1")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def smiles():
    return read_molecules("qm9-sample", MoleculeAlphabet()).smiles[:400]


def test_the_wasserstein_distance_of_shifted_and_of_unequal_sets_is_known():
    x = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert wasserstein_distance(x, x + 5) == pytest.approx(5)
    assert wasserstein_distance(torch.tensor([0.0]), torch.tensor([0.0, 1.0, 2.0, 5.0])) == 2
    assert wasserstein_distance(x, x) == 0


def test_the_cosine_of_counts_is_known():
    assert cosine_similarity(Counter(a=3, b=4), Counter(b=5)) == pytest.approx(0.8)
    assert cosine_similarity(Counter(a=1), Counter()) == 0
    assert cosine_similarity(Counter(), Counter()) == 1


def test_scaffolds_need_two_rings():
    assert scaffold(Chem.MolFromSmiles(f"CC{TWO_RINGS}")) == TWO_RINGS
    assert scaffold(Chem.MolFromSmiles("Cc1ccccc1")) is None
    assert scaffold(Chem.MolFromSmiles("CCO")) is None


def test_fragments_are_the_pieces_between_brics_bonds():
    assert len(fragments(Chem.MolFromSmiles("CC(=O)NCc1ccccc1"))) > 1
    assert fragments(Chem.MolFromSmiles("CC")) == ["CC"]


@pytest.mark.parametrize(
    ("text", "fine"),
    [("CCO", True), ("C[NH3+]", False), ("C1CCCCCCC1", False), ("C[Si](C)C", False)],
)
def test_charges_large_rings_and_foreign_elements_do_not_pass(text, fine):
    assert passes_filters(Chem.MolFromSmiles(text), []) is fine


def test_unwanted_substructures_do_not_pass(molsets):
    unwanted = load_filters()
    assert len(unwanted) == 502
    assert None not in unwanted
    assert passes_filters(Chem.MolFromSmiles("CCOc1ccccc1"), unwanted)
    assert not passes_filters(Chem.MolFromSmiles("C=CC#N"), unwanted)


def test_statistics_of_shares_add_up(smiles):
    parts = [smiles[:100], smiles[100:101], smiles[101:]]
    merged, whole = merge([statistics(part) for part in parts]), statistics(smiles)
    assert torch.equal(merged.bits, whole.bits)
    assert merged.fragments == whole.fragments
    assert merged.scaffolds == whole.scaffolds
    assert all(torch.equal(merged.properties[key], whole.properties[key]) for key in ("QED", "SA"))


def samples(smiles):
    return [*smiles[:150], *smiles[:30], "C1CC", "CC.O", "", "C(C)(C)(C)(C)C", *smiles[150:203]]


def test_shares_and_counts_are_those_of_their_definitions(smiles):
    reference = {"test": statistics(smiles[200:])}
    scores = moses_scores(samples(smiles), reference, set(smiles[:50]))
    assert scores.num_samples == 237
    assert scores.num_valid == 234
    distinct = {*smiles[:203], "CC.O"}
    assert scores.unique_1k == scores.unique_10k == len(distinct) / 234
    assert scores.novel == len(distinct.difference(smiles[:50])) / len(distinct)
    assert scores.filters is None
    assert scores.distances[0].reference == "test"
    assert scores.distances[0].num_reference == 200
    assert scores.distances[0].fcd is None


def _rank(rank, size, path, smiles, found):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{path}", rank=rank, world_size=size)
    own = samples(smiles)[rank::size]
    scores = moses_scores(own, {"test": statistics(smiles[200:])}, set(smiles[:50]), unwanted=[])
    found[rank] = scores
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_with_unequal_shares_find_the_scores_of_the_whole(smiles, tmp_path, size):
    reference = {"test": statistics(smiles[200:])}
    alone = moses_scores(samples(smiles), reference, set(smiles[:50]), unwanted=[])
    with multiprocessing.Manager() as manager:
        found = manager.dict()
        arguments = (size, tmp_path / "store", smiles, found)
        multiprocessing.start_processes(_rank, arguments, nprocs=size, start_method="fork")
        every = [found[rank] for rank in range(size)]
    for scores in every:
        assert scores == every[0]
        pairs = zip(scores[:-1], alone[:-1], strict=True)
        assert all(a == pytest.approx(b, abs=1e-12) for a, b in pairs)
        pairs = zip(scores.distances[0][1:], alone.distances[0][1:], strict=True)
        assert all(a == b == None or a == pytest.approx(b, abs=1e-12) for a, b in pairs)  # noqa: E711


def test_nothing_valid_is_refused():
    with pytest.raises(ValueError, match="among 2 samples"):
        moses_scores(["C1C", ""], {}, set())


def test_a_pickle_that_would_execute_is_refused():
    class Harmful:
        def __reduce__(self):
            return (print, ("executed",))

    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        _Restricted(io.BytesIO(pickle.dumps(Harmful()))).load()


def rows(name, number, step):
    with gzip.open(source_files(name)[0], "rt") as file:
        return [row["SMILES"] for row in islice(csv.DictReader(file), 0, number * step, step)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_scores_equal_the_moses_package(molsets, tmp_path):
    """2000 molecules, two of them invalid and ten repeated, against 2000 of the test set."""
    test = rows("moses-test", 2000, 7)
    generated = [*rows("moses-test-scaffolds", 1988, 11), "C1CC", "CC(C)(C)(C)C"]
    generated += [*generated[:2], *test[:8]]
    training = [*rows("moses", 2000, 1), *generated[:100]]
    paths = [tmp_path / f"{name}.smi" for name in ("generated", "test", "training")]
    for path, lines in zip(paths, (generated, test, training), strict=True):
        path.write_text("\n".join(lines) + "\n")
    oracle = Path(__file__).with_name("moses_oracle.py")
    command = [sys.executable, str(oracle), *map(str, paths)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = json.loads(printed.splitlines()[-1])
    chemnet = load_chemnet()
    references = {"Test": statistics(test, chemnet), "TestSF": statistics(test[:1000], chemnet)}
    scores = moses_scores(
        generated, references, set(training), chemnet=chemnet, unwanted=load_filters()
    )
    found = {
        "valid": scores.valid, "unique@1000": scores.unique_1k, "unique@10000": scores.unique_10k,
        "Novelty": scores.novel, "IntDiv": scores.int_div_1, "IntDiv2": scores.int_div_2,
        "Filters": scores.filters, "logP": scores.distances[0].logp, "SA": scores.distances[0].sa,
        "QED": scores.distances[0].qed, "weight": scores.distances[0].weight,
    }  # fmt: skip
    for one in scores.distances:
        names = {"fcd": "FCD", "snn": "SNN", "frag": "Frag", "scaf": "Scaf"}
        found |= {f"{name}/{one.reference}": getattr(one, key) for key, name in names.items()}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        tolerance = 1e-3 if name.startswith("FCD") else 1e-6
        assert value == pytest.approx(expected[name], abs=tolerance), name
    assert 0 < scores.valid < 1
    assert scores.unique_10k < 1


@pytest.mark.slow
def test_published_statistics_are_those_of_their_molecules(molsets):
    """The benchmark's own reference: its first molecules have these values and bits."""
    published = published_statistics("test")
    assert len(published.bits) == 176_074
    own = statistics(rows("moses-test", 200, 1))
    assert torch.equal(published.bits[:200], own.bits)
    for name, values in own.properties.items():
        torch.testing.assert_close(
            published.properties[name][:200].double(), values, rtol=0, atol=2e-2
        )
    assert math.isfinite(float(published.chemnet.covariance.trace()))
