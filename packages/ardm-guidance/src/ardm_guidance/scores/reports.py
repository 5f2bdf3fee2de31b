"""The verb ``evaluate``: score generated molecules against a reference, without a model.

Against a file or QM9 the reference is a random split; against ``moses`` it is the benchmark's own:
training molecules for novelty, and its test and scaffold test sets with their published statistics.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rdkit import Chem, rdBase

from ardm_guidance import __version__
from ardm_guidance.data.files import Rejected, read_rows, source_files
from ardm_guidance.data.splits import Split
from ardm_guidance.scores.chemnet import ChemNet, load_chemnet
from ardm_guidance.scores.evaluation import Checked, Scores, check, score
from ardm_guidance.scores.moses import load_filters, moses_scores, published_statistics, statistics
from ardm_guidance.scores.plots import molecule_grid, property_histograms
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import claim, whole
from ardm_guidance.sites.molecules import canonical_smiles, read_smiles

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
    scaffold: str | None = None,
    output: str = "out/ardm-guidance",
) -> None:
    """Score generated molecules and draw them.

    Writes ``report.json``, ``molecules.png`` and ``properties.png``.  The scores of the MOSES
    benchmark are part of the report; its filters need ``molsets`` and the Fréchet ChemNet
    distance ``fcd-torch``, and the report says which of them was missing.

    Arguments:
        samples: Parquet of ``sample``, or any SMILES, CSV or SDF file.
        reference: Source of the training molecules: ``qm9-sample``, ``qm9``, ``moses`` or a file.
        column: Column of the SMILES in tables.
        val: Share of the validation part of the reference.
        test: Share of the test part of the reference.
        split_seed: Seed of the split of the reference.
        likelihood: The ``test.json`` of the verb ``test``, to be part of the report.
        num_pictures: Molecules in the grid.
        scaffold: SMILES or SMARTS to highlight in the grid; where a molecule has it, that is
            marked.
        output: Folder to write to.
    """
    split = Split(val, test, split_seed).check()
    folder = Path(output)
    claim(*(folder / name for name in ("report.json", "molecules.png", "properties.png")))
    rows = [row for path in source_files(samples) for row in read_rows(path, column)]
    if not rows:
        raise InputError(f"{samples}: no molecules")
    pattern = _pattern(scaffold)
    checked = [check(row.smiles) for row in rows]
    known = _known(reference, column, split)
    scores = score(checked, known.training)
    report = {
        "scores": scores._asdict(),
        "novel_against_whole_reference": score(checked, known.everything).novel,
        "moses": _moses([row.smiles for row in rows], known),
        "reference": reference,
        "split": known.split,
        "rejected_rows": _rejected(known.rejected),
        "sampling": _notes(Path(samples)),
        "likelihood": _json(Path(likelihood)) if likelihood else None,
        "versions": {"ardm-guidance": __version__, "rdkit": rdBase.rdkitVersion},
    }
    _pictures(checked, known.held_out, scores, folder, num_pictures, pattern)
    _write(report, folder / "report.json")
    print(_line(scores, reference, known.split))  # noqa: T201


class _Known(NamedTuple):
    """The reference: canonical SMILES of its parts, and statistics of the test sets by name."""

    training: set[str]
    everything: set[str]
    held_out: list[str]
    split: str
    rejected: list[Rejected]
    published: dict[str, str]


def _known(source: str, column: str, split: Split) -> _Known:
    found, rejected = _reference(source, column)
    if source == "moses":
        held_out, more = _reference("moses-test", column)
        published = {"MOSES test": "test", "MOSES scaffold test": "test_scaffolds"}
        training = set(found)
        whole = training.union(held_out)
        words = f"MOSES: {len(found)} train, {len(held_out)} test"
        return _Known(training, whole, held_out, words, rejected + more, published)
    parts = split.indices(len(found))
    training = {found[index] for index in parts["train"].tolist()}
    held_out = [found[index] for index in parts["test"].tolist()]
    return _Known(training, set(found), held_out, split.describe(len(found)), rejected, {})


def _moses(samples: list[str], known: _Known) -> dict[str, Any]:
    """Scores of the benchmark, and what could not be had."""
    missing = []
    chemnet: ChemNet | None = None
    unwanted: list[Chem.Mol] | None = None
    try:
        chemnet = load_chemnet()
    except InputError as error:
        missing.append(f"FCD: {error}")
    try:
        unwanted = load_filters()
    except InputError as error:
        missing.append(f"filters: {error}")
    references = {name: published_statistics(part) for name, part in known.published.items()}
    if not references and len(known.held_out) > 1:
        references = {f"test part of: {known.split}": statistics(known.held_out, chemnet)}
    options: Any = {"chemnet": chemnet, "unwanted": unwanted}
    scores = moses_scores(samples, references, known.training, **options)
    distances = [one._asdict() for one in scores.distances]
    return scores._asdict() | {"distances": distances, "missing": missing}


def _pattern(text: str | None) -> Chem.Mol | None:
    if text is None:
        return None
    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(text)
    if pattern is None:
        raise InputError(f"scaffold: expected a SMILES or SMARTS, got {text!r}")
    return pattern


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
    checked: Sequence[Checked],
    held_out: Sequence[str],
    scores: Scores,
    folder: Path,
    number: int,
    pattern: Chem.Mol | None,
) -> None:
    caption = (
        f"{scores.num_samples} samples: {scores.valid:.1%} valid,"
        f" {scores.valid_connected:.1%} valid and connected,"
        f" {scores.unique:.1%} of these unique, {scores.novel:.1%} of the unique novel"
    )
    title = "Molecules of an order-agnostic autoregressive diffusion model"
    path, shown = folder / "molecules.png", checked[:number]
    molecule_grid(shown, path, title=title, caption=caption, pattern=pattern)
    whole = [item.smiles for item in checked if item.num_fragments == 1]
    names = (f"samples (n = {len(whole)})", f"test molecules (n = {len(held_out)})")
    if held_out:
        property_histograms(whole, held_out, folder / "properties.png", names=names)


def _write(report: dict[str, Any], path: Path) -> None:
    with whole(path) as partial:
        partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")


def _line(scores: Scores, reference: str, split: str) -> str:
    values = scores._asdict()
    number = values.pop("num_samples")
    shares = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    return f"{shares} (n = {number}; against {reference}, {split})"
