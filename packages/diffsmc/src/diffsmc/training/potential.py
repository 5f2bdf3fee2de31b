"""Training of potentials, and what is sampled with them."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, nn
from torchmetrics import MeanMetric
from typing_extensions import override

from diffsmc.methods.denoising import Diffusion
from diffsmc.potentials.learned import LearnedPotential
from diffsmc.potentials.monte_carlo import Potential
from diffsmc.references.gaussian import GaussianReference
from diffsmc.results.files import write_result
from diffsmc.results.inference_data import to_inference_data
from diffsmc.results.result import Result, merge_islands
from diffsmc.shell.checkpoints import CheckpointError, keep_plain, read_checkpoint
from diffsmc.shell.checks import counts, positive
from diffsmc.shell.randomness import keyed_generator, keyed_normal, keyed_uniform
from diffsmc.shell.showing import in_a_line
from diffsmc.shell.writing import claim, whole
from diffsmc.smc.path import StepInfo, from_plain, to_plain
from diffsmc.targets.target import Target
from diffsmc.training.losses import score_matching_loss
from diffsmc.training.particles import Batch, ParticleData

__all__ = ["IslandWriter", "PotentialTraining", "TrainedPotential"]


class PotentialTraining(lightning.LightningModule):
    """Score matching of a learned potential; ``predict`` samples islands with it.

    Noise levels and noise are keyed by (seed, step, particle), so that training doesn't
    depend on the number of devices.

    Arguments:
        network: Maps whitened points and noise variances to vectors.
        learning_rate: Step size of Adam.
        seed: Seed of the noise.
        num_steps: Denoising steps of ``predict``.
        num_particles: Particles of an island of ``predict``.

    References:
        Phillips et al. (2024), Particle denoising diffusion sampler, ICML, arXiv:2402.06320,
        section 4, for the target of the score.
    """

    mean: Tensor
    factor: Tensor

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float = 2e-3,
        seed: int = 0,
        num_steps: int = 32,
        num_particles: int = 500,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        counts(num_steps=num_steps)
        if num_particles < 2:
            raise ValueError(f"num_particles must be at least 2, got {num_particles}")
        self.save_hyperparameters()
        self.network = network
        self.learning_rate, self.seed = learning_rate, seed
        self.num_steps, self.num_particles = num_steps, num_particles
        dim = int(network.dim)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(dim, dtype=torch.float64))
        # float64, added over the ranks; an error that is no number ends the run
        self.error = MeanMetric(nan_strategy="error").set_dtype(torch.float64)

    __repr__ = __str__ = in_a_line

    @property
    def particle_data(self) -> ParticleData:
        """The data module, which holds target and reference."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ParticleData)
        return data

    def setup(self, stage: str) -> None:
        """Take over the reference that the particles were whitened with."""
        reference = self.particle_data.reference
        assert reference is not None
        if len(reference.mean) != len(self.mean):
            raise ValueError(
                f"network.dim must be the target's {len(reference.mean)}, got {len(self.mean)}"
            )
        self.mean.copy_(reference.mean)
        self.factor.copy_(reference.factor)

    def _loss(self, batch: Batch, step: int) -> Tensor:
        index = batch.sample_index
        variance = keyed_uniform(self.seed, 2 * step, index, dtype=batch.x.dtype)
        noise = keyed_normal(self.seed, 2 * step + 1, index, batch.x.shape[1:], batch.x.dtype)
        target = self.particle_data.whitened.to(self.device)
        return score_matching_loss(self.network, target, batch.x, batch.grad, variance, noise)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean score matching error of a batch."""
        loss = self._loss(batch, self.global_step).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget earlier errors, whose sums may be tensors of inference alone."""
        self.error.reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the error, at noise that is the same in every epoch."""
        self.error.update(self._loss(batch, 0).double())

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all particles of all ranks."""
        name = "test/loss" if self.trainer.testing else "val/loss"
        self.log(name, self.error.compute(), prog_bar=True, rank_zero_only=True)

    on_test_epoch_end = on_validation_epoch_end

    def predict_step(self, batch: Tensor, batch_idx: int) -> Result:
        """Sample one island with the learned potential."""
        reference = GaussianReference(self.mean, self.factor)
        method = Diffusion(
            LearnedPotential(self.network, reference),
            self.num_steps,
            num_moves=0,
            adapt_islands=None,
        )
        target = self.particle_data.target.to(self.device)
        generator = keyed_generator(self.seed, int(batch), device=self.device)
        return method.run(target, 1, self.num_particles, generator=generator)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint readable without executing anything."""
        keep_plain(checkpoint)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Give Adam."""
        return torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)


class TrainedPotential(Potential):
    """The potential of a training run, from its checkpoint.

    Arguments:
        checkpoint: Path of the checkpoint.

    Raises:
        CheckpointError: The file can't be used.
    """

    def __init__(self, checkpoint: str) -> None:
        parameters = read_checkpoint(checkpoint).get("hyper_parameters", {})
        if "network" not in parameters:
            raise CheckpointError(checkpoint, "its network was built in Python: bind it yourself")
        model = PotentialTraining.load_from_checkpoint(
            checkpoint, map_location="cpu", weights_only=True
        )
        self.checkpoint = str(checkpoint)
        self.reference = GaussianReference(model.mean, model.factor)
        self.network = model.network.requires_grad_(False)

    @override
    def bind(self, target: Target, *, generator: torch.Generator) -> LearnedPotential:
        return LearnedPotential(self.network, self.reference).bind(target, generator=generator)

    @override
    def evaluate(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        raise ValueError("bind the potential to a target first")


class IslandWriter(BasePredictionWriter):
    """Writes the islands of ``predict`` as one NetCDF file, merged by island index.

    Arguments:
        output: The file, relative to the run's folder (``trainer.default_root_dir``).
    """

    def __init__(self, output: str = "predicted.nc") -> None:
        super().__init__(write_interval="epoch")
        self.output = output

    __repr__ = __str__ = in_a_line

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Refuse to replace an earlier result before any island is sampled."""
        if trainer.predicting and trainer.is_global_zero:
            claim(self._path(trainer))

    def _path(self, trainer: lightning.Trainer) -> Path:
        return Path(trainer.default_root_dir) / self.output

    def write_on_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        predictions: Any,
        batch_indices: Any,
    ) -> None:
        """Write this rank's shard, and on rank 0 merge all."""
        path = self._path(trainer)
        with whole(_shard(path, trainer.global_rank), told=False) as partial:
            torch.save([_plain(run) for run in predictions], partial)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            _merge(path, trainer.world_size, trainer.datamodule)  # type: ignore[attr-defined]
        trainer.strategy.barrier()


def _shard(path: Path, rank: int) -> Path:
    """Give the file that holds the islands of a rank until they are merged."""
    return path.with_name(f"{path.name}.rank{rank}")


def _plain(run: Result) -> dict[str, Any]:
    """Give a result as plain data; its target is the data module's."""
    return {
        **run._replace(target=None)._asdict(),
        "history": [to_plain(info) for info in run.history],
    }


def _restore(plain: dict[str, Any]) -> Result:
    history = [from_plain(StepInfo, info) for info in plain["history"]]
    return Result(**{**plain, "history": history})


def _merge(output: Path, num_ranks: int, data: ParticleData) -> None:
    shards = [_shard(output, rank) for rank in range(num_ranks)]
    runs = [list(map(_restore, torch.load(shard, weights_only=True))) for shard in shards]
    # rank r of R had the islands r, r + R, ...
    rounds = zip_longest(*runs)
    result = merge_islands([run for one in rounds for run in one if run is not None])
    settings = {"method": "predict", "num_islands": data.num_islands, "seed": data.seed}
    generator = keyed_generator(data.seed)
    write_result(to_inference_data(result, data.target, settings, generator=generator), output)
    for shard in shards:
        shard.unlink()
