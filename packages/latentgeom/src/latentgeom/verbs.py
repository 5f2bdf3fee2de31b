"""The own verbs of the command line: what to make of a trained model and its held-out codes."""

import copy
import hashlib
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor

from latentgeom.data.files import read_points
from latentgeom.data.observations import held_out
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.models.latent_model import LatentModel
from latentgeom.models.losses import relative_metric
from latentgeom.pairs.distances import chunked, distance_matrix
from latentgeom.reports.evaluation import (
    distortion,
    induced_geodesics,
    principal_report,
    random_pairs,
)
from latentgeom.reports.storage import codes_dataset, geodesics_dataset, write_json, write_zarr
from latentgeom.shell.checkpoints import CheckpointError, read_checkpoint
from latentgeom.shell.checks import counts, positive
from latentgeom.shell.errors import InputError
from latentgeom.shell.randomness import keyed_generator
from latentgeom.shell.writing import claim

__all__ = ["GeometryTrainer"]


_PAIRS_BETWEEN_SAVES = 1000


class _Latent(NamedTuple):
    """A model in double precision and the codes of held-out observations."""

    model: LatentModel
    codes: Tensor
    labels: Tensor
    sample_index: Tensor
    reconstruction: float
    observations: Tensor


def _load(model: lightning.LightningModule, ckpt_path: str) -> LatentModel:
    weights = read_checkpoint(ckpt_path)["state_dict"]
    model = copy.deepcopy(model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(ckpt_path, f"not of this model: {reason}") from None
    loaded = model.double().eval().requires_grad_(False)
    if not isinstance(loaded, LatentModel):
        raise InputError(f"{type(model).__name__} lacks encode, decode or metric")
    return loaded


@torch.no_grad()
def _latent(
    model: lightning.LightningModule,
    data: lightning.LightningDataModule,
    ckpt_path: str,
    codes: str | None = None,
) -> _Latent:
    """Codes of held-out observations, or those of a file."""
    loaded = _load(model, ckpt_path)
    if codes is not None:
        z = read_points(codes, loaded.metric.dim)
        zeros = torch.zeros(len(z), dtype=torch.long)
        return _Latent(loaded, z, zeros, torch.arange(len(z)), math.nan, z[:, :0])
    samples = held_out(data)
    x = samples.x.double()
    z = loaded.encode(x)
    error = (loaded.decode(z).reshape(x.shape) - x).square().flatten(1).sum(-1).mean()
    x = x.flatten(1)
    return _Latent(loaded, z, samples.y, samples.sample_index, float(error), x)


def _pairs(latent: _Latent, num_pairs: int, seed: int) -> Tensor:
    return random_pairs(len(latent.codes), num_pairs, generator=keyed_generator(seed, 1))


def _scale(latent: _Latent) -> float:
    """Factor between the decoder's squared lengths and the chosen ones, at the codes."""
    relative = relative_metric(latent.model.decode, latent.model.metric, latent.codes)
    stretch = torch.linalg.slogdet(relative)[1].mean() / latent.model.metric.dim
    return float(stretch.exp())


def _geodesics(
    latent: _Latent, pairs: Tensor, num_segments: int, memory_gb: float = 1.0
) -> GeodesicBatch:
    model = latent.model

    def solve(a: Tensor, b: Tensor) -> GeodesicBatch:
        return induced_geodesics(model.decode, model.metric, a, b, num_segments, memory_gb)

    a, b = latent.codes[pairs[:, 0]], latent.codes[pairs[:, 1]]
    return chunked(solve, a, b, _PAIRS_BETWEEN_SAVES)


def _scores(latent: _Latent, batch: GeodesicBatch) -> dict[str, Any]:
    model = latent.model
    report = distortion(model.decode, model.metric, latent.codes, batch)
    return {
        "reconstruction": latent.reconstruction,
        "scale": _scale(latent),
        **report._asdict(),
    }


class GeometryTrainer(lightning.Trainer):
    """Lightning's Trainer with the verbs of a latent geometry."""

    def distortion(
        self,
        model: lightning.LightningModule,
        datamodule: lightning.LightningDataModule,
        ckpt_path: str,
        baseline_ckpt: str | None = None,
        relaxed_ckpt: str | None = None,
        num_pairs: int = 300,
        num_segments: int = 32,
        seed: int = 0,
        output: str | None = None,
    ) -> None:
        """Score the decoder's metric against the chosen one; ``report.json`` and a picture.

        Arguments:
            model: The model, with ``encode``, ``decode`` and ``metric``.
            datamodule: The data; its test split is scored.
            ckpt_path: Weights of the model.
            baseline_ckpt: Weights of the same model trained without the isometry loss.
            relaxed_ckpt: Weights of the same model with a flat metric and the relaxed loss.
            num_pairs: Random pairs of codes whose distances are compared.
            num_segments: Segments of the induced geodesics.
            seed: Seed of the pairs.
            output: Folder of the results; the run's (``default_root_dir``) if none.
        """
        start = time.perf_counter()
        counts(num_pairs=num_pairs, num_segments=num_segments)
        folder = Path(output or self.default_root_dir)
        claim(*(folder / name for name in ("report.json", "distances.png")))
        given = {"isometric": ckpt_path, "plain": baseline_ckpt, "relaxed": relaxed_ckpt}
        names = {name: path for name, path in given.items() if path}
        latents = {n: _latent(model, datamodule, path) for n, path in names.items()}
        content: dict[str, Any] = {}
        batches = {}
        for name, latent in latents.items():
            pairs = _pairs(latent, num_pairs, seed)
            batches[name] = _geodesics(latent, pairs, num_segments)
            content[name] = _scores(latent, batches[name])
            principal = principal_report(
                latent.observations, pairs, batches[name], latent.model.metric.dim
            )
            content[name]["principal_components"] = principal._asdict()
            _print_scores(name, content[name])
        content["metric"] = _describe(latents["isometric"].model)
        content["settings"] = {
            "data": type(datamodule).__name__, "held_out": len(latents["isometric"].codes),
            "num_segments": num_segments, "seed": seed, "checkpoints": names,
        }  # fmt: skip
        _draw_distances(latents, batches, folder / "distances.png")
        content["seconds"] = time.perf_counter() - start
        write_json(content, folder / "report.json")

    def geodesics(
        self,
        model: lightning.LightningModule,
        datamodule: lightning.LightningDataModule,
        ckpt_path: str,
        num_pairs: int = 100,
        num_segments: int = 32,
        seed: int = 0,
        codes: str | None = None,
        memory_gb: float = 1.0,
        output: str | None = None,
    ) -> None:
        """Geodesics of the decoder between held-out codes; ``codes.zarr`` and ``geodesics.zarr``.

        Arguments:
            model: The model, with ``encode``, ``decode`` and ``metric``.
            datamodule: The data; its test split is encoded.
            ckpt_path: Weights of the model.
            num_pairs: Random pairs of codes to connect.
            num_segments: Segments of the geodesics.
            seed: Seed of the pairs.
            codes: File of codes (npy, npz, csv, zarr, parquet) to use in place of the test split's.
            memory_gb: Memory that the solver may take.
            output: Folder of the results; the run's (``default_root_dir``) if none.
        """
        counts(num_pairs=num_pairs, num_segments=num_segments)
        positive(memory_gb=memory_gb)
        folder = Path(output or self.default_root_dir)
        claim(*(folder / name for name in ("codes.zarr", "geodesics.zarr")))
        latent = _latent(model, datamodule, ckpt_path, codes)
        pairs = _pairs(latent, num_pairs, seed)
        batch = _geodesics(latent, pairs, num_segments, memory_gb)
        dataset = codes_dataset(latent.codes, latent.labels, latent.sample_index)
        write_zarr(dataset, folder / "codes.zarr")
        write_zarr(geodesics_dataset(batch, pairs), folder / "geodesics.zarr")
        print(f"{int(batch.converged.sum())} of {num_pairs} geodesics converged")

    def distances(
        self,
        model: lightning.LightningModule,
        datamodule: lightning.LightningDataModule,
        ckpt_path: str,
        num_segments: int = 16,
        codes: str | None = None,
        memory_gb: float = 1.0,
        output: str | None = None,
    ) -> None:
        """Distances of the decoder between all codes; ``distances.zarr``; a stopped run goes on.

        Arguments:
            model: The model, with ``encode``, ``decode`` and ``metric``.
            datamodule: The data; its test split is encoded.
            ckpt_path: Weights of the model.
            num_segments: Segments of the geodesics.
            codes: File of codes (npy, npz, csv, zarr, parquet) to use in place of the test split's.
            memory_gb: Memory that the solver may take.
            output: Folder of the results; the run's (``default_root_dir``) if none.
        """
        counts(num_segments=num_segments)
        positive(memory_gb=memory_gb)
        folder = Path(output or self.default_root_dir)
        claim(folder / "distances.zarr")
        latent = _latent(model, datamodule, ckpt_path, codes)
        loaded = latent.model
        weights = hashlib.sha256(Path(ckpt_path).read_bytes()).hexdigest()

        def solve(a: Tensor, b: Tensor) -> GeodesicBatch:
            return induced_geodesics(loaded.decode, loaded.metric, a, b, num_segments, memory_gb)

        distance_matrix(
            solve, latent.codes, folder / "distances.zarr",
            chunk=_PAIRS_BETWEEN_SAVES,
            settings=f"{num_segments} segments, weights {weights}",
        )  # fmt: skip

    def plot(
        self,
        model: lightning.LightningModule,
        datamodule: lightning.LightningDataModule,
        ckpt_path: str,
        num_pairs: int = 12,
        num_segments: int = 32,
        seed: int = 0,
        codes: str | None = None,
        output: str | None = None,
        name: str = "latent.png",
    ) -> None:
        """Draw the latent plane: volume, codes, geodesics, Tissot indicatrices.

        Arguments:
            model: The model, with ``encode``, ``decode`` and a ``metric`` of dimension 2.
            datamodule: The data; its test split is drawn.
            ckpt_path: Weights of the model.
            num_pairs: Geodesics to draw.
            num_segments: Segments of the geodesics.
            seed: Seed of the pairs.
            codes: File of codes (npy, npz, csv, zarr, parquet) to use in place of the test split's.
            output: Folder of the results; the run's (``default_root_dir``) if none.
            name: File name of the picture.
        """
        from latentgeom.reports.plots import LatentPlane, draw_latent_plane, poincare_disc, save

        counts(num_pairs=num_pairs, num_segments=num_segments)
        folder = Path(output or self.default_root_dir)
        claim(folder / name)
        latent = _latent(model, datamodule, ckpt_path, codes)
        batch = _geodesics(latent, _pairs(latent, num_pairs, seed), num_segments)
        plane = LatentPlane(
            latent.model.decode, latent.model.metric, _scale(latent), latent.codes, latent.labels
        )
        metric = latent.model.metric
        if isinstance(metric, ConstantCurvature) and metric.curvature < 0:
            plane, batch = poincare_disc(plane, batch, float(metric.curvature))
        save(draw_latent_plane(plane, batch, _describe(latent.model)), folder / name)


def _draw_distances(
    latents: dict[str, _Latent], batches: dict[str, GeodesicBatch], path: Path
) -> None:
    from latentgeom.reports.plots import draw_distances, save

    panels = {}
    for name, latent in latents.items():
        batch = batches[name]
        ends = batch.points[batch.converged][:, [0, -1]]
        chosen, induced = latent.model.metric.dist(*ends.unbind(1)), batch.length[batch.converged]
        slope = float((chosen * induced).sum() / chosen.square().sum())
        panels[f"{name} autoencoder"] = (chosen, induced, slope)
    save(draw_distances(panels), path)


def _describe(model: LatentModel) -> str:
    metric = model.metric
    curvature = getattr(metric, "curvature", None)
    if curvature is None:
        return f"{type(metric).__name__} metric, dimension {metric.dim}"
    return f"metric of curvature {float(curvature):g}, dimension {metric.dim}"


def _print_scores(name: str, scores: dict[str, Any]) -> None:
    shown = ("distortion", "correlation", "condition_median", "log_scale_sd", "reconstruction")
    print(f"{name}: " + ", ".join(f"{key} {scores[key]:.4g}" for key in shown))
    others = {
        "Euclidean distances of its codes": (
            scores["distortion_euclidean"], scores["correlation_euclidean"]
        ),
        "principal components": (
            scores["principal_components"]["distortion"],
            scores["principal_components"]["correlation"],
        ),
    }  # fmt: skip
    for other, (distortion_, correlation) in others.items():
        print(f"  {other}: distortion {distortion_:.4g}, correlation {correlation:.4g}")
