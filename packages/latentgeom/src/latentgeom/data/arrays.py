"""A data module of users' own arrays."""

from typing import Any

import lightning.pytorch as lightning
import torch

from latentgeom.data.files import Table, read_table
from latentgeom.data.observations import Samples, Splits, split
from latentgeom.data.partners import PairLoader
from latentgeom.data.scaling import DEFAULT, Affine, Scaling
from latentgeom.shell.checks import counts
from latentgeom.shell.errors import InputError
from latentgeom.shell.loading import EvaluationLoader
from latentgeom.shell.showing import in_a_line

__all__ = ["Arrays"]


def _shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {share}")


class Arrays(lightning.LightningDataModule):
    """Observations of a file, split and scaled.

    Arguments:
        path: An npy, npz, csv, zarr or parquet file, an observation a row.
        labels: Array or column with labels, which are drawn in colours and not learnt; if none
            all labels are zero.
        scaling: What is done with the columns, by what the training split says.
        batch_size: Samples per device; at most all that are learnt.
        seed: Seed of the split and of the order of training.
        validation_share: Share of the observations for validation.
        test_share: Share for testing; all numbers in reports come from these.
    """

    __str__ = in_a_line

    def __init__(
        self,
        path: str,
        labels: str | None = None,
        scaling: Scaling = DEFAULT,
        batch_size: int = 128,
        seed: int = 0,
        validation_share: float = 0.1,
        test_share: float = 0.2,
    ) -> None:
        super().__init__()
        counts(batch_size=batch_size)
        _shares(
            validation_share=validation_share,
            test_share=test_share,
            **{"validation_share + test_share": validation_share + test_share},
        )
        self.path, self.labels, self.scaling = path, labels, scaling
        self.batch_size, self.seed = batch_size, seed
        self.validation_share, self.test_share = validation_share, test_share
        self._table: Table | None = None
        self._scaled: Affine | None = None
        self._splits: Splits | None = None

    def _read(self) -> Table:
        if self._table is None:
            self._table = read_table(self.path, self.labels)
        return self._table

    @property
    def num_features(self) -> int:
        """Columns of the file that are learnt."""
        return int(self._read().values.shape[1])

    @property
    def scaled(self) -> Affine:
        """Shift and factor of the columns."""
        self.setup()
        if self._scaled is None:
            raise RuntimeError("setup has left no scaling")
        return self._scaled

    def setup(self, stage: str | None = None) -> None:
        """Read the file, split it, and scale it by the training split."""
        if self._splits is not None:
            return
        table = self._read()
        count = len(table.values)
        num_test = max(2, round(self.test_share * count))
        num_validation = max(1, round(self.validation_share * count))
        if num_test + num_validation + 2 > count:
            raise InputError(f"{self.path}: {count} observations are too few to split")
        x, y = torch.from_numpy(table.values), torch.from_numpy(table.labels)
        raw = split(x, y, num_validation, num_test, self.seed)
        self._scaled = self.scaling.fit(raw.training.x)
        self._splits = Splits(
            *(type(part)(self._scaled.apply(part.x).float(), part.y) for part in raw)
        )

    def _parts(self) -> Splits:
        self.setup()
        if self._splits is None:
            raise RuntimeError("setup has left no splits")
        return self._splits

    def held_out(self) -> Samples:
        """The whole test split."""
        return self._parts().test.all()

    def train_dataloader(self) -> PairLoader:
        """Shuffled, resumable, with a partner for every sample."""
        training = self._parts().training
        return PairLoader(training, min(self.batch_size, len(training)), self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every validation sample once."""
        return EvaluationLoader(self._parts().validation, self.batch_size)

    def test_dataloader(self) -> EvaluationLoader:
        """Every test sample once."""
        return EvaluationLoader(self._parts().test, self.batch_size)

    def predict_dataloader(self) -> Any:
        """Every test sample once."""
        return self.test_dataloader()
