"""Particles to train potentials on: drawn by a pilot run, whitened, with their gradients."""

from typing import NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor

from diffsmc.methods.tempering import Tempering
from diffsmc.potentials.monte_carlo import log_ratio_and_grad
from diffsmc.references.gaussian import GaussianReference, Whitened, fit_gaussian
from diffsmc.shell.checks import counts, positive
from diffsmc.shell.loading import EvaluationLoader, TrainingLoader
from diffsmc.shell.randomness import keyed_generator
from diffsmc.shell.showing import in_a_line
from diffsmc.targets.target import Target

__all__ = ["Batch", "IslandDataset", "ParticleData", "ParticleDataset"]


class Batch(NamedTuple):
    """Whitened particles ``x`` and the log-ratio's ``grad``, ``(B, D)``, with their indices."""

    x: Tensor
    grad: Tensor
    sample_index: Tensor


class ParticleDataset:
    """Particles of a target, evaluated once.

    Arguments:
        target: Whitened target.
        particles: In its coordinates, ``(N, D)``.
    """

    def __init__(self, target: Target, particles: Tensor) -> None:
        self.x = particles
        self.grad = log_ratio_and_grad(target, particles)[1]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch(self.x[index], self.grad[index], index)


class IslandDataset:
    """Indices of islands to be sampled.

    Arguments:
        num_islands: How many.
    """

    def __init__(self, num_islands: int) -> None:
        self.num_islands = num_islands

    def __len__(self) -> int:
        return self.num_islands

    def __getitem__(self, index: Tensor) -> Tensor:
        return index


class ParticleData(lightning.LightningDataModule):
    """Particles of a target from a tempered pilot run.

    The pilot has four islands: the first gives validation particles, the others training
    ones. Every rank runs the same pilot.

    Arguments:
        target: The target.
        pilot: How it is sampled.
        num_particles: Particles of each island.
        batch_size: Particles per device.
        inflation: Factor on the standard deviations of the reference fitted to them.
        num_islands: Islands that ``predict`` samples.
        seed: Seed of the pilot and of the order of particles.
    """

    def __init__(
        self,
        target: Target,
        pilot: Tempering,
        num_particles: int = 1000,
        batch_size: int = 256,
        inflation: float = 1.1,
        num_islands: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_particles < 2:
            raise ValueError(f"num_particles must be at least 2, got {num_particles}")
        counts(batch_size=batch_size, num_islands=num_islands)
        positive(inflation=inflation)
        self.target, self.pilot = target, pilot
        self.num_particles, self.batch_size = num_particles, batch_size
        self.inflation, self.num_islands, self.seed = inflation, num_islands, seed
        self.reference: GaussianReference | None = None

    __repr__ = __str__ = in_a_line

    def setup(self, stage: str) -> None:
        """Run the pilot once."""
        if self.reference is not None:
            return
        run = self.pilot.run(
            self.target, 4, self.num_particles, generator=keyed_generator(self.seed)
        )
        self.reference = fit_gaussian(run.particles, run.log_weights, self.inflation)
        self.whitened = Whitened(self.target, self.reference)
        centred = run.particles - self.reference.mean
        z = torch.linalg.solve_triangular(self.reference.factor.mT, centred, upper=True, left=False)
        self.validation = ParticleDataset(self.whitened, z[0])
        self.training = ParticleDataset(self.whitened, z[1:].flatten(0, 1))

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, resumable."""
        return TrainingLoader(self.training, self.batch_size, self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every validation particle once."""
        return EvaluationLoader(self.validation, self.batch_size)

    def test_dataloader(self) -> EvaluationLoader:
        """The same particles as in validation: none was trained on."""
        return EvaluationLoader(self.validation, self.batch_size)

    def predict_dataloader(self) -> EvaluationLoader:
        """Islands, one at a time, spread over the ranks."""
        return EvaluationLoader(IslandDataset(self.num_islands), 1)
