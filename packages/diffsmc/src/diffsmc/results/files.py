"""Files of results: NetCDF, or zarr where the name ends so, whole or not at all.

A zarr result is consolidated: ``arviz.from_zarr`` and ``xarray.open_zarr`` read it.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor

from diffsmc.results.diagnostics import Record
from diffsmc.results.inference_data import load_arviz
from diffsmc.shell.errors import InputError
from diffsmc.shell.writing import whole

__all__ = ["read_result", "to_record", "write_result"]


def write_result(data: Any, path: str | os.PathLike[str]) -> None:
    """Write InferenceData to NetCDF, or to zarr if the name ends so, whole or not at all."""
    with whole(path) as partial:
        if partial.suffix != ".zarr":
            data.to_netcdf(str(partial), engine="h5netcdf")
            return
        xr.Dataset(attrs=data.attrs).to_zarr(partial, mode="w", consolidated=False, zarr_format=2)
        for group in data.groups():
            data[group].to_zarr(partial, group=group, mode="a", consolidated=False, zarr_format=2)
        zarr.consolidate_metadata(str(partial), zarr_format=2)


def _read_zarr(path: Path) -> Any:
    groups = [folder.name for folder in sorted(path.iterdir()) if folder.is_dir()]
    data = {g: xr.open_zarr(path, group=g, consolidated=False).load() for g in groups}
    root = xr.open_zarr(path, consolidated=False)
    return load_arviz().InferenceData(attrs=dict(root.attrs), warn_on_custom_groups=False, **data)


def read_result(path: str | os.PathLike[str]) -> Any:
    """Read a result; the file is closed again.

    Raises:
        InputError: The file is missing, damaged, or holds no result of this package.
    """
    az = load_arviz()
    file = Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such file")
    try:
        data = _read_zarr(file) if file.is_dir() else az.from_netcdf(str(file), engine="h5netcdf")
    except Exception as error:
        # What a damaged file does to its reader isn't known: h5netcdf ends in AttributeError, too.
        raise InputError(f"{path}: not a NetCDF or zarr result ({error})".splitlines()[0]) from None
    missing = [g for g in ("weighted_posterior", "schedule", "evidence") if g not in data.groups()]
    if missing:
        raise InputError(f"{path}: no result of diffsmc: group {missing[0]!r} is missing")
    _check_evidence(path, data)
    lacking = [name for name in ("renewal", "invalid") if name not in data["schedule"]]
    if lacking:
        raise InputError(
            f"{path}: of an earlier version, its schedule lacks {lacking[0]!r}; run anew"
        )
    return data


_TEXTS = ("path", "reason", "notes", "settings")


def _check_evidence(path: str | os.PathLike[str], data: Any) -> None:
    """Refuse a result without its evidence, or without what says how it was found."""
    if "log_normalizer" not in data["evidence"]:
        raise InputError(f"{path}: no result of diffsmc: its evidence lacks 'log_normalizer'")
    for name in (*_TEXTS, "unbiased", "num_evaluations"):
        if name not in data.attrs:
            raise InputError(f"{path}: no result of diffsmc: attribute {name!r} is missing")
    for name in _TEXTS:
        if not isinstance(data.attrs[name], str):
            kind = type(data.attrs[name]).__name__
            raise InputError(f"{path}: attribute {name!r}: expected text, got {kind}")
    for name in ("notes", "settings"):
        try:
            json.loads(data.attrs[name])
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: attribute {name!r}: expected JSON ({error})") from None
    if np.isnan(np.asarray(data["evidence"]["log_normalizer"])).any():
        raise InputError(f"{path}: its log_normalizer holds values that are no numbers")


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
        path=str(data.attrs["path"]),
        resampled=bool(np.asarray(data["schedule"]["resampled"]).any()),
    )
