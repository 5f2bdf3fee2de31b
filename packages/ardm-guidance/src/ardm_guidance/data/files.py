"""Files of molecules, read row by row.

A source is the name of a data set or a file: ``.smi`` and ``.txt`` (one SMILES a line, a
name may follow), ``.csv``, ``.parquet``, ``.sdf``, the text ones also as ``.gz``.  A row
that cannot be used keeps its file and line, and is counted: nothing is dropped in silence.
"""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

import pyarrow
import torch
from rdkit import Chem, rdBase
from torch import Tensor
from tqdm import tqdm

from ardm_guidance.shell.configuration import near_miss
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.molecules import (
    Fragments,
    MoleculeAlphabet,
    canonical_smiles,
    choose_fragments,
    read_counting,
)

__all__ = [
    "Molecules",
    "Rejected",
    "Row",
    "installed_folder",
    "read_molecules",
    "read_rows",
    "source_files",
]

_SHIPPED = {"qm9-sample": Path(__file__).parents[1] / "samples" / "qm9_10k.smi.gz"}
_ZIPPED = (".gz",)
_MOSES = ("moses", "molsets==0.3.1", "dataset/data")
# Module, what to install, folder and files of the data sets that packages bring along.
_INSTALLED = {
    "qm9": ("qm9pack", "qm9pack==1.0.3", "data", [f"qm9_part{part}.csv" for part in (1, 2, 3)]),
    "moses": (*_MOSES, ["train.csv.gz"]),
    "moses-test": (*_MOSES, ["test.csv.gz"]),
    "moses-test-scaffolds": (*_MOSES, ["test_scaffolds.csv.gz"]),
}


class Row(NamedTuple):
    """A SMILES and where it stands; lines count from 1."""

    file: str
    line: int
    smiles: str


class Rejected(NamedTuple):
    """A row that cannot be used, and why."""

    row: Row
    reason: str


class Molecules(NamedTuple):
    """Encoded molecules.

    Attributes:
        sites: ``(N, D)``, int8: the training set of MOSES has 700 million of them.
        smiles: Their canonical SMILES without stereo marks, isotopes and atom maps.
        rejected: Rows that are not among them.
        removed: How many have lost something by its name: ``stereo``, ``isotopes``,
            ``atom maps``, ``fragments``.
    """

    sites: Tensor
    smiles: list[str]
    rejected: list[Rejected]
    removed: dict[str, int]

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def source_files(source: str) -> list[Path]:
    """Files of a source: ``qm9-sample``, ``qm9``, ``moses``, ``moses-test``, or a path.

    Raises:
        InputError: There is no such file, or the data set is not installed.
    """
    if source in _SHIPPED:
        return [_SHIPPED[source]]
    if source in _INSTALLED:
        module, requirement, folder, names = _INSTALLED[source]
        return [installed_folder(module, requirement) / folder / name for name in names]
    if Path(source).is_dir():
        raise InputError(f"{source}: is a folder; expected a file or the name of a data set")
    if not Path(source).is_file():
        raise InputError(f"{source}: no such file or data set{near_miss(source, _names(source))}")
    return [Path(source)]


def _names(source: str) -> list[str]:
    return [*_SHIPPED, *_INSTALLED, *(str(path) for path in Path(source).parent.glob("*.*"))]


def installed_folder(module: str, requirement: str) -> Path:
    """Folder of an installed package, which is not imported.

    Arguments:
        module: Its import name.
        requirement: What to install, such as ``qm9pack==1.0.3``.

    Raises:
        InputError: It is not installed.
    """
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        name = requirement.partition("=")[0]
        raise InputError(f"{name}: not installed; pip install --no-deps {requirement}")
    return Path(spec.submodule_search_locations[0])


def _open(path: Path) -> TextIO:
    if path.suffix in _ZIPPED:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=None)
    return path.open(encoding="utf-8-sig", newline=None)


def read_rows(path: Path, column: str = "SMILES") -> Iterator[Row]:
    """Rows of one file.

    Arguments:
        path: The file; its ending names the format.
        column: Column of the SMILES in tables; case does not matter.
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    readers = {"smi": _lines, "txt": _lines, "csv": _table, "parquet": _parquet, "sdf": _sdf}
    if kind not in readers:
        raise InputError(f"{path}: expected one of .{', .'.join(readers)}, got .{kind}")
    try:
        yield from readers[kind](path, column)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, csv.Error, pyarrow.ArrowInvalid) as error:
        raise InputError(f"{path}: not readable ({error})") from error
    except SystemError as error:
        # What a damaged archive raises within RDKit's reader.
        raise InputError(f"{path}: not readable ({error.__cause__})") from error


def _lines(path: Path, column: str) -> Iterator[Row]:
    with _open(path) as file:
        for line, text in enumerate(file, 1):
            if text.strip() and not (line == 1 and _is_header(text)):
                yield Row(str(path), line, text.split()[0])


def _is_header(text: str) -> bool:
    return text.split()[0].strip('"').lower() in ("smiles", "smile", "canonical_smiles", "mol")


def _pick(path: Path, names: list[str], column: str) -> str:
    for name in names:
        if name.lower() == column.lower():
            return name
    known = near_miss(column, names) or f"; --column names one of {', '.join(names)}"
    raise InputError(f"{path}: no column {column!r}{known}")


def _table(path: Path, column: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 24)  # geometries of a whole molecule stand in one field of QM9
    with _open(path) as file:
        first = file.readline()
        separator = max(",;\t", key=first.count)
        reader = csv.DictReader(chain([first], file), delimiter=separator)
        name = _pick(path, list(reader.fieldnames or ()), column)
        for values in reader:
            yield Row(str(path), reader.line_num, values[name] or "")


def _parquet(path: Path, column: str) -> Iterator[Row]:
    import pyarrow.parquet as parquet

    name = _pick(path, parquet.read_schema(path).names, column)
    for line, value in enumerate(parquet.read_table(path, columns=[name])[name].to_pylist(), 1):
        if not isinstance(value, str | type(None)):
            kind = type(value).__name__
            raise InputError(f"{path}: column {name!r}: expected text, got {kind} in row {line}")
        yield Row(str(path), line, value or "")


def _sdf(path: Path, column: str) -> Iterator[Row]:
    """Records of an SDF, V2000 or V3000; the line is the number of the record."""
    opened = gzip.open if path.suffix in _ZIPPED else open
    with opened(path, "rb") as file, rdBase.BlockLogs():
        for line, molecule in enumerate(Chem.ForwardSDMolSupplier(file), 1):
            yield Row(str(path), line, "" if molecule is None else Chem.MolToSmiles(molecule))


def read_molecules(
    source: str,
    alphabet: MoleculeAlphabet,
    column: str = "SMILES",
    fragments: Fragments = "reject",
) -> Molecules:
    """Read and encode a source; what is lost on the way is counted.

    Arguments:
        source: As for :func:`source_files`.
        alphabet: The atom classes.
        column: Column of the SMILES in tables.
        fragments: What is done about molecules of several pieces.

    Raises:
        InputError: No row of it can be used.
    """
    sites, smiles, rejected = [], [], []
    removed: Counter[str] = Counter()
    rows = (row for path in source_files(source) for row in read_rows(path, column))
    # Shown on terminals only, and only where it takes long.
    for row in tqdm(rows, source, unit=" rows", delay=5, disable=None, leave=False):
        try:
            read, lost = read_counting(row.smiles)
            molecule = choose_fragments(read, fragments)
            sites.append(alphabet.encode(molecule).to(torch.int8))
            smiles.append(canonical_smiles(molecule))
            removed.update([*lost, *(["fragments"] if molecule is not read else [])])
        except ValueError as error:
            rejected.append(Rejected(row, str(error)))
    if not sites:
        reasons = [f"; the first: line {row.line}: {reason}" for row, reason in rejected[:1]]
        raise InputError(f"{source}: no usable molecule{''.join(reasons)}")
    return Molecules(torch.stack(sites), smiles, rejected, dict(removed))
