"""Own data in one command: what a file holds, and a configuration that trains on it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rdkit import Chem

from ardm_guidance.data.files import Rejected, read_rows, source_files
from ardm_guidance.data.splits import Split
from ardm_guidance.shell.configuration import read_config, shipped_configs
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import claim, whole
from ardm_guidance.sites.graphs import site_count
from ardm_guidance.sites.molecules import (
    Fragments,
    MoleculeAlphabet,
    choose_fragments,
    read_counting,
)

__all__ = ["prepare"]

_COMMON = 0.95  # share of the molecules that are of a common size
_RARE = 0.001  # share of the molecules below which an atom type is left out


def prepare(
    source: str,
    output: str = "prepared.yaml",
    column: str = "SMILES",
    fragments: Fragments = "reject",
    max_atoms: int | None = None,
    rare: float = _RARE,
) -> None:
    """Read a file of molecules, tell what can be used, and write a configuration for it.

    The configuration trains a graph model: ``ardm-guidance fit --config prepared.yaml``.

    Arguments:
        source: SMILES, CSV, Parquet or SDF file, also as gz, or the name of a data set.
        output: Configuration to write.
        column: Column of the SMILES in tables.
        fragments: What is done about molecules of several pieces, such as salts: ``reject`` them,
            take the ``largest`` piece, or ``keep`` all.
        max_atoms: Heavy atoms of the largest molecule that is used; by default of the file's
            largest.
        rare: Share of the molecules below which an atom type is left out, and with it the
            molecules that have it.
    """
    claim(output)
    found, rejected, removed = _read(source, column, fragments)
    if not found:
        raise InputError(f"{source}: no usable molecule{_reasons(rejected)}")
    types = _atom_types(found, rare)
    largest = max_atoms or max(molecule.GetNumAtoms() for molecule in found)
    used, outside = _count(found, MoleculeAlphabet(tuple(types), largest))
    lines = [f"{source}: {used} of {len(found) + len(rejected)} rows can be used"]
    lines += [
        f"  {count} x {reason}" for reason, count in (outside + _tally(rejected)).most_common()
    ]
    lines += [f"  {name} removed: {count}" for name, count in removed.items()]
    lines.append(f"  {len(types)} atom types: {', '.join(types)}; at most {largest} heavy atoms")
    lines += _outsized(found) if max_atoms is None else []
    print("\n".join(lines))  # noqa: T201
    if not used:
        raise InputError(f"{source}: no usable molecule{_reasons(rejected)}")
    content = _configuration(source, column, fragments, types, largest)
    # What the user has seen and asked for isn't refused afterwards.
    data = content["data"]["init_args"]
    data["allow_rejected"] = 2 * used < len(found) + len(rejected)
    # A batch of a small file is no larger than the part that is trained on.
    data["batch_size"] = min(data["batch_size"], len(Split().indices(used)["train"]))
    with whole(output) as partial:
        head = f"# A graph ARDM of {source}: {used} molecules.\n"
        partial.write_text(head + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _read(
    source: str, column: str, fragments: Fragments
) -> tuple[list[Chem.Mol], list[Rejected], Counter[str]]:
    found, rejected, removed = [], [], Counter[str]()
    for row in (row for path in source_files(source) for row in read_rows(path, column)):
        try:
            molecule, lost = read_counting(row.smiles)
            found.append(choose_fragments(molecule, fragments))
            removed.update(lost)
        except ValueError as error:
            rejected.append(Rejected(row, str(error)))
    return found, rejected, removed


def _outsized(molecules: Sequence[Chem.Mol]) -> list[str]:
    """What a few large molecules cost, where it is much: sites grow with the square of atoms."""
    sizes = sorted(molecule.GetNumAtoms() for molecule in molecules)
    common, largest = sizes[int(_COMMON * (len(sizes) - 1))], sizes[-1]
    if site_count(largest) < 2 * site_count(common):
        return []
    number = sum(size > common for size in sizes)
    return [
        f"  {number} have more than {common} heavy atoms: without them (--max_atoms {common})"
        f" an object takes {site_count(common)} sites, now {site_count(largest)}"
    ]


def _types(molecule: Chem.Mol) -> set[str]:
    names = set()
    for atom in molecule.GetAtoms():
        charge = atom.GetFormalCharge()
        size = "" if abs(charge) == 1 else str(abs(charge))
        names.add(atom.GetSymbol() + (f"{'+' if charge > 0 else '-'}{size}" if charge else ""))
    return names


def _atom_types(molecules: Sequence[Chem.Mol], rare: float) -> list[str]:
    """Atom types from the most to the least frequent, without rare and impossible ones."""
    counted = Counter(name for molecule in molecules for name in sorted(_types(molecule)))
    names = [name for name, count in counted.most_common() if count >= rare * len(molecules)]
    return [name for name in names if _is_known(name)]


def _is_known(name: str) -> bool:
    try:
        MoleculeAlphabet((name,), 1)
    except ValueError:
        return False
    return True


def _count(molecules: Sequence[Chem.Mol], alphabet: MoleculeAlphabet) -> tuple[int, Counter[str]]:
    """How many molecules have a place in an alphabet, and why the others have none."""
    reasons: Counter[str] = Counter()
    for molecule in molecules:
        try:
            alphabet.encode(molecule)
        except ValueError as error:
            reasons[str(error)] += 1
    return len(molecules) - reasons.total(), reasons


def _tally(rejected: Sequence[Rejected]) -> Counter[str]:
    return Counter(reason.partition(": ")[0] for _, reason in rejected)


def _reasons(rejected: Sequence[Rejected]) -> str:
    told = "; ".join(f"{count} x {reason}" for reason, count in _tally(rejected).most_common(3))
    return f" ({told})" if told else ""


def _configuration(
    source: str, column: str, fragments: str, types: list[str], max_atoms: int
) -> dict[str, Any]:
    """The shipped configuration of QM9 with the numbers of another file."""
    content: dict[str, Any] = read_config(shipped_configs()["qm9.yaml"])
    model, data = content["model"]["init_args"], content["data"]["init_args"]
    content["trainer"]["default_root_dir"] = f"out/ardm-guidance-{Path(source).name.split('.')[0]}"
    model |= {"atom_types": types, "max_atoms": max_atoms}
    model["network"]["init_args"] |= {
        "num_node_classes": len(types),
        "num_edge_classes": 4,
        "max_nodes": max_atoms,
    }
    data |= {"source": source, "column": column, "fragments": fragments}
    return content
