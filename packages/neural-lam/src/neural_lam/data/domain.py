"""Everything about a place that a predictor is built from: graph, static fields, statistics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neural_lam.data.forcing import forcing, forcing_names
from neural_lam.data.series import Series, mean_state, usable_states, windows_within
from neural_lam.data.statistics import Statistics, combine, moments, state_statistics
from neural_lam.fields.areas import grid_areas, grid_interior
from neural_lam.fields.datastore import Datastore
from neural_lam.graphs.graph import Graph, graph_from_dict, graph_to_dict
from neural_lam.graphs.mesh import sphere_points
from neural_lam.graphs.sides import Sides
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.day_guess import DayGuess, fit_day_guess
from neural_lam.predictors.derived import DERIVATIVES, DerivedScales, derived_scales
from neural_lam.predictors.series import centres
from neural_lam.predictors.stencil import fit_stencil, stencil_residual
from neural_lam.shell.errors import InputError

__all__ = [
    "Domain",
    "Guess",
    "check_graph",
    "domain_from_dict",
    "domain_to_dict",
    "fit_guess",
    "make_domain",
    "steps_per_day",
]


# States that the sizes of derived fields are taken from, and states read at once.
_SAMPLED, _BATCH = 200, 64


class Guess(NamedTuple):
    """A linear stencil in standardised units, for `neural_lam.predictors.stencil.LinearGuess`.

    Arguments:
        kernel: Weights on the state, ``(V, V, K, K)``.
        previous: Weights on the state before, ``(V, V)``.
        mean: From which anomalies are counted, ``(G, V)``.
        std: Standard deviation of what the guess leaves, ``(V,)``.
        shape: Rows and columns of the grid.
    """

    kernel: Tensor
    previous: Tensor
    mean: Tensor
    std: Tensor
    shape: tuple[int, int]


class Domain(NamedTuple):
    """A limited area.

    Arguments:
        graph: Grid, mesh and edges.
        static: Static fields, ``(G, S)``.
        interior: 1 where forecasts are made, 0 on the boundary, ``(G,)``.
        area: Relative area of each grid node, ``(G,)``.
        statistics: Of the states.
        forcing_mean: Of the forcing window, ``(3 F,)``.
        forcing_std: Likewise.
        guess: Linear first guess of the next state, if there is one.
        day_guess: Linear guess of every lead time within a day, if there is one.
        derived: Usual sizes of the fields that a network sees derived from states, by name, in
            physical units.
        laplacian_std: Standard deviation of the Laplacian of one-step changes, ``(V,)``, where the
            grid is regular.
        features: Names of the features.
        units: Of the features.
        mask: Where each feature exists, ``(G, V)``, unless all do everywhere.
    """

    graph: Graph
    static: Tensor
    interior: Tensor
    area: Tensor
    statistics: Statistics
    forcing_mean: Tensor
    forcing_std: Tensor
    guess: Guess | None = None
    day_guess: DayGuess | None = None
    derived: dict[str, DerivedScales] | None = None
    laplacian_std: Tensor | None = None
    features: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    mask: Tensor | None = None

    def __repr__(self) -> str:
        names = ", ".join(self.features) or f"{len(self.statistics.mean)} features"
        forecast = int((self.interior > 0).sum())
        return f"Domain({names}; {len(self.interior)} grid nodes, {forecast} of them forecast)"


def domain_to_dict(domain: Domain) -> dict[str, Any]:
    """A domain as plain containers of tensors, as checkpoints hold it."""
    content = domain._asdict()
    content["graph"] = graph_to_dict(domain.graph)
    content["statistics"] = domain.statistics._asdict()
    for name in ("guess", "day_guess"):
        found = getattr(domain, name)
        content[name] = None if found is None else found._asdict()
    content |= {name: list(content[name]) for name in ("features", "units")}
    content["derived"] = {n: scales._asdict() for n, scales in (domain.derived or {}).items()}
    return content


def domain_from_dict(content: dict[str, Any]) -> Domain:
    """The domain that `domain_to_dict` took apart."""
    graph = graph_from_dict(content["graph"])
    statistics = Statistics(**content["statistics"])
    guess = None if content["guess"] is None else Guess(**content["guess"])
    found = content.get("day_guess")
    day_guess = None if found is None else DayGuess(**{**found, "shape": tuple(found["shape"])})
    scales = content.get("derived") or {}
    parts = {
        "features": tuple(content.get("features", ())),
        "units": tuple(content.get("units", ())),
        "graph": graph,
        "statistics": statistics,
        "guess": guess,
        "day_guess": day_guess,
        "derived": {name: DerivedScales(**found) for name, found in scales.items()},
    }
    return Domain(**{**content, **parts})


def check_graph(graph: Graph, store: Datastore) -> None:
    """Refuse a graph that was made for another grid.

    Raises:
        InputError: It has other nodes.
    """
    count = store.shape[0] * store.shape[1]
    if len(graph.grid) != count:
        raise InputError(
            f"the graph has {len(graph.grid)} grid nodes, but {store.path} has"
            f" {' x '.join(map(str, store.shape))} = {count}"
        )
    positions = torch.from_numpy(store.positions)
    if graph.grid.shape[1] == 3:
        places = map(torch.from_numpy, (store.latitude, store.longitude))
        positions = sphere_points(*places)
    apart = (graph.grid.double() - positions).abs().max()
    if not bool(apart <= 1e-4 * positions.abs().max()):
        raise InputError(f"the graph's grid nodes lie elsewhere than those of {store.path}")


def _static_fields(graph: Graph, interior: Tensor, mask: Tensor) -> Tensor:
    """Place, whether a forecast is made there, and which features don't exist there."""
    centred = graph.grid - graph.grid.mean(0)
    partial = mask[:, ~mask.all(0)].float()
    place = (centred / centred.abs().max()).float()
    return torch.cat((place, interior[:, None], partial), dim=1)


def fit_guess(
    store: Datastore, statistics: Statistics, width: int, reach: int, start: int, stop: int
) -> Guess:
    """The linear stencil of a period, see `neural_lam.predictors.stencil.fit_stencil`."""
    if len(store.dims) != 2:
        raise InputError("guess_reach: a linear stencil needs a grid of rows and columns")
    mean, scale = mean_state(store, start, stop), statistics.std.double()
    mask = store.availability.mask
    series = Series(store, mean, scale, start, stop)
    exists = mask.T.reshape(-1, *store.shape).numpy()
    known = None if exists.all() else exists
    with _named("guess_reach", store):
        stencil = fit_stencil(series, width, reach, sides=Sides(store.wraps), exists=known)
    side, num_variables = 2 * reach + 1, len(scale)
    weights = torch.from_numpy(stencil.weights.T.copy())
    kernel = weights[:, : num_variables * side**2].reshape(-1, num_variables, side, side)
    left = stencil_residual(stencil, series, centres(series, 1, stop - start, 1, 1)[::10])
    standardised = torch.where(mask, (mean - statistics.mean) / scale, 0.0)
    return Guess(
        kernel.float(),
        weights[:, num_variables * side**2 :].float(),
        standardised.float(),
        torch.from_numpy(left).float(),
        store.shape,
    )


def _day_guess(
    store: Datastore,
    interior: Tensor,
    period: tuple[int, int, int],
    components: int,
    future: FutureBoundary,
) -> DayGuess:
    """The guess from the day before, which needs every value of its period."""
    start, stop, until = period
    if not bool(store.availability.mask.all()):
        raise InputError("day_components: all features must exist everywhere")
    if len(windows_within(store, start, start + 1, 0, until - start - 1)) == 0:
        raise InputError(f"day_components: {store.path} has missing times in the training period")
    with _named("day_components", store):
        return fit_day_guess(
            store.states(start, until),
            interior,
            store.shape,
            period=steps_per_day(store.step),
            num_components=components,
            future=future,
            num_fitted=stop - start,
        )


@contextmanager
def _named(key: str, store: Datastore) -> Iterator[None]:
    """Name the setting and the file in what a fit says of its data."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {store.path}: {error}") from error


def _forcing_moments(
    store: Datastore, kinds: Sequence[str], start: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the forcing over a period, ``(F,)`` each."""
    total = None
    for first in range(start, stop, _BATCH):
        times = store.times[first : min(first + _BATCH, stop)]
        part = moments(forcing(times, store.latitude, store.longitude, kinds, store.calendar))
        total = part if total is None else combine(total, part)
    assert total is not None
    return total.mean, total.std


def make_domain(
    store: Datastore,
    graph: Graph,
    *,
    boundary_width: int,
    forcings: Sequence[str],
    start: int,
    stop: int,
    derived: Sequence[str] = (),
    guess_reach: int = 0,
    day_components: int = 0,
    future: FutureBoundary = FutureBoundary.GIVEN,
    chosen_until: int | None = None,
) -> Domain:
    """Domain of a store: static fields from the grid, statistics over a period.

    With `day_components` it has a guess from the day before, which sees the future boundary or
    doesn't; the states up to `chosen_until` choose its features.

    Raises:
        ValueError: The graph belongs to another grid.
    """
    check_graph(graph, store)
    _check_forcings(store, forcings)
    _check_derived(store, derived)
    interior = grid_interior(store, boundary_width)
    statistics = state_statistics(store, start, stop)
    regular = len(store.dims) == 2
    scales = _derived_scales(store, {*derived, "laplacian"} if regular else set(), start, stop)
    forcing_mean, forcing_std = _forcing_moments(store, forcings, start, stop)
    mask = store.availability.mask
    guess = day_guess = None
    if guess_reach:
        guess = fit_guess(store, statistics, boundary_width, guess_reach, start, stop)
    if day_components:
        period = start, stop, stop if chosen_until is None else chosen_until
        day_guess = _day_guess(store, interior, period, day_components, future)
    return Domain(
        graph=graph,
        static=_static_fields(graph, interior, mask),
        interior=interior,
        area=grid_areas(store).float(),
        statistics=statistics,
        forcing_mean=forcing_mean.float().repeat(3),
        forcing_std=forcing_std.clamp(min=1e-6).float().repeat(3),
        guess=guess,
        day_guess=day_guess,
        derived={name: scales[name] for name in derived},
        laplacian_std=scales["laplacian"].change_std if regular else None,
        features=tuple(feature.name for feature in store.features),
        units=tuple(feature.units for feature in store.features),
        mask=None if bool(mask.all()) else mask,
    )


def _check_forcings(store: Datastore, forcings: Sequence[str]) -> None:
    forcing_names(forcings)
    if forcings and not np.isfinite(store.latitude).all():
        raise InputError(f"{store.path}: forcing needs latitudes and longitudes of its grid")


def _check_derived(store: Datastore, derived: Sequence[str]) -> None:
    unknown = set(derived) - set(DERIVATIVES)
    if unknown:
        raise InputError(f"derived must be among {', '.join(DERIVATIVES)}, got {unknown.pop()!r}")
    if derived and len(store.dims) != 2:
        raise InputError("derived: fields are derived on grids of rows and columns alone")


def _derived_scales(
    store: Datastore, names: set[str], start: int, stop: int
) -> dict[str, DerivedScales]:
    """Usual sizes of derived fields over a period, in physical units."""
    times = windows_within(store, start, stop - 1, 0, 1)
    sampled = times[:: max(1, len(times) // _SAMPLED)].tolist()
    if not names or not sampled:
        return {}
    pairs = torch.stack([usable_states(store, t, t + 2) for t in sampled]).double()
    found = derived_scales(
        sorted(names), pairs[:, 0], pairs[:, 1] - pairs[:, 0], store.shape, Sides(store.wraps)
    )
    return {name: DerivedScales(*(s.float() for s in scales)) for name, scales in found.items()}


def steps_per_day(step: np.timedelta64) -> int:
    """States a day.

    Raises:
        InputError: A day isn't a whole number of steps.
    """
    day = np.timedelta64(1, "D")
    if day % step != np.timedelta64(0, "ns"):
        raise InputError(f"a guess from the day before needs steps that divide a day, got {step}")
    return int(day // step)
