"""Results on disk: zarr and JSON, written under a temporary name and moved into place."""

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from torch import Tensor

from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.shell.writing import whole

__all__ = ["codes_dataset", "geodesics_dataset", "write_json", "write_zarr"]

_PACKAGES = ("latentgeom", "torch", "lightning", "numpy", "scikit-learn", "zarr")


def codes_dataset(codes: Tensor, labels: Tensor, index: Tensor) -> xarray.Dataset:
    """Codes as ``code(sample, latent)`` with their labels and indices."""
    return xarray.Dataset(
        {
            "code": (("sample", "latent"), codes.cpu().numpy()),
            "label": ("sample", labels.cpu().numpy()),
        },
        coords={"sample": index.cpu().numpy()},
    )


def geodesics_dataset(batch: GeodesicBatch, pairs: Tensor) -> xarray.Dataset:
    """Curves as ``points(pair, node, latent)`` with lengths, error estimates and flags."""
    return xarray.Dataset(
        {
            "points": (("pair", "node", "latent"), batch.points.cpu().numpy()),
            "length": ("pair", batch.length.cpu().numpy()),
            "error_estimate": ("pair", batch.error_estimate.cpu().numpy()),
            "converged": ("pair", batch.converged.cpu().numpy()),
            "iterations": ("pair", batch.iterations.cpu().numpy()),
            "endpoint": (("pair", "end"), pairs.cpu().numpy()),
        },
        coords={"time": ("node", np.linspace(0, 1, batch.points.shape[1]))},
    )


def write_zarr(dataset: xarray.Dataset, path: Path) -> None:
    """Write a data set as zarr, replacing one of that name."""
    with whole(path) as partial:
        dataset.to_zarr(partial, mode="w", consolidated=False)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a report with the versions it was made with.

    Raises:
        ValueError: A number in it isn't finite.
    """
    _check_finite(content, "report")
    versions = {name: version(name) for name in _PACKAGES}
    versions["python"] = platform.python_version()
    with whole(path) as partial:
        partial.write_text(json.dumps({**content, "versions": versions}, indent=2) + "\n")


def _check_finite(node: object, where: str) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            _check_finite(value, f"{where}.{key}")
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            _check_finite(value, f"{where}.{position}")
    elif isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"{where} must be finite, got {node}")
