r"""Results as InferenceData: what the statistics programs of Python read.

Groups: ``posterior`` (equally weighted: one systematic resample of each island, chains
being islands), ``weighted_posterior`` (the particles with ``log_weight``),
``sample_stats`` (ancestry), ``schedule`` (by step and island: level, ESS, acceptance,
families, log-normaliser so far) and ``evidence`` (log-normaliser by island). Settings,
versions and the combined evidence are attributes.
"""

import json
import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from .configuration import InputError
from .diagnostics import Record
from .estimators import evidence, lee_whiteley_variance
from .methods import Result
from .resampling import systematic
from .targets import Posterior, Target

__all__ = ["read_result", "to_inference_data", "to_record", "write_result"]


def _arviz() -> Any:
    with warnings.catch_warnings():
        # its announcement of a later version, which the pin keeps away
        warnings.simplefilter("ignore", FutureWarning)
        return import_module("arviz")


def _array(values: Tensor, *dims: str) -> xr.DataArray:
    return xr.DataArray(values.detach().cpu().numpy(), dims=dims)


def _schedule(result: Result) -> xr.Dataset:
    history = result.history
    by_island = {
        name: _array(torch.stack([getattr(info, name) for info in history]), "step", "chain")
        for name in (
            "ess",
            "conditional_ess",
            "acceptance",
            "resampled",
            "families",
            "log_normalizer",
            "step_size",
        )
    }
    levels = torch.tensor([info.level for info in history], dtype=torch.float64)
    return xr.Dataset({"level": _array(levels, "step"), **by_island})


def _attributes(result: Result, settings: Mapping[str, Any]) -> dict[str, Any]:
    from . import __version__

    combined = evidence(result.log_normalizers)
    return {
        **{f"evidence_{name}": value for name, value in combined._asdict().items()},
        "unbiased": int(result.unbiased),
        "path": result.path,
        "reason": result.reason,
        "num_evaluations": result.num_evaluations,
        "notes": json.dumps(result.notes),
        "settings": json.dumps(settings, default=str),
        "inference_library": "diffsmc",
        "inference_library_version": __version__,
    }


def _parameters(target: Target, x: Tensor) -> dict[str, xr.DataArray]:
    """Constrained parameters of points, ``(R, N, D)``, by name."""
    if not isinstance(target, Posterior):
        return {}
    return {
        name: _array(value, "chain", "draw", *(f"{name}_dim_{k}" for k in range(value.dim() - 2)))
        for name, value in target.parameters_at(x).items()
    }


def to_inference_data(
    result: Result, target: Target, settings: Mapping[str, Any], *, generator: torch.Generator
) -> Any:
    """Give a result as ``arviz.InferenceData``.

    Arguments:
        result: What a method returned.
        target: What was sampled; named parameters of a `Posterior` join its coordinates.
        settings: What the run was asked for, kept as JSON.
        generator: Source of the final resample.
    """
    az = _arviz()
    ancestors = systematic(result.log_weights, generator=generator)
    particles = result.particles
    equal = particles.gather(1, ancestors[..., None].expand_as(particles))
    coords = {"coordinate": target.names}

    def points(x: Tensor) -> xr.Dataset:
        return xr.Dataset({"x": _array(x, "chain", "draw", "coordinate")}, coords=coords)

    weighted = points(particles).assign(log_weight=_array(result.log_weights, "chain", "draw"))
    stats = xr.Dataset({"first_ancestor": _array(result.eves, "chain", "draw")})
    variance = lee_whiteley_variance(result.log_weights, result.eves, result.num_resampled)
    islands = xr.Dataset(
        {
            "log_normalizer": _array(result.log_normalizers, "chain"),
            "relative_variance": _array(variance, "chain"),
        }
    )
    data = az.InferenceData(
        posterior=points(equal).assign(_parameters(target, equal)),
        weighted_posterior=weighted,
        sample_stats=stats,
        schedule=_schedule(result),
        evidence=islands,
        warn_on_custom_groups=False,
    )
    data.attrs.update(_attributes(result, settings))
    return data


def write_result(data: Any, path: str | os.PathLike[str]) -> None:
    """Write InferenceData to NetCDF, whole or not at all."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    data.to_netcdf(str(partial), engine="h5netcdf")
    os.replace(partial, file)


def read_result(path: str | os.PathLike[str]) -> Any:
    """Read a result; the file is closed again.

    Raises:
        InputError: The file is missing, damaged, or holds no result of this package.
    """
    az = _arviz()
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        data = az.from_netcdf(str(path), engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a NetCDF result ({error})".splitlines()[0]) from None
    missing = [g for g in ("weighted_posterior", "schedule", "evidence") if g not in data.groups()]
    if missing:
        raise InputError(f"{path}: no result of diffsmc: group {missing[0]!r} is missing")
    return data


def to_record(data: Any) -> Record:
    """Give what diagnosis looks at, from a result that was read."""

    def tensor(group: str, name: str) -> Tensor:
        return torch.as_tensor(np.asarray(data[group][name]))

    return Record(
        log_weights=tensor("weighted_posterior", "log_weight"),
        log_normalizers=tensor("evidence", "log_normalizer"),
        conditional_ess=tensor("schedule", "conditional_ess"),
        families=tensor("schedule", "families")[-1],
        acceptance=tensor("schedule", "acceptance")[-1],
        unbiased=bool(data.attrs["unbiased"]),
    )
