"""Everything about a place that a predictor is built from: graph, static fields, statistics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neural_lam.data.fields import FieldStore
from neural_lam.data.forcing import forcing, forcing_names
from neural_lam.data.statistics import Statistics, moments, state_statistics
from neural_lam.data.windows import grid_coordinates
from neural_lam.graph import Graph, graph_from_dict, graph_to_dict

__all__ = [
    "Domain",
    "area_weights",
    "domain_from_dict",
    "domain_to_dict",
    "frame_interior",
    "grid_positions",
    "make_domain",
]


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
    """

    graph: Graph
    static: Tensor
    interior: Tensor
    area: Tensor
    statistics: Statistics
    forcing_mean: Tensor
    forcing_std: Tensor


def domain_to_dict(domain: Domain) -> dict[str, Any]:
    """A domain as plain containers of tensors, as checkpoints hold it."""
    content = domain._asdict()
    content["graph"] = graph_to_dict(domain.graph)
    content["statistics"] = domain.statistics._asdict()
    return content


def domain_from_dict(content: dict[str, Any]) -> Domain:
    """The domain that `domain_to_dict` took apart."""
    graph = graph_from_dict(content["graph"])
    return Domain(**{**content, "graph": graph, "statistics": Statistics(**content["statistics"])})


def grid_positions(store: FieldStore) -> Tensor:
    """Positions in degrees of latitude, longitudes shrunk at the middle latitude, ``(G, 2)``."""
    latitude, longitude = grid_coordinates(store)
    shrink = np.cos(np.deg2rad(store.latitude.mean()))
    return torch.from_numpy(np.stack((longitude * shrink, latitude), axis=1))


def frame_interior(shape: tuple[int, int], width: int) -> Tensor:
    """1 inside a frame of the given width, 0 on it, ``(G,)``.

    Raises:
        ValueError: Nothing is left inside.
    """
    if width < 0 or 2 * width >= min(shape):
        raise ValueError(f"boundary_width must be from 0 to less than half of {shape}, got {width}")
    interior = torch.zeros(shape)
    interior[width : shape[0] - width, width : shape[1] - width] = 1
    return interior.flatten()


def area_weights(latitude: Tensor) -> Tensor:
    """Relative area of grid cells at the given latitudes in degrees, mean 1."""
    area = torch.deg2rad(latitude).cos().clamp(min=0)
    return area / area.mean()


def _static_fields(graph: Graph, interior: Tensor) -> Tensor:
    centred = graph.grid - graph.grid.mean(0)
    return torch.cat(((centred / centred.abs().max()).float(), interior[:, None]), dim=1)


def make_domain(
    store: FieldStore,
    graph: Graph,
    *,
    boundary_width: int,
    forcings: Sequence[str],
    start: int,
    stop: int,
) -> Domain:
    """Domain of a store: static fields from the grid, statistics over a period.

    Raises:
        ValueError: The graph belongs to another grid.
    """
    if graph.grid.shape[0] != store.shape[0] * store.shape[1]:
        raise ValueError(
            f"the graph has {graph.grid.shape[0]} grid nodes, but {store.path} has"
            f" {store.shape[0]} x {store.shape[1]} = {store.shape[0] * store.shape[1]}"
        )
    interior = frame_interior(store.shape, boundary_width)
    latitude, longitude = grid_coordinates(store)
    forcing_names(forcings)
    values = forcing(store.times[start:stop], latitude, longitude, forcings)
    spread = moments(values)
    std = spread.std.clamp(min=1e-6).float().repeat(3)
    return Domain(
        graph=graph,
        static=_static_fields(graph, interior),
        interior=interior,
        area=area_weights(torch.from_numpy(latitude)).float(),
        statistics=state_statistics(store, start, stop),
        forcing_mean=spread.mean.float().repeat(3),
        forcing_std=std,
    )
