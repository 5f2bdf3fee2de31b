"""The verb ``evaluate``: score generated molecules against a reference, without a model."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdkit import rdBase

from ardm_guidance import __version__
from ardm_guidance.configuration import InputError
from ardm_guidance.evaluation import Checked, Scores, check, score
from ardm_guidance.files import Rejected, read_rows, source_files
from ardm_guidance.molecules import canonical_smiles, read_smiles
from ardm_guidance.plots import molecule_grid, property_histograms
from ardm_guidance.splits import Split

__all__ = ["evaluate"]


def evaluate(
    samples: str,
    reference: str = "qm9-sample",
    column: str = "smiles",
    val: float = 0.05,
    test: float = 0.1,
    split_seed: int = 0,
    likelihood: str | None = None,
    num_pictures: int = 48,
    output: str = "out/ardm-guidance",
) -> None:
    """Score generated molecules and draw them.

    Writes ``report.json``, ``molecules.png`` and ``properties.png``.

    Arguments:
        samples: Parquet of ``sample``, or any SMILES, CSV or SDF file.
        reference: Source of the training molecules: ``qm9-sample``, ``qm9`` or a file.
        column: Column of the SMILES in tables.
        val: Share of the validation part of the reference.
        test: Share of the test part of the reference.
        split_seed: Seed of the split of the reference.
        likelihood: The ``test.json`` of the verb ``test``, to be part of the report.
        num_pictures: Molecules in the grid.
        output: Folder to write to.
    """
    split = Split(val, test, split_seed).check()
    rows = [row for path in source_files(samples) for row in read_rows(path, column)]
    if not rows:
        raise InputError(f"{samples}: no molecules")
    checked = [check(row.smiles) for row in rows]
    known, rejected = _reference(reference, column)
    parts = split.indices(len(known))
    scores = score(checked, {known[index] for index in parts["train"].tolist()})
    held_out = [known[index] for index in parts["test"].tolist()]
    everything = score(checked, set(known))
    report = {
        "scores": scores._asdict(),
        "novel_against_whole_reference": everything.novel,
        "reference": reference,
        "split": split.describe(len(known)),
        "rejected_rows": _rejected(rejected),
        "sampling": _notes(Path(samples)),
        "likelihood": _json(Path(likelihood)) if likelihood else None,
        "versions": {"ardm-guidance": __version__, "rdkit": rdBase.rdkitVersion},
    }
    folder = Path(output)
    _pictures(checked, held_out, scores, folder, num_pictures)
    _write(report, folder / "report.json")
    print(_line(scores, reference, split.describe(len(known))))  # noqa: T201


def _reference(source: str, column: str) -> tuple[list[str], list[Rejected]]:
    known, rejected = [], []
    for path in source_files(source):
        for row in read_rows(path, column):
            try:
                known.append(canonical_smiles(read_smiles(row.smiles)))
            except ValueError as error:
                rejected.append(Rejected(row, str(error)))
    return known, rejected


def _rejected(rejected: Sequence[Rejected]) -> dict[str, Any]:
    rows = [{**row._asdict(), "reason": reason} for row, reason in rejected]
    return {"count": len(rows), "rows": rows}


def _notes(path: Path) -> Any:
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as parquet

    metadata = parquet.read_schema(path).metadata or {}
    return json.loads(metadata.get(b"ardm_guidance", b"null"))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from None


def _pictures(
    checked: Sequence[Checked], held_out: Sequence[str], scores: Scores, folder: Path, number: int
) -> None:
    caption = (
        f"{scores.num_samples} samples: {scores.valid:.1%} valid,"
        f" {scores.valid_connected:.1%} valid and connected,"
        f" {scores.unique:.1%} of these unique, {scores.novel:.1%} of the unique novel"
    )
    title = "Molecules of an order-agnostic autoregressive diffusion model"
    shown = checked[:number]
    molecule_grid(shown, folder / "molecules.png", title=title, caption=caption)
    whole = [item.smiles for item in checked if item.num_fragments == 1]
    names = (f"samples (n = {len(whole)})", f"test molecules (n = {len(held_out)})")
    if held_out:
        property_histograms(whole, held_out, folder / "properties.png", names=names)


def _write(report: dict[str, Any], path: Path) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    os.replace(partial, path)


def _line(scores: Scores, reference: str, split: str) -> str:
    shares = ", ".join(
        f"{name} {value:.4f}" for name, value in scores._asdict().items() if name != "num_samples"
    )
    return f"{shares} (n = {scores.num_samples}; against {reference}, {split})"
