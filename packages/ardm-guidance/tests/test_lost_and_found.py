"""What a graph of sites cannot hold is taken off and counted, or refused; nothing goes unsaid."""

import csv
import gzip

import pyarrow
import pyarrow.parquet
import pytest
from rdkit import Chem

from ardm_guidance import InputError, MoleculeAlphabet, check, read_molecules, score
from ardm_guidance.data.files import read_rows
from ardm_guidance.data.modules import refuse_few
from ardm_guidance.scores.moses import canonical
from ardm_guidance.scores.plots import cyclomatic_number
from ardm_guidance.sites.molecules import AtomType, canonical_smiles, read_counting, read_smiles

ALPHABET = MoleculeAlphabet(("C", "N", "O", "S", "P", "Cl", "Na+", "Cl-", "N+", "O-"), 30)


def written(path, smiles):
    path.write_text("\n".join(smiles) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("smiles", "lost", "left"),
    [
        ("C[C@H](N)O", ("stereo",), "CC(N)O"),
        ("C/C=C/C", ("stereo",), "CC=CC"),
        ("[13CH4]", ("isotopes",), "C"),
        ("[2H]C([2H])O", ("isotopes",), "CO"),
        ("[CH3:1][OH:2]", ("atom maps",), "CO"),
        ("[13CH3:1][C@H](N)O", ("stereo", "isotopes", "atom maps"), "CC(N)O"),
        ("CCO", (), "CCO"),
    ],
)
def test_marks_are_taken_off_and_told(smiles, lost, left):
    molecule, found = read_counting(smiles)
    assert found == lost
    assert canonical_smiles(molecule) == left


def test_a_file_tells_what_its_molecules_have_lost(tmp_path):
    smiles = ["C[C@H](N)O", "C/C=C/C", "[13CH4]", "CCO", "CC[O-].[Na+]", "CC.C"]
    path = written(tmp_path / "a.smi", smiles)
    molecules = read_molecules(path, ALPHABET)
    assert molecules.removed == {"stereo": 2, "isotopes": 1}
    assert [item.reason for item in molecules.rejected] == ["2 fragments", "2 fragments"]
    largest = read_molecules(path, ALPHABET, fragments="largest")
    assert largest.smiles[-2:] == ["CC[O-]", "CC"]
    assert largest.removed["fragments"] == 2
    kept = read_molecules(path, ALPHABET, fragments="keep")
    assert kept.smiles[-2:] == ["CC[O-].[Na+]", "C.CC"]
    assert not kept.rejected


@pytest.mark.parametrize("text", ["Na+", "Cl-", "Ca+2", "F-", "K+"])
def test_ions_of_a_noble_gas_s_shell_have_no_bond(text):
    assert AtomType.parse(text).capacity == 0


@pytest.mark.parametrize("smiles", ["C[SH2]C", "[PH5]", "C[SH4]C"])
def test_hydrogens_that_bonds_do_not_imply_are_refused(smiles):
    with pytest.raises(ValueError, match="hydrogens, its bonds imply"):
        ALPHABET.encode(read_smiles(smiles))


@pytest.mark.parametrize(
    "smiles",
    ["CS(C)(=O)=O", "CSC", "c1cc[nH]c1", "C[N+](C)(C)C", "CP(=O)(O)O", "CS", "O=[N+]([O-])C"],
)
def test_what_bonds_imply_survives_the_encoding(smiles):
    molecule = read_smiles(smiles)
    assert ALPHABET.smiles(ALPHABET.encode(molecule)) == canonical_smiles(molecule)


@pytest.mark.parametrize("smiles", ["C[C@H](N)O", "N[C@@H](C)C(=O)O", "C/C=C\\C", "CCO"])
def test_samples_and_references_have_one_canonical_form(smiles):
    plain = canonical_smiles(read_smiles(smiles))
    assert canonical(smiles) == check(smiles).smiles == plain
    assert score([check(smiles)], {plain}).novel == 0


def test_stereo_marks_change_no_score():
    plain = ["CC(N)O", "CC=CC", "CCO"]
    marked = ["C[C@H](N)O", "C/C=C/C", "CCO"]
    assert score([check(s) for s in plain], {"CCO"}) == score([check(s) for s in marked], {"CCO"})


@pytest.mark.parametrize(
    ("smiles", "strained"),
    [
        ("C1C#C1", True),
        ("C1CC#CC1", True),
        ("C1CCC#CC1", True),
        ("C1CCCC#CCC1", False),
        ("CC#C", False),
    ],
)
def test_a_triple_bond_in_a_small_ring_is_strain(smiles, strained):
    assert check(smiles).strained == strained
    assert score([check(smiles), check("CCO")], set()).strained == strained / 2


@pytest.mark.parametrize(
    ("smiles", "rings"), [("C12C3C4C1C5C2C3C45", 5), ("C1CC1.C1CC1", 2), ("CC", 0)]
)
def test_rings_are_bonds_less_atoms_plus_pieces(smiles, rings):
    assert cyclomatic_number(Chem.MolFromSmiles(smiles)) == rings


def test_tables_of_every_hand_are_read(tmp_path):
    expected = ["CCO", "CCN"]
    for name, text in {
        "comma.csv": "id,SMILES\n1,CCO\n2,CCN\n",
        "mark.csv": "\ufeffSMILES,id\nCCO,1\nCCN,2\n",
        "semicolon.csv": "id;smiles\n1;CCO\n2;CCN\n",
        "tab.csv": "id\tsmiles\n1\tCCO\n2\tCCN\n",
        "windows.csv": "id,smiles\r\n1,CCO\r\n2,CCN\r\n",
        "head.smi": "smiles\nCCO\nCCN\n",
        "mark.smi": "\ufeffCCO first\n\nCCN second\n",
        "windows.smi": "CCO\r\n\r\nCCN\r\n",
    }.items():
        (tmp_path / name).write_bytes(text.encode())
        assert [row.smiles for row in read_rows(tmp_path / name)] == expected, name
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write(text.encode())
        assert [row.smiles for row in read_rows(tmp_path / f"{name}.gz")] == expected, name


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("forced", [False, True])
def test_sdf_of_both_versions_is_read(tmp_path, zipped, forced):
    path = tmp_path / ("a.sdf.gz" if zipped else "a.sdf")
    blocks = []
    for smiles in ("CCO", "C[C@H](N)O"):
        blocks.append(Chem.MolToMolBlock(Chem.MolFromSmiles(smiles), forceV3000=forced) + "$$$$\n")
    content = "".join(blocks).encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    molecules = read_molecules(str(path), ALPHABET)
    assert molecules.smiles == ["CCO", "CC(N)O"]
    assert molecules.removed == {"stereo": 1}


@pytest.mark.parametrize("column", [[1, 2], [["C"], ["N"]]])
def test_a_column_that_is_no_text_is_one_line(tmp_path, column):
    pyarrow.parquet.write_table(pyarrow.table({"smiles": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="expected text, got"):
        list(read_rows(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.smi.gz", "a.csv.gz", "a.sdf.gz"])
def test_a_damaged_archive_is_one_line(tmp_path, name):
    whole = gzip.compress(b"SMILES\nCCO\n" * 500)
    for content in (whole[:30], whole[:-9] + b"123456789", b"\x1f\x8b\x08\x00" + b"\x01" * 40):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            list(read_rows(tmp_path / name))


def test_most_rows_must_be_of_use(tmp_path):
    path = written(tmp_path / "a.smi", ["CCO", "nonsense", "C.C", "[Xe]"])
    molecules = read_molecules(path, ALPHABET)
    with pytest.raises(InputError, match=r"only 1 of 4 rows can be used .*allow_rejected"):
        refuse_few(path, molecules)


def test_quoted_fields_keep_their_separators(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "smiles"], ["ethanol, pure", "CCO"]])
    assert [row.smiles for row in read_rows(tmp_path / "a.csv")] == ["CCO"]
