r"""Results as InferenceData: what the statistics programs of Python read.

Groups: ``posterior`` (equally weighted: one systematic resample of each island, chains
being islands), ``weighted_posterior`` (the particles with ``log_weight``),
``sample_stats`` (ancestry), ``schedule`` (by step and island: level, ESS, acceptance,
renewal, families, log-normaliser so far), ``evidence`` (log-normaliser by island and its
relative variance from that run alone, NaN if it was waste-free, masses of known modes and of
strata) and, where asked for, ``snapshots`` of particles on the path. Settings, versions, which path
ran and why, and the combined evidence are attributes. Files are NetCDF, or zarr where the name
ends so.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from diffsmc.methods.method import Result
from diffsmc.results.diagnostics import Record, mode_masses
from diffsmc.shell.errors import InputError
from diffsmc.smc.estimators import evidence, lee_whiteley_variance
from diffsmc.smc.path import State, StepInfo
from diffsmc.smc.resampling import systematic
from diffsmc.targets.posterior import Posterior
from diffsmc.targets.target import Target

__all__ = ["Snapshots", "read_result", "to_inference_data", "to_record", "write_result"]


class Snapshots:
    """Keeps some particles of each step of a run's last pass, in the coordinates of its path.

    Arguments:
        num_points: Particles of each step, spread over islands.
    """

    def __init__(self, num_points: int = 500) -> None:
        self.num_points = num_points
        self.levels: list[float] = []
        self.points: list[Tensor] = []

    def __call__(self, name: str, state: State, info: StepInfo) -> None:
        """Take one; a report of `Monitor`."""
        if name != "run":
            return
        x = state.cloud.particles.flatten(0, 1)
        place = torch.linspace(0, len(x) - 1, min(self.num_points, len(x))).long()
        self.levels.append(info.level)
        self.points.append(x[place].clone())

    def to_dataset(self) -> xr.Dataset:
        """Give levels and points, ``(step, point, coordinate)``."""
        levels = torch.tensor(self.levels, dtype=torch.float64)
        points = _array(torch.stack(self.points), "step", "point", "coordinate")
        return xr.Dataset({"level": _array(levels, "step"), "x": points})


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
            "renewal",
            "resampled",
            "families",
            "log_normalizer",
            "step_size",
        )
    }
    levels = torch.tensor([info.level for info in history], dtype=torch.float64)
    return xr.Dataset({"level": _array(levels, "step"), **by_island})


def _attributes(result: Result, settings: Mapping[str, Any]) -> dict[str, Any]:
    from diffsmc import __version__

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


def _evidence(result: Result, target: Target) -> xr.Dataset:
    variance = lee_whiteley_variance(result.log_weights, result.eves, result.num_resampled)
    if result.chain_length > 1:  # its particles aren't independent given their ancestors
        variance = torch.full_like(variance, torch.nan)
    islands = {
        "log_normalizer": _array(result.log_normalizers, "chain"),
        "relative_variance": _array(variance, "chain"),
    }
    modes = mode_masses(target, result.particles, result.log_weights)
    if modes is not None:
        islands["mode_mass"] = _array(modes, "chain", "mode")
        truth = getattr(target, "masses", None)
        truth = (
            torch.full_like(modes[0], getattr(target, "right_mass", 0)) if truth is None else truth
        )
        islands["true_mode_mass"] = _array(truth, "mode")
    if result.num_strata > 1:
        weights = result.log_weights.softmax(-1)
        shares = weights.reshape(len(weights), result.num_strata, -1).sum(-1)
        islands["stratum_mass"] = _array(shares, "chain", "stratum")
    return xr.Dataset(islands)


def to_inference_data(
    result: Result,
    target: Target,
    settings: Mapping[str, Any],
    *,
    generator: torch.Generator,
    snapshots: Snapshots | None = None,
) -> Any:
    """Give a result as ``arviz.InferenceData``.

    Arguments:
        result: What a method returned.
        target: What was sampled; named parameters of a `Posterior` join its coordinates.
        settings: What the run was asked for, kept as JSON.
        generator: Source of the final resample.
        snapshots: Particles seen on the way.
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
    data = az.InferenceData(
        posterior=points(equal).assign(_parameters(target, equal)),
        weighted_posterior=weighted,
        sample_stats=stats,
        schedule=_schedule(result),
        evidence=_evidence(result, target),
        warn_on_custom_groups=False,
    )
    if snapshots is not None and snapshots.levels:
        data.add_groups({"snapshots": snapshots.to_dataset()}, warn_on_custom_groups=False)
    data.attrs.update(_attributes(result, settings))
    return data


def write_result(data: Any, path: str | os.PathLike[str]) -> None:
    """Write InferenceData to NetCDF, or to zarr if the name ends so, whole or not at all."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    if file.suffix != ".zarr":
        data.to_netcdf(str(partial), engine="h5netcdf")
        os.replace(partial, file)
        return
    shutil.rmtree(partial, ignore_errors=True)
    xr.Dataset(attrs=data.attrs).to_zarr(partial, mode="w", consolidated=False, zarr_format=2)
    for group in data.groups():
        data[group].to_zarr(partial, group=group, mode="a", consolidated=False, zarr_format=2)
    shutil.rmtree(file, ignore_errors=True)
    os.replace(partial, file)


def _read_zarr(path: Path) -> Any:
    groups = [folder.name for folder in sorted(path.iterdir()) if folder.is_dir()]
    data = {g: xr.open_zarr(path, group=g, consolidated=False).load() for g in groups}
    root = xr.open_zarr(path, consolidated=False)
    return _arviz().InferenceData(attrs=dict(root.attrs), warn_on_custom_groups=False, **data)


def read_result(path: str | os.PathLike[str]) -> Any:
    """Read a result; the file is closed again.

    Raises:
        InputError: The file is missing, damaged, or holds no result of this package.
    """
    az = _arviz()
    file = Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such file")
    try:
        data = _read_zarr(file) if file.is_dir() else az.from_netcdf(str(file), engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a NetCDF or zarr result ({error})".splitlines()[0]) from None
    missing = [g for g in ("weighted_posterior", "schedule", "evidence") if g not in data.groups()]
    if missing:
        raise InputError(f"{path}: no result of diffsmc: group {missing[0]!r} is missing")
    if "renewal" not in data["schedule"]:
        raise InputError(f"{path}: of an earlier version, its schedule lacks 'renewal'; run anew")
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
        step_sizes=tensor("schedule", "step_size"),
        renewal=tensor("schedule", "renewal"),
        notes=tuple(json.loads(data.attrs["notes"])),
    )
