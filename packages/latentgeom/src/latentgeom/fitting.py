"""One call from an array to a latent space whose distances mean something.

>>> fitted = latentgeom.fit(x, latentgeom.hyperbolic, dim=2)  # doctest: +SKIP
>>> fitted.distances(x[:10])  # doctest: +SKIP
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from latentgeom.data.files import check_table
from latentgeom.data.observations import Splits, split
from latentgeom.data.partners import PairLoader
from latentgeom.data.scaling import DEFAULT, Affine, Scaling
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.explicit import Euclidean
from latentgeom.metrics.metric import Metric
from latentgeom.models.losses import relative_metric
from latentgeom.models.networks import SizedAutoencoder
from latentgeom.reports.evaluation import (
    DistortionReport,
    distortion,
    induced_geodesics,
    random_pairs,
)
from latentgeom.shell.checks import counts
from latentgeom.shell.guards import NonFiniteGuard
from latentgeom.shell.randomness import keyed_generator
from latentgeom.shell.showing import in_a_line
from latentgeom.training.isometric import IsometricAutoencoder

__all__ = ["Curves", "Fitted", "fit"]

_ROWS = 1000  # pairs of a distance matrix at once, in thousands
_LEAST = 20  # observations


class Curves(NamedTuple):
    """Geodesics as arrays.

    Arguments:
        points: Nodes at equal steps of time, ``(B, T + 1, d)``.
        length: Lengths in units of the scaled observations, ``(B,)``.
        error_estimate: Estimated absolute error of the lengths, ``(B,)``.
        converged: Whether each curve is a regular minimum of its energy, ``(B,)``.
    """

    points: np.ndarray
    length: np.ndarray
    error_estimate: np.ndarray
    converged: np.ndarray

    def __str__(self) -> str:
        return in_a_line(self)


class Fitted:
    """A latent space that was fitted to an array; arrays go in and out.

    Arguments:
        model: The trained model, in double precision.
        scaling: How observations were scaled before they were learnt.
        splits: Scaled observations by what they were used for.
    """

    def __init__(self, model: IsometricAutoencoder, scaling: Affine, splits: Splits) -> None:
        self.model, self.scaling, self.splits = model, scaling, splits

    def __repr__(self) -> str:
        width = len(self.scaling.shift)
        return f"Fitted({width} features -> {self.metric}, {len(self.splits.training)} learnt)"

    @property
    def metric(self) -> Metric:
        """The chosen metric; codes are its coordinates."""
        return self.model.metric

    @property
    @torch.no_grad()
    def scale(self) -> float:
        """Length of a decoded unit step of the chosen metric, in units of scaled observations."""
        codes = self._held_out()
        relative = relative_metric(self.model.decode, self.metric, codes)
        stretch = torch.linalg.slogdet(relative)[1].mean() / (2 * self.metric.dim)
        return float(stretch.exp())

    @torch.no_grad()
    def _held_out(self) -> Tensor:
        return self.model.encode(self.splits.test.x.double())

    @torch.no_grad()
    def _codes(self, x: Any) -> Tensor:
        values = check_table(np.asarray(x), "x", len(self.scaling.shift))
        return self.model.encode(self.scaling.apply(torch.from_numpy(values)))

    def encode(self, x: Any) -> np.ndarray:
        """Codes of observations ``(N, D)``, ``(N, d)``."""
        return np.asarray(self._codes(x))

    @torch.no_grad()
    def decode(self, z: Any) -> np.ndarray:
        """Observations, in their own units, at codes ``(N, d)``."""
        codes = torch.from_numpy(check_table(np.asarray(z), "z", self.metric.dim))
        return np.asarray(self.scaling.invert(self.model.decode(self.metric.check(codes))))

    @torch.no_grad()
    def distances(self, x: Any, other: Any = None) -> np.ndarray:
        """Distances of the chosen metric between the codes of observations, in closed form.

        Arguments:
            x: Observations, ``(N, D)``.
            other: Further ones, ``(M, D)``; the same if none.

        Returns:
            ``(N, M)``; times ``scale`` they are lengths among the scaled observations.
        """
        first = self._codes(x)
        second = first if other is None else self._codes(other)
        rows = max(1, _ROWS * 1000 // max(len(second), 1))
        parts = [
            self.metric.dist(part.unsqueeze(1), second.unsqueeze(0))
            for part in torch.split(first, rows)
        ]
        return np.asarray(torch.cat(parts))

    def geodesics(self, x: Any, other: Any, num_segments: int = 32) -> Curves:
        """Geodesics of the decoder between the codes of observations, pair by pair.

        Arguments:
            x: Observations, ``(B, D)``.
            other: Observations where the geodesics end, ``(B, D)``.
            num_segments: Segments of the curves, a multiple of 4 and at least 8.
        """
        batch = self._induced(self._codes(x), self._codes(other), num_segments)
        columns = (batch.points, batch.length, batch.error_estimate, batch.converged)
        return Curves(*(np.asarray(column) for column in columns))

    def _induced(self, a: Tensor, b: Tensor, num_segments: int) -> GeodesicBatch:
        return induced_geodesics(self.model.decode, self.metric, a, b, num_segments)

    def _random(self, codes: Tensor, num_pairs: int, seed: int) -> GeodesicBatch:
        pairs = random_pairs(len(codes), num_pairs, generator=keyed_generator(seed, 1))
        return self._induced(codes[pairs[:, 0]], codes[pairs[:, 1]], 32)

    def report(self, num_pairs: int = 300, seed: int = 0) -> DistortionReport:
        """How far the decoder is from an isometry, on observations that weren't learnt.

        Arguments:
            num_pairs: Random pairs whose distances are compared.
            seed: Seed of the pairs.
        """
        counts(num_pairs=num_pairs)
        codes = self._held_out()
        batch = self._random(codes, num_pairs, seed)
        return distortion(self.model.decode, self.metric, codes, batch)

    def plot(self, path: str | PathLike[str], labels: Any = None, num_pairs: int = 12) -> None:
        """Draw the codes that weren't learnt on the latent plane, with geodesics between them.

        Arguments:
            path: Picture to write.
            labels: Whole numbers of all observations, which give colours.
            num_pairs: Geodesics to draw.
        """
        from latentgeom.reports.plots import LatentPlane, draw_latent_plane, save

        codes, kinds = self._held_out(), self.splits.test.y
        kinds = torch.zeros_like(kinds) if labels is None else torch.as_tensor(labels)[kinds]
        plane = LatentPlane(self.model.decode, self.metric, self.scale**2, codes, kinds)
        batch = self._random(codes, num_pairs, 0)
        save(draw_latent_plane(plane, batch, str(self.metric)), Path(path))


class _Bar(lightning.Callback):
    """One progress bar over all steps."""

    @override
    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.bar = tqdm(total=trainer.max_steps, desc="fit", unit="step")

    @override
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.bar.update()

    @override
    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.bar.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's hints are for those who hold a Trainer."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message="Attribute 'autoencoder' is")
            yield
    finally:
        logger.setLevel(level)


def fit(
    x: Any,
    metric: Metric | Callable[[int], Metric] = Euclidean,
    dim: int = 2,
    *,
    hidden: tuple[int, ...] = (128, 64),
    isometry_weight: float = 1.0,
    learning_rate: float = 2e-3,
    num_steps: int = 2000,
    batch_size: int = 128,
    scaling: Scaling = DEFAULT,
    test_share: float = 0.2,
    seed: int = 0,
    accelerator: str = "auto",
    progress: bool = True,
) -> Fitted:
    """Fit an autoencoder whose decoder is an isometry, up to scale, of a chosen metric.

    Arguments:
        x: Observations as rows: an array, a tensor or a data frame, ``(N, D)``.
        metric: The chosen metric, or what makes it from its dimension:
            ``latentgeom.Euclidean``, ``latentgeom.sphere``, ``latentgeom.hyperbolic``.
        dim: Dimension of the codes; a metric that is given has its own.
        hidden: Widths of the encoder's hidden layers; the decoder's are the reverse.
        isometry_weight: Weight of the isometry loss.
        learning_rate: Largest step size of Adam; it follows a cosine to zero.
        num_steps: Training steps.
        batch_size: Observations a step, at most all that are learnt.
        scaling: What is done with the columns before they are learnt.
        test_share: Share of the observations that isn't learnt, which reports are about.
        seed: Seed of everything that is drawn.
        accelerator: Where to train, as Lightning names it.
        progress: Show a progress bar.

    Returns:
        Codes, distances, geodesics and reports, on the CPU.
    """
    counts(dim=dim, num_steps=num_steps, batch_size=batch_size)
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be between 0 and 1, got {test_share}")
    values = torch.from_numpy(check_table(np.asarray(x), "x"))
    if len(values) < _LEAST:
        raise ValueError(f"x must have at least {_LEAST} observations, got {len(values)}")
    raw = split(values, torch.arange(len(values)), 0, round(test_share * len(values)), seed)
    fitted = scaling.fit(raw.training.x)
    dtype = torch.get_default_dtype()
    splits = Splits(*(type(part)(fitted.apply(part.x).to(dtype), part.y) for part in raw))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen = metric if isinstance(metric, Metric) else metric(dim)
        autoencoder = SizedAutoencoder(chosen, hidden)
        autoencoder.size(values.shape[1])

    loader = PairLoader(splits.training, min(batch_size, len(splits.training)), seed)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        model = IsometricAutoencoder(autoencoder, isometry_weight, learning_rate, seed)
        trainer = lightning.Trainer(
            max_epochs=-1, max_steps=num_steps, accelerator=accelerator, devices=1, logger=False,
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
            use_distributed_sampler=False, default_root_dir=folder,
            callbacks=[NonFiniteGuard(), *([_Bar()] if progress else [])],
        )  # fmt: skip
        trainer.fit(model, loader)
    return Fitted(model.cpu().double().eval().requires_grad_(False), fitted, splits)
