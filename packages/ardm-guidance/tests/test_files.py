import gzip

import pyarrow
import pyarrow.parquet
import pytest
from rdkit import Chem

from ardm_guidance.data.files import read_molecules, read_rows, source_files
from ardm_guidance.shell.errors import InputError
from ardm_guidance.sites.molecules import MoleculeAlphabet

SMILES = ["CCO", "C1CC1", "N#CC"]


@pytest.fixture(params=["smi", "txt.gz", "csv", "csv.gz", "parquet", "sdf"])
def file(request, tmp_path):
    path = tmp_path / f"molecules.{request.param}"
    if request.param == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "Smiles": SMILES}), path)
    elif request.param == "sdf":
        with Chem.SDWriter(str(path)) as writer:
            for smiles in SMILES:
                writer.write(Chem.MolFromSmiles(smiles))
    else:
        table = "csv" in request.param
        lines = [f"{k},{s}" if table else f"{s} name{k}" for k, s in enumerate(SMILES)]
        text = "\n".join((["id,smiles"] if table else []) + lines) + "\n"
        data = text.encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_every_format_gives_its_molecules(file):
    molecules = read_molecules(str(file), MoleculeAlphabet(max_atoms=4))
    assert molecules.smiles == [Chem.CanonSmiles(smiles) for smiles in SMILES]
    assert molecules.sites.shape == (3, 10)
    assert not molecules.rejected


def test_rows_that_cannot_be_used_keep_file_line_and_reason(tmp_path):
    path = tmp_path / "bad.smi"
    path.write_text("CCO\n\nCXC\nCCCCCCCCCCCC\nC[Si]C\nCC\n")
    molecules = read_molecules(str(path), MoleculeAlphabet())
    assert molecules.smiles == ["CCO", "CC"]
    assert [(item.row.file, item.row.line) for item in molecules.rejected] == [
        (str(path), 3),
        (str(path), 4),
        (str(path), 5),
    ]
    reasons = " ".join(item.reason for item in molecules.rejected)
    assert "CXC" in reasons
    assert "12 heavy atoms" in reasons
    assert "Si" in reasons


def test_rows_of_tables_count_the_heading_and_quoted_breaks(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('note,SMILES\n"two\nlines",CC\nplain,\n')
    assert [(row.line, row.smiles) for row in read_rows(path)] == [(3, "CC"), (4, "")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"id,SMILE\n1,C\n", "no column 'SMILES'; did you mean 'SMILE'?"),
        ("a.xyz", b"C\n", "got .xyz"),
        ("a.smi.gz", b"not compressed", "not readable"),
        ("a.smi", b"\xff\xfe\x00", "not readable"),
        ("a.parquet", b"PAR1", "not readable"),
        ("a.smi", b"CX\n", "no usable molecule; the first: line 1: not a molecule: 'CX'"),
        ("a.smi", b"", "no usable molecule"),
    ],
)
def test_files_that_cannot_be_read_get_one_line(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_molecules(str(path), MoleculeAlphabet())
    assert str(error.value).startswith(str(path))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_source_names_the_closest():
    with pytest.raises(InputError, match="did you mean 'qm9-sample'"):
        source_files("qm9-sampel")


def test_the_full_set_is_found_where_it_is_installed(tmp_path, monkeypatch):
    folder = tmp_path / "qm9pack" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "qm9pack" / "__init__.py").write_text("raise ImportError('must not be imported')")
    for part in (1, 2, 3):
        (folder / f"qm9_part{part}.csv").write_text(f"Index,SMILES\n{part},{'C' * part}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_molecules("qm9", MoleculeAlphabet()).smiles == ["C", "CC", "CCC"]


def test_the_splits_of_moses_are_found_where_they_are_installed(tmp_path, monkeypatch):
    folder = tmp_path / "moses" / "dataset" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "moses" / "__init__.py").write_text("raise ImportError('must not be imported')")
    for name, smiles in (("train", "C"), ("test", "CC"), ("test_scaffolds", "CCC")):
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(f"SMILES\n{smiles}\n".encode()))
    monkeypatch.syspath_prepend(tmp_path)
    sources = ("moses", "moses-test", "moses-test-scaffolds")
    found = [read_molecules(source, MoleculeAlphabet()).smiles for source in sources]
    assert found == [["C"], ["CC"], ["CCC"]]


@pytest.mark.parametrize(
    ("source", "requirement"),
    [("qm9", "qm9pack==1.0.3"), ("moses", "molsets==0.3.1"), ("moses-test", "molsets==0.3.1")],
)
def test_a_data_set_says_how_to_install_it(monkeypatch, source, requirement):
    monkeypatch.setattr("ardm_guidance.data.files.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"pip install --no-deps {requirement}"):
        source_files(source)
