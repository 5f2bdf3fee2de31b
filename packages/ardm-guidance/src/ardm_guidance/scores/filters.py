"""The filters of MOSES: charges, large rings, foreign elements and unwanted substructures."""

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rdkit import Chem

from ardm_guidance.data.files import installed_folder
from ardm_guidance.scores.screening import Screened

__all__ = ["load_filters", "passes_filters"]

_ELEMENTS = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}
_DISTRIBUTION = "molsets==0.3.1"


def load_filters() -> Screened:
    """Unwanted substructures: the lists of the installed ``molsets``.

    Raises:
        InputError: It is not installed.
    """
    return _filters(installed_folder("moses", _DISTRIBUTION) / "metrics")


@lru_cache(maxsize=2)
def _filters(folder: Path) -> Screened:
    with (folder / "mcf.csv").open(encoding="utf-8") as file:
        smarts = [row["smarts"] for row in csv.DictReader(file)]
    with (folder / "wehi_pains.csv").open(encoding="utf-8") as file:
        smarts += [row[0] for row in csv.reader(file)]
    return Screened([Chem.MolFromSmarts(text.strip()) for text in smarts])


def passes_filters(molecule: Chem.Mol, unwanted: Sequence[Chem.Mol]) -> bool:
    """Whether a molecule passes the filters of MOSES."""
    if any(len(ring) >= 8 for ring in molecule.GetRingInfo().AtomRings()):
        return False
    if any(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        return False
    if any(atom.GetSymbol() not in _ELEMENTS for atom in molecule.GetAtoms()):
        return False
    whole = Chem.AddHs(molecule)
    screened = unwanted if isinstance(unwanted, Screened) else Screened(unwanted)
    if any(True for _ in screened.found_in(whole)):
        return False
    return Chem.MolFromSmiles(Chem.MolToSmiles(molecule, isomericSmiles=False)) is not None
