"""Training, validation and test windows of a gridded store, for Lightning.

Coordinates are found by the CF conventions and by usual names, see `neural_lam.fields.roles`.

References:
    Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
    global weather models, arXiv:2308.15560.
"""

import math
from itertools import pairwise
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch

from neural_lam.data.domain import Domain, check_graph, make_domain, steps_per_day
from neural_lam.data.statistics import Statistics, state_statistics
from neural_lam.data.windows import Windows
from neural_lam.fields.datastore import Datastore
from neural_lam.fields.store import FieldStore
from neural_lam.graphs.construction import Grid, Icosahedral, MeshBuilder, Rectangular, Triangular
from neural_lam.graphs.graph import Graph, read_graph
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.shell.checks import counts, not_negative
from neural_lam.shell.errors import InputError
from neural_lam.shell.loading import EvaluationLoader, TrainingLoader
from neural_lam.upstream.graphs import read_upstream_graph

__all__ = ["GriddedData", "graph_for", "without"]


def grid_of(store: Datastore) -> Grid:
    """Where the nodes of a store are, for a mesh."""
    places = map(torch.from_numpy, (store.latitude, store.longitude))
    shape = store.shape if len(store.dims) == 2 else None
    return Grid(torch.from_numpy(store.positions), shape, *places)


def default_mesh(store: Datastore) -> MeshBuilder:
    """Rectangular on rows and columns; on points triangular, or icosahedral around the globe.

    A mesh on points has about one node for six of them.
    """
    if len(store.dims) == 2:
        return Rectangular() if min(store.shape) > 3 else Rectangular(refinement=2, radius=0.75)
    count = len(store.latitude)
    if np.ptp(store.longitude) > 300:
        return Icosahedral(splits=max(0, round(math.log(max(count, 12) / 60, 4))))
    low, high = store.positions.min(0), store.positions.max(0)
    return Triangular(spacing=math.sqrt(6 * float(np.prod(high - low)) / count))


def graph_for(store: Datastore, path: str | None, mesh: MeshBuilder | None) -> Graph:
    """The graph of a store: from its file or folder of files, or built.

    Arguments:
        store: Whose grid it is for.
        path: Graph file that ``neural-lam graph`` wrote, or a folder of upstream's files.
        mesh: What builds it without a path; by default `default_mesh`.
    """
    if path is None:
        graph = (default_mesh(store) if mesh is None else mesh).build(grid_of(store))
    elif Path(path).is_dir():
        graph = read_upstream_graph(path, torch.from_numpy(store.positions))
    else:
        graph = read_graph(path)
    check_graph(graph, store)
    return graph


def without(loader: EvaluationLoader, done: set[int]) -> EvaluationLoader:
    """Every window of a loader once, but for those whose analysis times are done."""
    analysis = loader.dataset.analysis.tolist()  # type: ignore[attr-defined]
    skipped = {number for number, index in enumerate(analysis) if index in done}
    return EvaluationLoader(loader.dataset, loader.batch_size, skipped)


def usual_width(store: Datastore) -> int:
    """Grid points at the edge of a limited area where the truth is given; none elsewhere."""
    limited = len(store.dims) == 2 and not store.wraps
    return min(6, max(1, min(store.shape) // 5)) if limited else 0


def ascending(validation_from: float, test_from: float) -> None:
    """Refuse fractions of the times that leave a period empty."""
    if not 0 < validation_from < test_from < 1:
        raise InputError(
            f"expected 0 < validation_from < test_from < 1, got {validation_from} and {test_from}"
        )


def splits(count: int, validation_from: float, test_from: float) -> list[tuple[int, int]]:
    """First state and one past the last of training, validation and test."""
    edges = [int(part * count) for part in (0.0, validation_from, test_from, 1.0)]
    return list(pairwise(edges))


class GriddedData(lightning.LightningDataModule):
    """Gridded fields of zarr, NetCDF or GRIB files, split in time.

    Arguments:
        path: The store or file, a folder or a pattern of files, or several of them.
        variables: State variables; each of their levels is a feature. Features are sorted by name
            and level, whatever the order here.
        forcings: Kinds of forcing made from the time: toa_radiation, hour, year.
        boundary_width: Grid points at the edge where the truth is given; by default up to 6 on a
            limited area and none on the globe or on points.
        graph: Graph file that ``neural-lam graph`` wrote, or a folder of graph files by
            upstream or weather-model-graphs; without one, a mesh is built.
        mesh: What builds it; by default a rectangular multiscale mesh.
        derived: Fields derived from the states that a network sees too: laplacian, gradient_x,
            gradient_y, in steps of the grid.
        guess_reach: Grid points that a linear first guess of the next state sees to each side;
            0 for none. At most the boundary's width.
        day_components: Principal components that a linear guess from the day before sees; 0 for
            no such guess. A `neural_lam.DirectForecaster` needs one.
        held_boundary: Whether that guess has to do without the future boundary.
        validation_from: Fraction of the times at which validation begins.
        test_from: Fraction of the times at which the test begins.
        rollout_steps: Most steps that training rolls out.
        lead_steps: Steps of validation, test and forecasts.
        stride: States between the analysis times of validation, test and forecasts.
        batch_size: Windows per device in training.
        evaluation_batch_size: Windows per device elsewhere.
        seed: Of the order of training windows.
        rename: New names of variables, coordinates and dimensions, by those of the file.
        select: Values at which further dimensions are cut, ``{number: 0}``.
        memory_limit: MiB up to which the states are kept in memory.
    """

    def __init__(
        self,
        path: str | list[str],
        variables: list[str],
        forcings: list[str] | None = None,
        boundary_width: int | None = None,
        graph: str | None = None,
        mesh: MeshBuilder | None = None,
        derived: list[str] | None = None,
        guess_reach: int = 0,
        day_components: int = 0,
        held_boundary: bool = False,
        validation_from: float = 0.6,
        test_from: float = 0.8,
        rollout_steps: int = 1,
        lead_steps: int = 8,
        stride: int = 1,
        batch_size: int = 4,
        evaluation_batch_size: int = 4,
        seed: int = 0,
        rename: dict[str, str] | None = None,
        select: dict[str, float | int | str] | None = None,
        memory_limit: int = 512,
    ) -> None:
        super().__init__()
        counts(rollout_steps=rollout_steps, lead_steps=lead_steps, stride=stride)
        counts(batch_size=batch_size, evaluation_batch_size=evaluation_batch_size)
        not_negative(boundary_width=boundary_width or 0, guess_reach=guess_reach)
        not_negative(day_components=day_components, memory_limit=memory_limit)
        ascending(validation_from, test_from)
        self.path, self.variables, self.forcings = path, variables, forcings or []
        self._width, self.graph_path, self.mesh = boundary_width, graph, mesh
        self.rename, self.select, self.memory_limit = rename, select, memory_limit
        self.fractions = validation_from, test_from
        self.rollout_steps, self.lead_steps, self.stride = rollout_steps, lead_steps, stride
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.seed = seed
        self.forecast_done: set[int] = set()
        self.derived, self.guess_reach = derived or [], guess_reach
        self.day_components, self.held_boundary = day_components, held_boundary
        self._store: FieldStore | None = None
        self._domain: Domain | None = None

    @property
    def store(self) -> FieldStore:
        """The store, opened once."""
        if self._store is None:
            self._store = FieldStore(
                self.path, self.variables, rename=self.rename, select=self.select,
                memory_limit=self.memory_limit * 1024**2,
            )  # fmt: skip
        return self._store

    @property
    def boundary_width(self) -> int:
        """Grid points at the edge where the truth is given."""
        return usual_width(self.store) if self._width is None else self._width

    @property
    def state_statistics(self) -> Statistics:
        """Of the training period."""
        return state_statistics(self.store, *self.period(0))

    @property
    def domain(self) -> Domain:
        """The domain, with the statistics of the training period."""
        if self._domain is None:
            start, stop = self.period(0)
            self._domain = make_domain(
                self.store,
                self.build_graph(),
                boundary_width=self.boundary_width, forcings=self.forcings, start=start, stop=stop,
                derived=self.derived, guess_reach=self.guess_reach,
                day_components=self.day_components, future=FutureBoundary(self.held_boundary),
                chosen_until=self.period(1)[1],
            )  # fmt: skip
        return self._domain

    def build_graph(self) -> Graph:
        """The graph from its file, or built."""
        store = self.store
        shape = store.shape if len(store.dims) == 2 else None
        graph = graph_for(store, self.graph_path, self.mesh)
        return graph._replace(shape=shape, wraps=store.wraps)

    def period(self, split: int) -> tuple[int, int]:
        """First state and one past the last of training (0), validation (1) or test (2)."""
        return splits(len(self.store.times), *self.fractions)[split]

    def _windows(self, split: int, num_steps: int, stride: int) -> Windows:
        history = steps_per_day(self.store.step) + 2 if self.day_components else 2
        return Windows(self.store, *self.period(split), num_steps, self.forcings, stride, history)

    def _evaluation(self, split: int) -> EvaluationLoader:
        windows = self._windows(split, self.lead_steps, self.stride)
        return EvaluationLoader(windows, self.evaluation_batch_size)

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, resumable."""
        return TrainingLoader(self._windows(0, self.rollout_steps, 1), self.batch_size, self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every window of the validation period once."""
        return self._evaluation(1)

    def test_dataloader(self) -> EvaluationLoader:
        """Every window of the test period once."""
        return self._evaluation(2)

    def __str__(self) -> str:
        split = " / ".join(str(len(range(*self.period(number)))) for number in range(3))
        return f"GriddedData({self.store!r}, {split} times to train, validate, test)"

    __repr__ = __str__

    def predict_dataloader(self) -> EvaluationLoader:
        """Every window of the test period once, but for those whose forecast is there."""
        return without(self._evaluation(2), self.forecast_done)
