import os

import pytest
import torch

from ardm_guidance.data import caching
from ardm_guidance.data.caching import cached_molecules
from ardm_guidance.data.files import read_molecules
from ardm_guidance.shell.errors import InputError
from ardm_guidance.sites.molecules import MoleculeAlphabet

ALPHABET = MoleculeAlphabet()


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("ARDM_GUIDANCE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "molecules.smi"
    path.write_text("CCO\nCXC\nC1CC1\nN#CC\n")
    return path


def kept(source):
    return sorted((source.parent / "cache").glob("*"))


def same(found, expected):
    return found.smiles == expected.smiles and torch.equal(found.sites, expected.sites)


def test_a_large_source_is_read_once(source, monkeypatch):
    first = cached_molecules(str(source), ALPHABET, large=3)
    monkeypatch.setattr(caching, "read_molecules", None)
    second = cached_molecules(str(source), ALPHABET, large=3)
    assert same(second, first)
    assert same(first, read_molecules(str(source), ALPHABET))
    assert second.rejected == first.rejected
    assert [item.row.line for item in second.rejected] == [2]
    assert len(kept(source)) == 1


def test_a_small_source_leaves_nothing(source):
    cached_molecules(str(source), ALPHABET, large=4)
    assert not kept(source)


def test_a_changed_source_alphabet_or_column_is_read_anew(source, monkeypatch):
    cached_molecules(str(source), ALPHABET, large=1)
    source.write_text("CCO\nCCCCN\n")
    assert cached_molecules(str(source), ALPHABET, large=1).smiles == ["CCO", "CCCCN"]
    small = MoleculeAlphabet(max_atoms=4)
    assert cached_molecules(str(source), small, large=1).smiles == ["CCO"]
    monkeypatch.setattr(caching, "__version__", "another")
    cached_molecules(str(source), ALPHABET, large=1)
    assert len(kept(source)) == 4


@pytest.mark.parametrize("damage", ["truncated", "code", "other"])
def test_a_damaged_file_is_read_anew_and_replaced(source, damage):
    expected = cached_molecules(str(source), ALPHABET, large=1)
    (path,) = kept(source)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    else:
        torch.save(os.getcwd if damage == "code" else {"sites": 1}, path)
    assert same(cached_molecules(str(source), ALPHABET, large=1), expected)
    assert torch.load(path, weights_only=True)["smiles"] == expected.smiles


def test_a_folder_that_cannot_be_written_warns_and_goes_on(source):
    (source.parent / "cache").write_text("a file stands in the way")
    with pytest.warns(UserWarning, match="not kept for the next run"):
        assert cached_molecules(str(source), ALPHABET, large=1).smiles[0] == "CCO"


def test_a_missing_source_is_named(source):
    with pytest.raises(InputError, match="no such file or data set"):
        cached_molecules(str(source.with_name("none.smi")), ALPHABET)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ARDM_GUIDANCE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert caching.cache_folder() == tmp_path / "ardm-guidance"
