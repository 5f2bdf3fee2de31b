import json

import pyarrow
import pyarrow.parquet
import pytest

from ardm_guidance.scores.reports import evaluate
from ardm_guidance.shell.errors import InputError


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "reference.smi"
    path.write_text("CCO\nCCN\nCXC\nC1CC1\nCC#N\nC=O\nCCCC\n")
    return path


def test_a_report_holds_scores_split_and_rejected_rows(tmp_path, reference):
    samples = tmp_path / "samples.parquet"
    table = pyarrow.table({"smiles": ["CCO", "CCF", "C.C", "C(C)(C)(C)(C)C", "CCF"]})
    metadata = {b"ardm_guidance": json.dumps({"seed": 3}).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), samples)
    likelihood = tmp_path / "test.json"
    likelihood.write_text('{"nats": 20.5}')
    out = tmp_path / "out"
    evaluate(
        str(samples), str(reference), test=0.5, val=0, likelihood=str(likelihood), output=str(out)
    )
    report = json.loads((out / "report.json").read_text())
    assert report["scores"]["num_samples"] == 5
    assert report["scores"]["valid"] == 0.8
    assert report["scores"]["valid_connected"] == 0.6
    assert report["scores"]["unique"] == pytest.approx(2 / 3)
    assert report["novel_against_whole_reference"] == 0.5
    assert report["split"] == "random split of 6: 3 train, 0 val, 3 test, seed 0"
    assert report["rejected_rows"]["count"] == 1
    assert report["rejected_rows"]["rows"][0]["line"] == 3
    assert report["sampling"] == {"seed": 3}
    assert report["likelihood"] == {"nats": 20.5}
    assert report["moses"]["num_samples"] == 5
    assert report["moses"]["num_valid"] == 4
    assert report["moses"]["unique_1k"] == 0.75
    assert report["moses"]["distances"][0]["num_reference"] == 3
    assert "3 test" in report["moses"]["distances"][0]["reference"]
    assert sorted(path.name for path in out.iterdir()) == [
        "molecules.png", "properties.png", "report.json",
    ]  # fmt: skip


def test_a_missing_likelihood_is_one_line(tmp_path, reference):
    with pytest.raises(InputError, match=r"nowhere.json: not a readable JSON file"):
        evaluate(
            str(reference), str(reference), likelihood="nowhere.json", output=str(tmp_path / "out")
        )


def test_a_report_says_what_could_not_be_scored(tmp_path, reference, monkeypatch):
    monkeypatch.setattr("ardm_guidance.data.files.find_spec", lambda name: None)
    out = tmp_path / "out"
    evaluate(str(reference), str(reference), test=0.5, val=0, output=str(out))
    moses = json.loads((out / "report.json").read_text())["moses"]
    assert (moses["filters"], moses["distances"][0]["fcd"]) == (None, None)
    missing = " ".join(moses["missing"])
    assert "pip install --no-deps molsets==0.3.1" in missing
    assert "pip install --no-deps fcd-torch==1.0.7" in missing


def test_a_scaffold_that_is_none_is_one_line(tmp_path, reference):
    with pytest.raises(InputError, match="scaffold: expected a SMILES or SMARTS, got 'c1'"):
        evaluate(str(reference), str(reference), scaffold="c1", output=str(tmp_path))


def test_what_is_taken_off_is_counted_and_changes_no_score(tmp_path, reference, capsys):
    plain, marked = tmp_path / "plain.smi", tmp_path / "marked.smi"
    plain.write_text("CC(F)Cl\nFC=CCl\nCCO\nCCC\n")
    marked.write_text("C[C@H](F)Cl\nF/C=C/Cl\n[13CH3]CO\n[CH3:1]CC\n")
    reports = []
    for samples in (plain, marked):
        out = tmp_path / samples.stem
        evaluate(str(samples), str(reference), test=0.5, val=0, output=str(out))
        reports.append(json.loads((out / "report.json").read_text()))
    told = capsys.readouterr().out
    assert reports[0]["scores"] == reports[1]["scores"]
    assert reports[0]["moses"] == reports[1]["moses"]
    assert reports[0]["removed"] == {"samples": {}, "reference": {}}
    counts = {"stereo": 2, "isotopes": 1, "atom maps": 1}
    assert reports[1]["removed"] == {"samples": counts, "reference": {}}
    assert "samples: stereo removed: 2\nsamples: isotopes removed: 1" in told
