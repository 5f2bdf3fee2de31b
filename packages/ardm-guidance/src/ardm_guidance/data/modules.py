"""Molecules for training and evaluation."""

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor

from ardm_guidance.data.caching import cached_molecules
from ardm_guidance.data.files import Molecules, Rejected
from ardm_guidance.data.splits import Split
from ardm_guidance.shell.checks import counts
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.loading import EvaluationLoader, TrainingLoader
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.shell.writing import whole
from ardm_guidance.sites.graphs import node_count, sizes
from ardm_guidance.sites.molecules import Fragments, MoleculeAlphabet, read_smiles
from ardm_guidance.sites.symmetry import log_labellings

__all__ = ["Batch", "MoleculeData", "MoleculeDataset", "read_split", "write_rejected"]


class Batch(NamedTuple):
    """Molecules with their rows in the source: ``sites`` ``(B, D)``, ``rows`` ``(B,)``."""

    sites: Tensor
    rows: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class MoleculeDataset:
    """A part of the encoded molecules.

    Arguments:
        sites: All molecules, ``(N, D)``.
        members: Indices of those in this part.
    """

    def __init__(self, sites: Tensor, members: Tensor) -> None:
        self.sites, self.members = sites[members], members

    def __len__(self) -> int:
        return len(self.sites)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch(self.sites[index].long(), self.members[index])


def write_rejected(rejected: Sequence[Rejected], path: Path) -> None:
    """Write the rows that could not be used: file, line, SMILES and reason."""
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "smiles", "reason"])
        writer.writerows([*item.row, item.reason] for item in rejected)


def refuse_few(source: str, molecules: Molecules) -> None:
    """Refuse to go on with less than half of the rows.

    Raises:
        InputError: More rows are rejected than used; the message has the reasons by count.
    """
    used, lost = len(molecules.smiles), len(molecules.rejected)
    if lost > used:
        reasons = Counter(item.reason for item in molecules.rejected).most_common(3)
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        raise InputError(
            f"{source}: only {used} of {used + lost} rows can be used ({told}); mend that, or give"
            " --data.allow_rejected true"
        )


def read_split(
    source: str,
    alphabet: MoleculeAlphabet,
    column: str,
    split: Split,
    trainer: lightning.Trainer,
    fragments: Fragments = "reject",
) -> tuple[Molecules, dict[str, Tensor]]:
    """Read and split a source; rows that cannot be used are warned of and listed.

    Returns:
        The molecules, and the indices of the parts.
    """
    molecules = cached_molecules(source, alphabet, column, fragments)
    if molecules.removed and trainer.is_global_zero:
        counts = ", ".join(f"{name} removed: {n}" for name, n in molecules.removed.items())
        warnings.warn(f"{source}: {counts} of {len(molecules.smiles)} molecules", stacklevel=2)
    if molecules.rejected and trainer.is_global_zero:
        path = Path(trainer.default_root_dir) / "rejected_rows.csv"
        write_rejected(molecules.rejected, path)
        row, reason = molecules.rejected[0]
        warnings.warn(
            f"{source}: {len(molecules.rejected)} rows not used, listed in {path};"
            f" the first: {row.file}:{row.line}: {reason}",
            stacklevel=2,
        )
    return molecules, split.indices(len(molecules.sites))


class MoleculeData(lightning.LightningDataModule):
    """Molecules of a source in a named random split.

    Rows that cannot be used are counted in a warning and listed with file, line and
    reason in ``rejected_rows.csv`` of the run's folder. A source of 50 000 molecules or more is
    kept encoded for the next run, see :mod:`ardm_guidance.data.caching`.

    Arguments:
        source: ``qm9-sample`` (10 000 molecules that come with the package), ``qm9``
            (the installed ``qm9pack``), ``moses``, ``moses-test`` or ``moses-test-scaffolds``
            (the installed ``molsets``), or a SMILES, CSV, Parquet or SDF file.
        column: Column of the SMILES in tables.
        batch_size: Molecules per device.
        val: Share of the validation part.
        test: Share of the test part.
        split_seed: Seed of the split.
        seed: Seed of the order of training molecules.
        fragments: What is done about molecules of several pieces, such as salts: ``reject`` them,
            take the ``largest`` piece, or ``keep`` all.
        allow_rejected: Train although more than half of the rows can't be used.
    """

    __str__ = in_a_line

    def __init__(
        self,
        source: str = "qm9-sample",
        column: str = "SMILES",
        batch_size: int = 64,
        val: float = 0.05,
        test: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
        fragments: Fragments = "reject",
        allow_rejected: bool = False,
    ) -> None:
        super().__init__()
        counts(batch_size=batch_size)
        self.source, self.column = source, column
        self.fragments, self.allow_rejected = fragments, allow_rejected
        self.batch_size, self.seed = batch_size, seed
        self.split = Split(val, test, split_seed).check()
        self.molecules: Molecules | None = None

    def prepare_data(self) -> None:
        """Read the source on one device of a machine; the others find a large one kept."""
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Read the source with the alphabet of the model, once."""
        if self.molecules is None and self.trainer is not None:
            alphabet: Any = self.trainer.lightning_module.alphabet
            self.molecules, self.parts = read_split(
                self.source, alphabet, self.column, self.split, self.trainer, self.fragments
            )
            if not self.allow_rejected:
                refuse_few(self.source, self.molecules)

    def read(self, alphabet: MoleculeAlphabet) -> None:
        """Read and split the source without a trainer."""
        self.molecules = cached_molecules(self.source, alphabet, self.column, self.fragments)
        self.parts = self.split.indices(len(self.molecules.sites))

    def part(self, name: str) -> MoleculeDataset:
        """The part ``train``, ``val`` or ``test``."""
        if self.molecules is None:
            raise ValueError("the molecules have not been read; call setup or read first")
        return MoleculeDataset(self.molecules.sites, self.parts[name])

    def size_counts(self) -> Tensor:
        """How many training molecules have 0, 1, ... atoms, ``(max_atoms + 1,)``."""
        sites = self.part("train").sites
        return torch.bincount(sizes(sites), minlength=node_count(sites.shape[-1]) + 1)

    def columns(self, row: int) -> dict[str, str]:
        """How a molecule of the source is written to a table."""
        assert self.molecules is not None
        return {"smiles": self.molecules.smiles[row]}

    def log_labellings(self, row: int) -> float:
        """Logarithm of the labelled graphs that are one molecule of the source."""
        assert self.molecules is not None
        return log_labellings(read_smiles(self.molecules.smiles[row]))

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, resumable."""
        return TrainingLoader(self.part("train"), self.batch_size, self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every validation molecule once."""
        return EvaluationLoader(self.part("val"), self.batch_size)

    def test_dataloader(self) -> EvaluationLoader:
        """Every test molecule once."""
        return EvaluationLoader(self.part("test"), self.batch_size)

    def predict_dataloader(self) -> EvaluationLoader:
        """Every test molecule once."""
        return self.test_dataloader()
