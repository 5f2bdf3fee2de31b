"""The verb ``sample``, the rows that ``predict`` writes, and the scores that ``test`` writes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from ardm_guidance import __version__
from ardm_guidance.data.gathering import Row, gather_rows
from ardm_guidance.guidance.potentials import LateStart, Potential, Tempered
from ardm_guidance.guidance.proposals import Guided, Proposing, best_of, bootstrap, fully_adapted
from ardm_guidance.guidance.smc import Run, run, select
from ardm_guidance.models.ardm import hide, sample
from ardm_guidance.scores.plots import ancestry_plot, film_strip
from ardm_guidance.shell.checkpoints import CheckpointError, read_checkpoint
from ardm_guidance.shell.loading import EvaluationLoader
from ardm_guidance.shell.randomness import keyed_generator, keyed_uniform
from ardm_guidance.shell.writing import claim, whole
from ardm_guidance.sites.graphs import PAD, sizes
from ardm_guidance.training.discriminator import load_discriminator
from ardm_guidance.training.molecule_ardm import MoleculeARDM

__all__ = ["SamplingTrainer", "WriteResults", "drawing", "write_parquet"]

# Counters of keyed noise beside those of training.
_ANCESTORS, _SELECTION = -3, -4


def write_parquet(rows: list[Row], path: Path, notes: dict[str, Any]) -> None:
    """Write rows with notes as JSON in the metadata, whole or not at all."""
    table = pyarrow.Table.from_pylist(rows)
    metadata = {**(table.schema.metadata or {}), b"ardm_guidance": json.dumps(notes).encode()}
    with whole(path) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), partial)


class _Numbers:
    """The numbers of the samples."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Tensor) -> Tensor:
        return index


class Drawn(NamedTuple):
    """Finished molecules, ``(B, D)``, with one log-weight or log-probability each, ``(B,)``."""

    sites: Tensor
    log_value: Tensor


Drawing = Callable[[MoleculeARDM, Tensor, int], Drawn]


def plain(model: MoleculeARDM, index: Tensor, seed: int) -> Drawn:
    """Molecules of the model alone, with their log-probability given size and order."""
    return Drawn(*model.draw(index, seed))


def guided_alone(potential: Potential) -> Drawing:
    """ARDG: the guided conditionals without correction, with their log-probability."""

    def draw(model: MoleculeARDM, index: Tensor, seed: int) -> Drawn:
        return Drawn(*sample(Guided(model.ardm(), potential), *model.start(index, seed)))

    return draw


def best_of_group(potential: Potential, num_particles: int) -> Drawing:
    """The best of N molecules of the model, with its potential."""

    def draw(model: MoleculeARDM, index: Tensor, seed: int) -> Drawn:
        return Drawn(*best_of(model.ardm(), potential, *_groups(model, index, seed, num_particles)))

    return draw


def corrected(potential: Potential, num_particles: int, propose: Proposing) -> Drawing:
    """One of N particles of sequential Monte Carlo, with its group's estimate of log Z.

    Sizes and orders are of each particle.  The ancestors of a group depend on the batch that
    it is drawn in, and so on batch size and devices.
    """

    def draw(model: MoleculeARDM, index: Tensor, seed: int) -> Drawn:
        finished = groups_of(model, index, seed, potential, num_particles, propose)
        noise = keyed_uniform(seed, _SELECTION, index, dtype=torch.float64)
        return Drawn(select(finished, noise), finished.log_normalizer)

    return draw


def groups_of(
    model: MoleculeARDM,
    index: Tensor,
    seed: int,
    potential: Potential,
    num_particles: int,
    propose: Proposing,
) -> Run:
    """Finished groups, from which the samples of these numbers are selected."""
    generator = keyed_generator(seed, _ANCESTORS, int(index[0]), device=index.device)
    groups = _groups(model, index, seed, num_particles)
    return run(model.ardm(), potential, *groups, propose=propose, generator=generator)


_PROPOSALS: dict[str, Proposing] = {"bsdg": bootstrap, "fadg": fully_adapted}


@torch.no_grad()
def draw_pictures(
    model: MoleculeARDM,
    folder: Path,
    seed: int,
    potential: Potential | None,
    method: str,
    num_particles: int,
) -> None:
    """Film strip of the model's first sample, and ancestry of a guided method's first group."""
    index = torch.zeros(1, dtype=torch.long, device=model.device)
    sites, order = model.draw(index, seed).sites[0].cpu(), model.start(index, seed).order[0].cpu()
    shown = torch.linspace(0, int((sites != PAD).sum()), 7).round().long()
    # What was shown at a step is the finished object, hidden again by its order.
    frames = [hide(sites, order, number) for number in shown]
    title = "One molecule, site by site in a random order"
    film_strip(frames, model.alphabet, folder / "film_strip.png", title=title)
    if potential is not None and method in _PROPOSALS:
        propose = _PROPOSALS[method]
        finished = groups_of(model, index, seed, potential, num_particles, propose)
        title = f"{method.upper()}, N = {num_particles}"
        ancestry_plot(finished, folder / "ancestry.png", title=title)


def _groups(model: MoleculeARDM, index: Tensor, seed: int, num_particles: int) -> list[Tensor]:
    numbers = index[:, None] * num_particles + torch.arange(num_particles, device=index.device)
    start = model.start(numbers.flatten(), seed)
    return [values.view(*numbers.shape, -1) for values in start]


def drawing(method: str, potential: Potential, num_particles: int) -> Drawing:
    """The way to draw that a name stands for.

    Raises:
        ValueError: There is no such way.
    """
    ways = {
        "ardg": lambda: guided_alone(potential),
        "bsdg": lambda: corrected(potential, num_particles, _PROPOSALS["bsdg"]),
        "fadg": lambda: corrected(potential, num_particles, _PROPOSALS["fadg"]),
        "best": lambda: best_of_group(potential, num_particles),
    }
    if method not in ways:
        raise ValueError(f"method must be one of {', '.join(ways)}, got {method!r}")
    if num_particles < 1:
        raise ValueError(f"num_particles must be at least 1, got {num_particles}")
    return ways[method]()


class _Sampler(lightning.LightningModule):
    """Draws from a model, a batch of sample numbers at a time."""

    def __init__(self, model: MoleculeARDM, draw: Drawing, seed: int, output: Path) -> None:
        super().__init__()
        self.model, self.draw = model, draw
        self.draw_seed, self.output = seed, output
        self.rows: list[Row] = []

    def on_predict_start(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def predict_step(self, index: Tensor, batch_idx: int) -> None:
        """Draw and keep one batch."""
        sites, log_value = self.draw(self.model, index, self.draw_seed)
        for number, graph, value in zip(
            index.tolist(), sites.cpu(), log_value.tolist(), strict=True
        ):
            row = {"index": number, "smiles": self.model.alphabet.smiles(graph)}
            row |= {"log_value": value, "num_atoms": int(sizes(graph)), "sites": graph.tolist()}
            self.rows.append(row)

    def on_predict_end(self) -> None:
        """Write the samples of all ranks."""
        rows = gather_rows(self.rows)
        if self.trainer.is_global_zero:
            write_parquet(rows, self.output, self._notes(len(rows)))

    def _notes(self, num_samples: int) -> dict[str, Any]:
        return {
            "num_samples": num_samples,
            "seed": self.draw_seed,
            "seconds": time.perf_counter() - self.start,
            "devices": self.trainer.world_size,
            "threads": torch.get_num_threads(),
            "training_steps": int(self.model.num_averaged),
            "parameters": sum(weight.numel() for weight in self.model.network.parameters()),
            "versions": {"ardm-guidance": __version__, "torch": torch.__version__},
        }


def _restore(model: MoleculeARDM, path: Path) -> None:
    try:
        model.load_state_dict(read_checkpoint(path)["state_dict"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(path, f"of another model than the configuration: {reason}") from None


def _guide(path: str, power: float, start: int) -> Potential:
    """A discriminator, tempered and started late where asked for."""
    if power < 0 or start < 0:
        raise ValueError(f"guide_power and guide_start must not be negative, got {power}, {start}")
    potential: Potential = load_discriminator(path)
    potential = potential if power == 1 else Tempered(potential, power)
    return potential if start == 0 else LateStart(potential, start)


class SamplingTrainer(lightning.Trainer):
    """A Trainer that can also sample."""

    def sample(
        self,
        model: MoleculeARDM,
        datamodule: lightning.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        num_samples: int = 1000,
        batch_size: int = 250,
        seed: int = 0,
        output: str | None = None,
        guide: str | None = None,
        method: str = "fadg",
        num_particles: int = 10,
        guide_power: float = 1.0,
        guide_start: int = 0,
        pictures: bool = True,
    ) -> None:
        """Generate molecules and write them as Parquet.

        The columns are ``index``, ``smiles`` (canonical; of the unchecked structure where
        RDKit finds it invalid), ``log_value`` (nats: the log-probability given size and
        order; of bsdg and fadg the estimate of log Z of the group, of best the potential),
        ``num_atoms`` and ``sites``. Without sequential Monte Carlo each sample depends
        on the seed and its index alone, not on batches or devices.

        Arguments:
            model: The model.
            datamodule: Not used; the sizes come from the checkpoint.
            ckpt_path: Checkpoint with the weights.
            num_samples: How many.
            batch_size: Molecules at once on each device.
            seed: Seed of the samples.
            output: Parquet file to write; by default ``samples.parquet`` in the run's folder.
            guide: Checkpoint of a discriminator.
            method: With a guide, ``ardg``, ``bsdg``, ``fadg`` or ``best`` (of N).
            num_particles: N of bsdg, fadg and best.
            guide_power: Exponent of the guide, which tempers it; 0 is no guidance.
            guide_start: Shown sites from which on the guide counts.
            pictures: Also write ``film_strip.png``, and ``ancestry.png`` of bsdg and fadg.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if ckpt_path is None:
            raise ValueError("ckpt_path: sampling needs a checkpoint")
        _restore(model, Path(ckpt_path))
        path = Path(output) if output else Path(self.default_root_dir) / "samples.parquet"
        if self.is_global_zero:
            drawn = ("film_strip.png", *(("ancestry.png",) if guide else ()))
            claim(path, *(path.parent / name for name in drawn if pictures))
        loader = EvaluationLoader(_Numbers(num_samples), batch_size)
        potential = _guide(guide, guide_power, guide_start) if guide else None
        draw = drawing(method, potential, num_particles) if potential else plain
        self.predict(_Sampler(model, draw, seed, path), loader)
        if pictures and self.is_global_zero:
            model.eval()
            draw_pictures(model, path.parent, seed, potential, method, num_particles)

    def negatives(
        self,
        model: MoleculeARDM,
        datamodule: lightning.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        num_samples: int = 10_000,
        batch_size: int = 500,
        seed: int = 1,
    ) -> None:
        """Generate what a discriminator is trained against: ``negatives.parquet``.

        Arguments:
            model: The model.
            datamodule: Not used.
            ckpt_path: Checkpoint with the weights.
            num_samples: How many; as many as there are real molecules is enough.
            batch_size: Molecules at once on each device.
            seed: Seed of the samples; another than that of the samples to be judged.
        """
        path = str(Path(self.default_root_dir) / "negatives.parquet")
        self.sample(
            model, datamodule, ckpt_path, num_samples, batch_size, seed, path, pictures=False
        )


class WriteResults(lightning.Callback):
    """Writes ``test.json`` and ``predictions.parquet`` to the run's folder."""

    def on_test_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop before another run's scores."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            claim(Path(trainer.default_root_dir) / "test.json")

    def on_test_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the scores."""
        names = {"nats", "nats_error", "bits_per_site", "count", "excluded"}
        values = {
            key.removeprefix("test/"): float(value)
            for key, value in trainer.callback_metrics.items()
            if key.removeprefix("test/") in names
        }
        if trainer.is_global_zero and values:
            with whole(Path(trainer.default_root_dir) / "test.json") as partial:
                partial.write_text(json.dumps(values, indent=2) + "\n")

    def on_predict_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Forget the rows of an earlier run, and stop before its file."""
        self.rows: list[Row] = []
        if trainer.is_global_zero and not isinstance(pl_module, _Sampler):
            claim(Path(trainer.default_root_dir) / "predictions.parquet")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the rows of a batch."""
        if outputs is not None:
            index, bounds = (values.tolist() for values in outputs)
            smiles = trainer.datamodule.molecules.smiles  # type: ignore[attr-defined]
            self.rows += [
                {"index": row, "smiles": smiles[row], "log_prob_bound": value}
                for row, value in zip(index, bounds, strict=True)
            ]

    def on_predict_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the bounds of all molecules beside their SMILES."""
        rows = gather_rows(self.rows)
        if trainer.is_global_zero and rows:
            write_parquet(rows, Path(trainer.default_root_dir) / "predictions.parquet", {})
