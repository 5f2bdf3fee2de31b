"""The verb ``evaluate``: score generated molecules against a reference, without a model.

Against a file or QM9 the reference is a random split; against ``moses`` it is the benchmark's own:
training molecules for novelty, and its test and scaffold test sets with their published statistics.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase

from ardm_guidance import __version__
from ardm_guidance.data.files import Rejected, read_rows, source_files
from ardm_guidance.data.splits import Split
from ardm_guidance.scores.chemnet import ChemNet, load_chemnet
from ardm_guidance.scores.evaluation import Checked, Scores, check, score
from ardm_guidance.scores.filters import load_filters
from ardm_guidance.scores.known import Known, known_molecules
from ardm_guidance.scores.moses import moses_scores, published_statistics, statistics
from ardm_guidance.scores.plots import molecule_grid, property_histograms
from ardm_guidance.scores.screening import Screened
from ardm_guidance.scores.workers import in_pieces
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import claim, whole

__all__ = ["evaluate"]

_SHOWN = 10_000  # molecules of a histogram


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
    num_workers: int = 0,
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
        num_workers: Processes for the work of RDKit; 0 does all in this one.
        output: Folder to write to.
    """
    split = Split(val, test, split_seed).check()
    folder = Path(output)
    claim(*(folder / name for name in ("report.json", "molecules.png", "properties.png")))
    rows = [row for path in source_files(samples) for row in read_rows(path, column)]
    if not rows:
        raise InputError(f"{samples}: no molecules")
    pattern = _pattern(scaffold)
    texts = [row.smiles for row in rows]
    pieces = in_pieces(_checked, texts, num_workers, "samples")
    checked = [one for piece in pieces for one in piece]
    known = known_molecules(reference, column, split, num_workers)
    scores = score(checked, known.training)
    lost = Counter(name for one in checked for name in one.removed)
    removed = {"samples": dict(lost), "reference": known.removed}
    report = {
        "scores": scores._asdict(),
        "novel_against_whole_reference": score(checked, known.everything).novel,
        "moses": _moses(texts, checked, known, num_workers),
        "reference": reference,
        "split": known.split,
        "rejected_rows": _rejected(known.rejected),
        "removed": removed,
        "sampling": _notes(Path(samples)),
        "likelihood": _json(Path(likelihood)) if likelihood else None,
        "versions": {"ardm-guidance": __version__, "rdkit": rdBase.rdkitVersion},
    }
    _pictures(checked, known.held_out, scores, folder, num_pictures, pattern)
    _write(report, folder / "report.json")
    print(*_told(removed), _line(scores, reference, known.split), sep="\n")  # noqa: T201


def _told(removed: dict[str, dict[str, int]]) -> list[str]:
    """What was taken off before anything was compared, a line for each."""
    return [
        f"{place}: {name} removed: {count}"
        for place, counts in removed.items()
        for name, count in counts.items()
    ]


def _checked(texts: Sequence[str]) -> list[Checked]:
    return [check(text) for text in texts]


def _moses(
    samples: list[str], checked: list[Checked], known: Known, num_workers: int
) -> dict[str, Any]:
    """Scores of the benchmark, and what could not be had."""
    missing = []
    chemnet: ChemNet | None = None
    unwanted: Screened | None = None
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
        references = {
            f"test part of: {known.split}": statistics(known.held_out, chemnet, num_workers)
        }
    canonicals = [one.smiles if one.valid else None for one in checked]
    options: Any = {
        "chemnet": chemnet, "unwanted": unwanted, "canonicals": canonicals,
        "num_workers": num_workers,
    }  # fmt: skip
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
    except (OSError, ValueError, RecursionError) as error:
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
    drawn, reference = _thinned(whole), _thinned(held_out)
    names = (f"samples (n = {len(drawn)})", f"test molecules (n = {len(reference)})")
    if held_out:
        property_histograms(drawn, reference, folder / "properties.png", names=names)


def _thinned(texts: Sequence[str]) -> Sequence[str]:
    """At most 10 000, evenly: a histogram shows no more."""
    return texts[:: -(-len(texts) // _SHOWN)] if texts else texts


def _write(report: dict[str, Any], path: Path) -> None:
    with whole(path) as partial:
        partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")


def _line(scores: Scores, reference: str, split: str) -> str:
    values = scores._asdict()
    number = values.pop("num_samples")
    shares = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    return f"{shares} (n = {number}; against {reference}, {split})"
