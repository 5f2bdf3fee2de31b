from itertools import islice

import pytest
import torch
from rdkit import Chem

from ardm_guidance.data.files import read_rows, source_files
from ardm_guidance.shell.errors import InputError
from ardm_guidance.sites.graphs import sizes
from ardm_guidance.sites.molecules import (
    QM9_ATOM_TYPES,
    AtomType,
    MoleculeAlphabet,
    canonical_smiles,
    read_smiles,
)


def test_the_whole_packaged_sample_makes_the_round_trip():
    alphabet = MoleculeAlphabet()
    rows = list(read_rows(source_files("qm9-sample")[0]))
    assert len(rows) == 10_000
    for row in rows:
        molecule = read_smiles(row.smiles)
        sites = alphabet.encode(molecule)
        assert sizes(sites) == molecule.GetNumAtoms()
        assert alphabet.smiles(sites) == canonical_smiles(molecule)


MOSES_TYPES = ("C", "N", "O", "F", "S", "Cl", "Br")


def share_of_round_trips(alphabet, smiles):
    """Share of molecules that come back from their sites."""
    kept = 0
    for text in smiles:
        molecule = read_smiles(text)
        try:
            kept += alphabet.smiles(alphabet.encode(molecule)) == canonical_smiles(molecule)
        except ValueError:
            continue
    return kept / len(smiles)


def from_data_set(source, number=None, step=1):
    """SMILES of an installed data set."""
    try:
        files = source_files(source)
    except InputError as error:
        pytest.skip(str(error))
    rows = (row.smiles for path in files for row in read_rows(path))
    return list(islice(rows, 0, None if number is None else number * step, step))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_of_qm9_makes_the_round_trip():
    smiles = from_data_set("qm9")
    assert len(smiles) == 130_831
    assert share_of_round_trips(MoleculeAlphabet(), smiles) == 1.0


@pytest.mark.slow
def test_ten_thousand_molecules_of_moses_make_the_round_trip():
    smiles = from_data_set("moses", 10_000, 150)
    assert len(smiles) == 10_000
    assert share_of_round_trips(MoleculeAlphabet(MOSES_TYPES, 30), smiles) == 1.0


@pytest.mark.slow
def test_the_aromatic_encoding_loses_the_molecules_with_a_hydrogen_on_an_aromatic_atom():
    smiles = from_data_set("moses", 3000, 500)
    alphabet = MoleculeAlphabet(MOSES_TYPES, 30, aromatic=True)
    lost = sum("[nH]" in text for text in smiles) / len(smiles)
    assert share_of_round_trips(alphabet, smiles) == pytest.approx(1 - lost, abs=1e-9)
    assert 0.05 < lost < 0.12


def test_the_aromatic_encoding_has_a_class_for_aromatic_bonds_and_no_charges():
    alphabet = MoleculeAlphabet(("C", "N", "O"), 8, aromatic=True)
    assert alphabet.num_bond_classes == 5
    benzene = alphabet.encode(read_smiles("c1ccccc1"))
    assert (benzene == 4).sum() == 6
    assert alphabet.smiles(benzene) == "c1ccccc1"
    assert alphabet.smiles(alphabet.encode(read_smiles("CC(C)=O"))) == "CC(C)=O"
    # Pyrrole loses the hydrogen of its nitrogen, and an ammonium its charge.
    assert alphabet.decode(alphabet.encode(read_smiles("c1cc[nH]c1"))) is None
    assert alphabet.decode(alphabet.encode(read_smiles("C[N+](C)(C)C"))) is None
    with pytest.raises(ValueError, match="no charges"):
        MoleculeAlphabet(("C", "N+"), 8, aromatic=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("C", ("C", 0)), ("N+", ("N", 1)), ("O-", ("O", -1)), ("Cl", ("Cl", 0)), ("S+2", ("S", 2))],
)
def test_atom_types_are_read(text, expected):
    assert AtomType.parse(text) == expected


def test_charged_atoms_bind_like_their_isoelectronic_neighbours():
    capacities = dict(zip(QM9_ATOM_TYPES, MoleculeAlphabet().capacities, strict=True))
    assert capacities == {
        "C": 4, "N": 3, "O": 2, "F": 1, "N+": 4, "O-": 1, "C-": 3, "N-": 2,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "c", "N++", "Xx", "He", "C+9", "C+6"])
def test_atom_types_without_bonds_are_refused(text):
    with pytest.raises(ValueError, match=r"atom type|symbol|valence|Xx"):
        _ = AtomType.parse(text).capacity


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("CCCCCCCCCC", "10 heavy atoms, at most 9 fit"),
        ("CBr", "atom Br is not among"),
        ("C[NH+2]", "atom N\\+2"),
        ("C[CH2]", "radical"),
        ("C(C)(C)(C)(C)C", "not a molecule"),
        ("C1CC", "not a molecule"),
        ("", "no atoms"),
    ],
)
def test_molecules_without_a_place_say_why(smiles, reason):
    with pytest.raises(ValueError, match=reason):
        MoleculeAlphabet().encode(read_smiles(smiles))


def test_dative_bonds_have_no_class():
    molecule = Chem.MolFromSmiles("N->F", sanitize=False)
    molecule.UpdatePropertyCache(strict=False)
    with pytest.raises(ValueError, match="DATIVE"):
        MoleculeAlphabet().encode(molecule)


def test_stereo_marks_are_taken_off():
    assert canonical_smiles(read_smiles("C[C@H](F)O")) == canonical_smiles(read_smiles("CC(F)O"))


def test_too_many_bonds_are_invalid_and_keep_their_structure():
    alphabet = MoleculeAlphabet(("C", "F"), 3)
    sites = torch.tensor([1, 0, 0, 1, 1, 0])  # F-C and F-C
    assert alphabet.decode(sites) is None
    assert Chem.MolFromSmiles(alphabet.smiles(sites), sanitize=False).GetNumAtoms() == 3


@pytest.mark.parametrize("arguments", [{"atom_types": ("C", "C")}, {"max_atoms": 0}])
def test_impossible_alphabets_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        MoleculeAlphabet(**arguments)
