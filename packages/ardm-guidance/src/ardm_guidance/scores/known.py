"""The reference that samples are scored against: canonical forms, kept between runs.

Reading and canonicalising take about .3 ms a molecule, many minutes for the 1.6 million of MOSES.
The forms of a large source are therefore kept once they are known, beside the encoded molecules of
:mod:`ardm_guidance.data.caching`, under a digest of all that they depend on.
"""

import gzip
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdkit import rdBase

from ardm_guidance import __version__
from ardm_guidance.data.caching import cache_folder
from ardm_guidance.data.files import Rejected, Row, read_rows, source_files
from ardm_guidance.data.splits import Split
from ardm_guidance.scores.workers import in_pieces
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import whole
from ardm_guidance.sites.molecules import canonical_smiles, read_counting

__all__ = ["Known", "Reference", "canonical_reference", "known_molecules"]

_LARGE = 50_000
_FORMAT = 2
# A source with a split of its own, and the source that holds its test molecules.
_OWN_SPLIT = {"moses": "moses-test"}
_PUBLISHED = {"moses": {"MOSES test": "test", "MOSES scaffold test": "test_scaffolds"}}


class Reference(NamedTuple):
    """A source in canonical form.

    Attributes:
        smiles: Canonical SMILES.
        rejected: Rows that have none.
        removed: How many have lost something by its name: ``stereo``, ``isotopes``, ``atom maps``.
    """

    smiles: list[str]
    rejected: list[Rejected]
    removed: dict[str, int]


class Known(NamedTuple):
    """The reference: canonical SMILES of its parts, and statistics of the test sets by name."""

    training: set[str]
    everything: set[str]
    held_out: list[str]
    split: str
    rejected: list[Rejected]
    removed: dict[str, int]
    published: dict[str, str]


def known_molecules(source: str, column: str, split: Split, num_workers: int = 0) -> Known:
    """The parts of a reference.

    Arguments:
        source: As for :func:`~ardm_guidance.data.files.source_files`.
        column: Column of the SMILES in tables.
        split: Of sources that have none of their own.
        num_workers: Processes; none is this one.
    """
    found, rejected, removed = canonical_reference(source, column, num_workers)
    if source in _OWN_SPLIT:
        held_out, more, lost = canonical_reference(_OWN_SPLIT[source], column, num_workers)
        removed = dict(Counter(removed) + Counter(lost))
        training = set(found)
        words = f"{source.upper()}: {len(found)} train, {len(held_out)} test"
        everything = training.union(held_out)
        published = _PUBLISHED[source]
        return Known(training, everything, held_out, words, rejected + more, removed, published)
    parts = split.indices(len(found))
    training = {found[index] for index in parts["train"].tolist()}
    held_out = [found[index] for index in parts["test"].tolist()]
    words = split.describe(len(found))
    return Known(training, set(found), held_out, words, rejected, removed, {})


def canonical_reference(
    source: str, column: str, num_workers: int = 0, large: int = _LARGE
) -> Reference:
    """Canonical SMILES of a source, or what was kept of them.

    Arguments:
        source: As for :func:`~ardm_guidance.data.files.source_files`.
        column: Column of the SMILES in tables.
        num_workers: Processes; none is this one.
        large: Molecules from which on they are kept.
    """
    path = cache_folder() / f"{_digest(source, column)}.json.gz"
    kept = _read(path)
    if kept is not None:
        return kept
    rows = [row for file in source_files(source) for row in read_rows(file, column)]
    texts = [row.smiles for row in rows]
    pieces = in_pieces(_forms, texts, num_workers, f"canonical forms of {source}")
    forms = [form for piece in pieces for form in piece]
    found = [form.smiles for form in forms if form.smiles is not None]
    rejected = [
        Rejected(row, form.reason)
        for row, form in zip(rows, forms, strict=True)
        if form.smiles is None
    ]
    removed = Counter(name for form in forms for name in form.removed)
    reference = Reference(found, rejected, dict(removed))
    if len(found) >= large:
        _keep(reference, path)
    return reference


class _Form(NamedTuple):
    smiles: str | None
    reason: str = ""
    removed: tuple[str, ...] = ()


def _forms(texts: Sequence[str]) -> list[_Form]:
    return [_form(text) for text in texts]


def _form(text: str) -> _Form:
    try:
        molecule, removed = read_counting(text)
        return _Form(canonical_smiles(molecule), removed=removed)
    except ValueError as error:
        return _Form(None, str(error))


def _digest(source: str, column: str) -> str:
    states = [(path.resolve(), path.stat()) for path in source_files(source)]
    key = {
        "files": [(str(path), state.st_size, state.st_mtime_ns) for path, state in states],
        "column": column,
        "forms": _FORMAT,
        "versions": [__version__, rdBase.rdkitVersion],
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path) -> Reference | None:
    """What is kept, or none where it is missing or damaged."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            content = json.load(file)
        rejected = [Rejected(Row(*row), reason) for row, reason in content["rejected"]]
        return Reference(content["smiles"], rejected, dict(content["removed"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _keep(reference: Reference, path: Path) -> None:
    """Write whole or not at all; a folder that cannot be written is no reason to stop."""
    content = {
        "smiles": reference.smiles,
        "rejected": [(tuple(item.row), item.reason) for item in reference.rejected],
        "removed": reference.removed,
    }
    try:
        with whole(path, told=False) as partial, gzip.open(
            partial, "wt", compresslevel=1, encoding="utf-8"
        ) as file:  # fmt: skip
            json.dump(content, file)
    except (InputError, OSError) as error:
        warnings.warn(f"{path.parent}: reference not kept for the next run ({error})", stacklevel=3)
