"""Encoded molecules of large sources, kept between runs.

Reading and encoding take about 0.4 ms a molecule, ten minutes for the 1.6 million of MOSES.  A
large source is therefore kept once it has been read: in ``$ARDM_GUIDANCE_CACHE``, or in
``ardm-guidance`` of the user's cache folder.  The name of the file is a digest of all that
the result depends on (source files with size and time of change, column, alphabet, versions),
so that a changed source is read anew. Files of what has changed stay, and can be deleted any time.
"""

import hashlib
import json
import os
import pickle
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from rdkit import rdBase

from ardm_guidance import __version__
from ardm_guidance.data.files import Molecules, Rejected, Row, read_molecules, source_files
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import whole
from ardm_guidance.sites.molecules import Fragments, MoleculeAlphabet

__all__ = ["cache_folder", "cached_molecules"]

_LARGE = 50_000


def cache_folder() -> Path:
    """Where encoded molecules are kept."""
    own = os.environ.get("ARDM_GUIDANCE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ardm-guidance"


def _digest(source: str, alphabet: MoleculeAlphabet, column: str, fragments: str) -> str:
    states = [(path.resolve(), path.stat()) for path in source_files(source)]
    key = {
        "files": [(str(path), state.st_size, state.st_mtime_ns) for path, state in states],
        "column": column,
        "fragments": fragments,
        "format": 2,
        "alphabet": asdict(alphabet),
        "versions": [__version__, rdBase.rdkitVersion],
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path) -> Molecules | None:
    """What is kept, or none where it is missing or damaged."""
    try:
        content = torch.load(path, weights_only=True)
        rejected = [Rejected(Row(*row), reason) for row, reason in content["rejected"]]
        return Molecules(content["sites"], content["smiles"], rejected, content["removed"])
    except (
        OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError
    ):  # fmt: skip
        return None


def _keep(molecules: Molecules, path: Path) -> None:
    """Write whole or not at all; a folder that cannot be written is no reason to stop."""
    content = molecules._asdict()
    content["rejected"] = [(tuple(item.row), item.reason) for item in molecules.rejected]
    try:
        with whole(path, told=False) as partial:
            torch.save(content, partial)
    except (InputError, OSError, RuntimeError) as error:
        warnings.warn(f"{path.parent}: molecules not kept for the next run ({error})", stacklevel=3)


def cached_molecules(
    source: str,
    alphabet: MoleculeAlphabet,
    column: str = "SMILES",
    fragments: Fragments = "reject",
    large: int = _LARGE,
) -> Molecules:
    """Read a source, or what was kept of it.

    Arguments:
        source: As for :func:`~ardm_guidance.data.files.read_molecules`.
        alphabet: The atom classes.
        column: Column of the SMILES in tables.
        fragments: What is done about molecules of several pieces.
        large: Molecules from which on a source is kept.

    Raises:
        InputError: No row of it can be used.
    """
    path = cache_folder() / f"{_digest(source, alphabet, column, fragments)}.pt"
    molecules = _read(path)
    if molecules is None:
        molecules = read_molecules(source, alphabet, column, fragments)
        if len(molecules.smiles) >= large:
            _keep(molecules, path)
    return molecules
