"""Data that upstream's ``config.yaml`` names, for Lightning: its windows, splits and statistics."""

from typing import NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor

from neural_lam.data.domain import Domain
from neural_lam.data.meps import MepsStore
from neural_lam.data.mllam import PreparedStore, read_yaml
from neural_lam.data.module import graph_for, without
from neural_lam.data.readers import open_upstream
from neural_lam.data.statistics import Statistics
from neural_lam.data.windows import Batch
from neural_lam.graphs.construction import MeshBuilder, Rectangular
from neural_lam.graphs.graph import Graph
from neural_lam.shell.checks import counts, not_negative
from neural_lam.shell.errors import InputError
from neural_lam.shell.loading import EvaluationLoader, TrainingLoader
from neural_lam.shell.showing import in_a_line

__all__ = ["ForcingSteps", "UpstreamData", "UpstreamWindows", "output_bounds", "state_weights"]

_SPLITS = ("train", "val", "test")


def state_weights(config: str, names: list[str]) -> Tensor:
    """Weight of each state feature in the loss, as ``training.state_feature_weighting`` says.

    Raises:
        InputError: A feature has no weight, or a weight no feature.
    """
    training = read_yaml(config).get("training") or {}
    weighting = training.get("state_feature_weighting") or {}
    if "weights" not in weighting:
        return torch.full((len(names),), 1 / len(names))
    given = weighting["weights"]
    if set(given) != set(names):
        raise InputError(
            f"{config}: training.state_feature_weighting.weights: expected {', '.join(names)},"
            f" got {', '.join(given)}"
        )
    return torch.tensor([float(given[name]) for name in names])


def output_bounds(config: str, names: list[str]) -> tuple[list[float], list[float]] | None:
    """Least and largest values that ``training.output_clamping`` sets, if it sets any.

    Raises:
        InputError: A bound belongs to no feature.
    """
    clamping = (read_yaml(config).get("training") or {}).get("output_clamping") or {}
    bounds = []
    for side, missing in (("lower", -float("inf")), ("upper", float("inf"))):
        given = clamping.get(side) or {}
        unknown = set(given) - set(names)
        if unknown:
            raise InputError(
                f"{config}: training.output_clamping.{side}: no feature"
                f" {', '.join(sorted(unknown))}; expected {', '.join(names)}"
            )
        bounds.append([float(given.get(name, missing)) for name in names])
    return (bounds[0], bounds[1]) if clamping else None


class ForcingSteps(NamedTuple):
    """Times around that of a forecast state whose forcing is seen.

    Arguments:
        past: Steps before it.
        future: Steps after it.
    """

    past: int = 1
    future: int = 1

    @property
    def size(self) -> int:
        """Number of times."""
        return self.past + 1 + self.future

    @property
    def lead(self) -> int:
        """States before the first analysis time of a split, as upstream counts them."""
        return max(1, self.past - 1)


class UpstreamWindows:
    """Windows of a split with forcing as upstream orders it: feature by feature, each in time.

    Arguments:
        store: Where the states come from.
        start: First state of the split.
        stop: One past its last.
        num_steps: Lead times of a window.
        stride: Between the analysis times, in states, or in runs.
        around: Times of the forcing.
    """

    def __init__(
        self,
        store: PreparedStore | MepsStore,
        start: int,
        stop: int,
        num_steps: int,
        stride: int = 1,
        around: ForcingSteps = ForcingSteps(),  # noqa: B008,
    ) -> None:
        if num_steps < 1 or stride < 1:
            raise InputError(f"steps and stride must be at least 1, got {num_steps} and {stride}")
        self.store, self.num_steps, self.around = store, num_steps, around
        run = store.run_length
        # The forcing after the last step ends the last window.
        taken = around.lead + 1 + num_steps + around.future
        if (run or stop - start) < taken:
            raise InputError(
                f"{store.path}: a window takes {taken} states, got {run or stop - start}"
            )
        first = torch.arange(start, stop, run) if run else torch.arange(start, stop - taken + 1)
        self.analysis = first[::stride] + around.lead

    def __len__(self) -> int:
        return len(self.analysis)

    def __getitem__(self, index: Tensor) -> Batch:
        analysis = self.analysis[index]
        parts = [self.store.states(t - 1, t + 1 + self.num_steps) for t in analysis.tolist()]
        states = torch.stack(parts)
        forcing = torch.stack([self._forcing(t) for t in analysis.tolist()])
        return Batch(states[:, :2], states[:, 2:], forcing, analysis)

    def _forcing(self, analysis: int) -> Tensor:
        past, future = self.around
        values = self.store.forcing(analysis + 1 - past, analysis + 1 + self.num_steps + future)
        return values.unfold(0, self.around.size, 1).flatten(2)


class UpstreamData(lightning.LightningDataModule):
    """The datastore of a ``config.yaml`` of neural-lam 0.7, unchanged.

    Arguments:
        config: Path of ``config.yaml``.
        graph: Folder that ``create_graph`` wrote, or a graph file of ours; without one, a mesh
            is built.
        mesh: What builds it; by default a rectangular multiscale mesh.
        boundary_width: Grid points at the edge that are boundary, where the datastore doesn't
            say it (mllam-data-prep).
        rollout_steps: Most steps that training rolls out.
        lead_steps: Steps of validation, test and forecasts.
        stride: Between the analysis times of validation, test and forecasts.
        batch_size: Windows per device in training.
        evaluation_batch_size: Windows per device elsewhere.
        seed: Of the order of training windows.
        num_past_forcing_steps: Steps before that of a forecast state whose forcing is seen.
        num_future_forcing_steps: Likewise, steps after it.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """

    __str__ = in_a_line

    def __init__(
        self,
        config: str,
        graph: str | None = None,
        mesh: MeshBuilder | None = None,
        boundary_width: int = 30,
        rollout_steps: int = 1,
        lead_steps: int = 8,
        stride: int = 1,
        batch_size: int = 4,
        evaluation_batch_size: int = 4,
        seed: int = 0,
        num_past_forcing_steps: int = 1,
        num_future_forcing_steps: int = 1,
    ) -> None:
        super().__init__()
        counts(
            rollout_steps=rollout_steps,
            lead_steps=lead_steps,
            stride=stride,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
        )
        counts(boundary_width=boundary_width)
        not_negative(
            num_past_forcing_steps=num_past_forcing_steps,
            num_future_forcing_steps=num_future_forcing_steps,
        )
        self.around = ForcingSteps(num_past_forcing_steps, num_future_forcing_steps)
        self.path, self.graph_path, self.boundary_width = config, graph, boundary_width
        self.mesh = Rectangular() if mesh is None else mesh
        self.rollout_steps, self.lead_steps, self.stride = rollout_steps, lead_steps, stride
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.seed = seed
        self.forecast_done: set[int] = set()
        self._store: PreparedStore | MepsStore | None = None
        self._domain: Domain | None = None

    @property
    def store(self) -> PreparedStore | MepsStore:
        """The datastore, opened once."""
        if self._store is None:
            self._store = open_upstream(self.path)
            if isinstance(self._store, PreparedStore):
                self._store.boundary_width = self.boundary_width
        return self._store

    @property
    def state_statistics(self) -> Statistics:
        """The datastore's own, of its training split."""
        return self.store.statistics

    @property
    def domain(self) -> Domain:
        """The domain, with the datastore's own statistics and static fields."""
        if self._domain is None:
            store = self.store
            moments = store.forcing_moments
            self._domain = Domain(
                graph=self.build_graph(),
                static=store.static,
                interior=store.interior,
                area=torch.ones(len(store.positions)),
                statistics=store.statistics,
                forcing_mean=moments.mean.repeat_interleave(self.around.size),
                forcing_std=moments.std.repeat_interleave(self.around.size),
                features=tuple(feature.name for feature in store.features),
                units=tuple(feature.units for feature in store.features),
            )
        return self._domain

    def build_graph(self) -> Graph:
        """The graph from its folder or file, or built."""
        return graph_for(self.store, self.graph_path, self.mesh)._replace(shape=self.store.shape)

    def period(self, split: int) -> tuple[int, int]:
        """First state and one past the last of training (0), validation (1) or test (2)."""
        return self.store.period(_SPLITS[split])

    def windows(self, split: int, num_steps: int, stride: int = 1) -> UpstreamWindows:
        """Windows of a split."""
        return UpstreamWindows(self.store, *self.period(split), num_steps, stride, self.around)

    def _evaluation(self, split: int) -> EvaluationLoader:
        windows = self.windows(split, self.lead_steps, self.stride)
        return EvaluationLoader(windows, self.evaluation_batch_size)

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, resumable."""
        return TrainingLoader(self.windows(0, self.rollout_steps), self.batch_size, self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every window of the validation split once."""
        return self._evaluation(1)

    def test_dataloader(self) -> EvaluationLoader:
        """Every window of the test split once."""
        return self._evaluation(2)

    def predict_dataloader(self) -> EvaluationLoader:
        """Every window of the test split once, but for those whose forecast is there."""
        return without(self._evaluation(2), self.forecast_done)
