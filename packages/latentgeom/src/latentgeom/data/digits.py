"""Handwritten digits: which of them are learnt, which are held out."""

import lightning.pytorch as lightning
import torch

from latentgeom.data.observations import Observations, Samples, split
from latentgeom.data.partners import PairLoader
from latentgeom.shell.checks import counts
from latentgeom.shell.loading import EvaluationLoader
from latentgeom.shell.showing import in_a_line

__all__ = ["Digits"]


class Digits(lightning.LightningDataModule):
    """The 1797 handwritten 8 x 8 digits of scikit-learn, pixels scaled to [0, 1].

    Arguments:
        batch_size: Samples per device.
        seed: Seed of the split and of the order of training.
        num_validation: Digits for validation.
        num_test: Digits for testing; all numbers in reports come from these.

    References:
        Alpaydin & Kaynak (1998), Optical Recognition of Handwritten Digits,
        https://doi.org/10.24432/C50P49.
    """

    __str__ = in_a_line

    num_features = 64

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        num_validation: int = 200,
        num_test: int = 300,
    ) -> None:
        super().__init__()
        counts(batch_size=batch_size)
        if not (num_validation > 0 and num_test > 0 and num_validation + num_test < 1797):
            raise ValueError(
                "num_validation and num_test must be positive and leave some of the 1797 digits,"
                f" got {num_validation} and {num_test}"
            )
        self.batch_size, self.seed = batch_size, seed
        self.num_validation, self.num_test = num_validation, num_test
        self._splits: list[Observations] = []

    def setup(self, stage: str | None = None) -> None:
        """Split the digits: test, validation, training."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x = torch.as_tensor(bunch.data / 16.0, dtype=torch.float32)
        y = torch.as_tensor(bunch.target)
        self._splits = list(split(x, y, self.num_validation, self.num_test, self.seed))

    def held_out(self) -> Samples:
        """The whole test split."""
        if not self._splits:
            self.setup()
        return self._splits[0].all()

    def train_dataloader(self) -> PairLoader:
        """Shuffled, resumable, with a partner for every sample."""
        return PairLoader(self._splits[2], self.batch_size, self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every validation digit once."""
        return EvaluationLoader(self._splits[1], self.batch_size)

    def test_dataloader(self) -> EvaluationLoader:
        """Every test digit once."""
        return EvaluationLoader(self._splits[0], self.batch_size)

    def predict_dataloader(self) -> EvaluationLoader:
        """Every test digit once."""
        return self.test_dataloader()
