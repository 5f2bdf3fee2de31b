"""Everything about a place that a predictor is built from: graph, static fields, statistics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neural_lam.data.fields import Datastore
from neural_lam.data.forcing import forcing, forcing_names
from neural_lam.data.statistics import Statistics, moments, state_statistics
from neural_lam.graphs.graph import Graph, graph_from_dict, graph_to_dict
from neural_lam.predictors.baselines import fit_stencil, stencil_residual
from neural_lam.predictors.direct import DayGuess, fit_day_guess
from neural_lam.shell.errors import InputError

__all__ = [
    "Domain",
    "Guess",
    "area_weights",
    "domain_from_dict",
    "domain_to_dict",
    "fit_guess",
    "frame_interior",
    "grid_areas",
    "make_domain",
    "steps_per_day",
]


class Guess(NamedTuple):
    """A linear stencil in standardised units, as `neural_lam.predictors.step.LinearGuess` takes it.

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


def domain_to_dict(domain: Domain) -> dict[str, Any]:
    """A domain as plain containers of tensors, as checkpoints hold it."""
    content = domain._asdict()
    content["graph"] = graph_to_dict(domain.graph)
    content["statistics"] = domain.statistics._asdict()
    for name in ("guess", "day_guess"):
        found = getattr(domain, name)
        content[name] = None if found is None else found._asdict()
    return content


def domain_from_dict(content: dict[str, Any]) -> Domain:
    """The domain that `domain_to_dict` took apart."""
    graph = graph_from_dict(content["graph"])
    statistics = Statistics(**content["statistics"])
    guess = None if content["guess"] is None else Guess(**content["guess"])
    found = content.get("day_guess")
    day_guess = None if found is None else DayGuess(**{**found, "shape": tuple(found["shape"])})
    parts = {"graph": graph, "statistics": statistics, "guess": guess, "day_guess": day_guess}
    return Domain(**{**content, **parts})


def frame_interior(shape: tuple[int, int], width: int) -> Tensor:
    """1 inside a frame of the given width, 0 on it, ``(G,)``.

    Raises:
        ValueError: Nothing is left inside.
    """
    if width < 0 or 2 * width >= min(shape):
        raise InputError(f"boundary_width must be from 0 to less than half of {shape}, got {width}")
    interior = torch.zeros(shape)
    interior[width : shape[0] - width, width : shape[1] - width] = 1
    return interior.flatten()


def area_weights(latitude: Tensor) -> Tensor:
    """Relative area of grid cells at the given latitudes in degrees, mean 1.

    Between two rows of a global grid lies the area of a band; at a pole, half a band.
    """
    area = torch.deg2rad(latitude).cos().clamp(min=0)
    poles = latitude.abs() > 90 - 1e-6
    if poles.any():
        others = latitude[~poles].abs()
        step = torch.deg2rad(90 - others.max())
        # Exact areas of the bands: 2 cos(phi) sin(step / 2), and the cap 1 - cos(step / 2).
        area = 2 * area * torch.sin(step / 2)
        area[poles] = 1 - torch.cos(step / 2)
    return area / area.mean()


def grid_areas(store: Datastore) -> Tensor:
    """Relative area of each grid node, mean 1, ``(G,)``.

    Cells between circles of latitude shrink towards the poles. Those of a projected grid, whose
    coordinates are distances in the plane, count alike, as the projection's scale isn't known.
    """
    if set(store.dims) == {"latitude", "longitude"}:
        return area_weights(torch.from_numpy(store.latitude))
    return torch.ones(len(store.latitude), dtype=torch.float64)


def _static_fields(graph: Graph, interior: Tensor) -> Tensor:
    centred = graph.grid - graph.grid.mean(0)
    return torch.cat(((centred / centred.abs().max()).float(), interior[:, None]), dim=1)


def fit_guess(
    store: Datastore, statistics: Statistics, width: int, reach: int, start: int, stop: int
) -> Guess:
    """The linear stencil of a period, see `neural_lam.predictors.baselines.fit_stencil`."""
    states = ((store.states(start, stop) - statistics.mean) / statistics.std).double()
    mean = states.mean(0)
    num_variables = states.shape[-1]
    anomalies = (states - mean).transpose(1, 2).reshape(stop - start, num_variables, *store.shape)
    stencil = fit_stencil(anomalies.numpy(), width, reach)
    side = 2 * reach + 1
    weights = torch.from_numpy(stencil.weights.T.copy())
    kernel = weights[:, : num_variables * side**2].reshape(-1, num_variables, side, side)
    left = stencil_residual(stencil, anomalies.numpy(), range(1, stop - start - 1, 10))
    return Guess(
        kernel.float(),
        weights[:, num_variables * side**2 :].float(),
        mean.float(),
        torch.from_numpy(left).float(),
        store.shape,
    )


def make_domain(
    store: Datastore,
    graph: Graph,
    *,
    boundary_width: int,
    forcings: Sequence[str],
    start: int,
    stop: int,
    guess_reach: int = 0,
    day_components: int = 0,
    held_boundary: bool = False,
    chosen_until: int | None = None,
) -> Domain:
    """Domain of a store: static fields from the grid, statistics over a period.

    With `day_components` it has a guess from the day before, with `held_boundary` one that
    doesn't see the future boundary; the states up to `chosen_until` choose its features.

    Raises:
        ValueError: The graph belongs to another grid.
    """
    if graph.grid.shape[0] != store.shape[0] * store.shape[1]:
        raise InputError(
            f"the graph has {graph.grid.shape[0]} grid nodes, but {store.path} has"
            f" {store.shape[0]} x {store.shape[1]} = {store.shape[0] * store.shape[1]}"
        )
    interior = frame_interior(store.shape, boundary_width)
    statistics = state_statistics(store, start, stop)
    latitude, longitude = store.latitude, store.longitude
    forcing_names(forcings)
    values = forcing(store.times[start:stop], latitude, longitude, forcings)
    spread = moments(values)
    std = spread.std.clamp(min=1e-6).float().repeat(3)
    return Domain(
        graph=graph,
        static=_static_fields(graph, interior),
        interior=interior,
        area=grid_areas(store).float(),
        statistics=statistics,
        forcing_mean=spread.mean.float().repeat(3),
        forcing_std=std,
        guess=fit_guess(store, statistics, boundary_width, guess_reach, start, stop)
        if guess_reach
        else None,
        day_guess=fit_day_guess(
            store.states(start, stop if chosen_until is None else chosen_until),
            interior,
            store.shape,
            period=steps_per_day(store.step),
            num_components=day_components,
            sees_boundary=not held_boundary,
            num_fitted=stop - start,
        )
        if day_components
        else None,
    )


def steps_per_day(step: np.timedelta64) -> int:
    """States a day.

    Raises:
        InputError: A day isn't a whole number of steps.
    """
    day = np.timedelta64(1, "D")
    if day % step != np.timedelta64(0, "ns"):
        raise InputError(f"a guess from the day before needs steps that divide a day, got {step}")
    return int(day // step)
