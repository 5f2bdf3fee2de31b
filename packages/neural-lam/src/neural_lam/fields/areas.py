"""Where on a grid forecasts are made, and what area each point stands for."""

import torch
from torch import Tensor

from neural_lam.fields.datastore import Datastore
from neural_lam.shell.errors import InputError

__all__ = ["area_weights", "frame_interior", "frame_width", "grid_areas", "grid_interior"]


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


def frame_width(interior: Tensor, shape: tuple[int, int] | None) -> int | None:
    """Width of the frame around the interior; nothing if that is no frame of a grid."""
    if shape is None or len(interior) != shape[0] * shape[1]:
        return None
    inside = (interior.reshape(shape) > 0).nonzero()
    if not len(inside):
        return None
    width = int(inside[0].min())
    same = 2 * width < min(shape) and torch.equal(frame_interior(shape, width), interior.float())
    return width if same else None


def grid_interior(store: Datastore, width: int) -> Tensor:
    """1 where forecasts are made, 0 on the boundary, ``(G,)``.

    On a grid that goes round the globe the boundary lies at the first and last rows alone. Points
    without rows and columns have none.
    """
    if len(store.dims) != 2:
        if width:
            raise InputError("boundary_width must be 0 on points without rows and columns")
        return torch.ones(store.shape[0])
    if not store.wraps or not width:
        return frame_interior(store.shape, width)
    if not 0 <= 2 * width < store.shape[0]:
        raise InputError(f"boundary_width must be from 0 to less than half of {store.shape[0]}")
    interior = torch.zeros(store.shape)
    interior[width : store.shape[0] - width] = 1
    return interior.flatten()


def area_weights(latitude: Tensor) -> Tensor:
    """Relative area of grid cells at the given latitudes in degrees, mean 1.

    Between two rows of a global grid lies the area of a band; at a pole, half a band.

    References:
        Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
        global weather models, arXiv:2308.15560.
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
    if store.dims == ("latitude", "longitude"):
        return area_weights(torch.from_numpy(store.latitude))
    return torch.ones(len(store.latitude), dtype=torch.float64)
