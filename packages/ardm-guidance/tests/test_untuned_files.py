"""Files that nobody tuned for, from rdkit's own collection: prepare, fit, sample, evaluate."""

import gzip
import json
import os
from pathlib import Path

import pyarrow.parquet
import pytest
from rdkit import Chem, RDConfig

from ardm_guidance.__main__ import main

CONTRIB = Path(os.environ.get("RDKIT_CONTRIB", RDConfig.RDContribDir))
ACTIVES = CONTRIB / "fraggle/data/ChEMBL_11265_actives.smi"
DRUGS = CONTRIB / "NIBRSubstructureFilters/SubstructureFilter_HitTriaging_wPubChemExamples.csv"
SERIES = CONTRIB / "FreeWilson/data/CHEMBL2321810.smi"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not ACTIVES.is_file(), reason=f"{CONTRIB}: rdkit came without its files"),
]


def vendor(folder):
    """A gzipped V3000 SDF with salts, stereo marks and properties."""
    path = folder / "vendor.sdf.gz"
    with gzip.open(path, "wt") as file:
        writer = Chem.SDWriter(file)
        writer.SetForceV3000(True)
        lines = [*ACTIVES.read_text().split("\n")[:-1], "C[C@H](N)C(=O)O.Cl salt", "F/C=C/Cl trans"]
        for number, line in enumerate(lines):
            molecule = Chem.MolFromSmiles(line.split()[0])
            molecule.SetProp("_Name", line.split()[-1])
            molecule.SetProp("CATALOGUE", f"V-{number:05d}")
            writer.write(molecule)
        writer.close()
    return path, len(lines), []


def drugs(folder):
    """A CSV whose SMILES stand in a column of another name, some of them missing."""
    return DRUGS, len(DRUGS.read_text(encoding="utf-8-sig").splitlines()) - 1, ["--column", "EX1"]


def series(folder):
    """Two hundred rows with names, and the line ends of another system."""
    path = folder / "series.smi"
    path.write_bytes("\r\n".join(SERIES.read_text().split("\n")[:200]).encode() + b"\r\n")
    return path, 200, []


@pytest.mark.parametrize("make", [vendor, drugs, series])
def test_from_a_file_to_a_report(make, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARDM_GUIDANCE_CACHE", str(tmp_path / "cache"))
    source, number, column = make(tmp_path)
    prepare = ["prepare", "--source", str(source), *column, "--output", "own.yaml"]
    assert main(prepare) == 0
    told = capsys.readouterr().out
    if make is drugs:
        # One of them has 198 heavy atoms; the answer to that is in what was said.
        common = told.split("--max_atoms ")[1].split(")")[0]
        assert main([*prepare, "--max_atoms", common, "--overwrite"]) == 0
        told = capsys.readouterr().out
    used = int(told.split(": ")[1].split(" of ")[0])
    assert f"{used} of {number} rows can be used" in told
    # Whatever isn't used is counted by reason.
    reasons = [line for line in told.splitlines() if " x " in line]
    assert sum(int(line.split()[0]) for line in reasons) == number - used
    if make is vendor:
        assert "2 fragments" in told
        assert "stereo removed" in told
    quiet = [
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.limit_val_batches",
        "1",
        "--trainer.default_root_dir",
        "run",
    ]
    assert main(["fit", "--config", "own.yaml", "--trainer.max_steps", "2", *quiet]) == 0
    reading = ["--config", "own.yaml", "--ckpt_path", "run/checkpoints/last.ckpt", *quiet]
    assert main(["sample", *reading, "--num_samples", "4"]) == 0
    rows = pyarrow.parquet.read_table("run/samples.parquet").to_pylist()
    assert len(rows) == 4
    # Two steps teach nothing, but the masks hold from the first.
    assert all(Chem.MolFromSmiles(row["smiles"]) for row in rows)
    assert all("." not in row["smiles"] for row in rows)
    named = ["--column", column[1]] if column else []
    scoring = ["--samples", str(source), "--reference", str(source), *named]
    assert main(["evaluate", *scoring, "--output", "scores"]) == 0
    report = json.loads(Path("scores/report.json").read_text())
    assert report["scores"]["num_samples"] == number
    assert 0 < report["scores"]["novel"] < 1  # the held-out part of the same file
    if make is vendor:
        assert report["removed"]["samples"] == report["removed"]["reference"]
        assert report["removed"]["samples"]["stereo"] >= 2
