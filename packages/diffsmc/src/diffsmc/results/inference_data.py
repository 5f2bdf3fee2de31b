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
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import torch
import xarray as xr
from torch import Tensor

from diffsmc.results.descriptions import identify, to_json
from diffsmc.results.diagnostics import mode_masses
from diffsmc.results.snapshots import Snapshots
from diffsmc.smc.estimators import evidence, lee_whiteley_variance
from diffsmc.smc.path import StepInfo
from diffsmc.smc.resampling import systematic
from diffsmc.targets.posterior import Posterior
from diffsmc.targets.target import Target

__all__ = ["load_arviz", "to_inference_data"]


class Sampled(Protocol):
    """What of a `Result` is written."""

    @property
    def particles(self) -> Tensor: ...
    @property
    def log_weights(self) -> Tensor: ...
    @property
    def log_normalizers(self) -> Tensor: ...
    @property
    def eves(self) -> Tensor: ...
    @property
    def num_resampled(self) -> Tensor: ...
    @property
    def history(self) -> list[StepInfo]: ...
    @property
    def unbiased(self) -> bool: ...
    @property
    def num_evaluations(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def strata(self) -> Tensor | None: ...
    @property
    def chain_length(self) -> int: ...


def load_arviz() -> Any:
    """Import arviz, quietly."""
    with warnings.catch_warnings():
        # its announcement of a later version, which the pin keeps away
        warnings.simplefilter("ignore", FutureWarning)
        return import_module("arviz")


def _array(values: Tensor, *dims: str) -> xr.DataArray:
    return xr.DataArray(values.detach().cpu().numpy(), dims=dims)


def _schedule(result: Sampled) -> xr.Dataset:
    history = result.history
    by_island = {
        name: _array(torch.stack([getattr(info, name) for info in history]), "step", "chain")
        for name in StepInfo._fields
        if name not in {"level", "mass"}
    }
    levels = torch.tensor([info.level for info in history], dtype=torch.float64)
    return xr.Dataset({"level": _array(levels, "step"), **by_island})


def _attributes(result: Sampled, target: Target, settings: Mapping[str, Any]) -> dict[str, Any]:
    from diffsmc import __version__

    combined = evidence(result.log_normalizers)
    known = {} if target.log_normalizer is None else {"log_normalizer": target.log_normalizer}
    return {
        **{f"true_{name}": value for name, value in known.items()},
        **{f"evidence_{name}": value for name, value in combined._asdict().items()},
        "unbiased": int(result.unbiased),
        "path": result.path,
        "reason": result.reason,
        "num_evaluations": result.num_evaluations,
        "notes": json.dumps(result.notes),
        "settings": to_json(settings),
        "target": to_json(identify(target)),
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


def _evidence(result: Sampled, target: Target) -> xr.Dataset:
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
    if result.strata is not None and int(result.strata.max()) > 0:
        weights = result.log_weights.softmax(-1)
        shares = weights.new_zeros(len(weights), int(result.strata.max()) + 1)
        shares = shares.index_add(1, result.strata, weights)
        islands["stratum_mass"] = _array(shares, "chain", "stratum")
    return xr.Dataset(islands)


def to_inference_data(
    result: Sampled,
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

    References:
        Kumar et al. (2019), ArviZ, a unified library for exploratory analysis of Bayesian models,
        JOSS 4.
    """
    az = load_arviz()
    ancestors = systematic(result.log_weights, generator=generator)
    # in the order of strata, draws would look like a chain that never mixed
    noise = torch.rand(ancestors.shape, generator=generator, device=ancestors.device)
    ancestors = ancestors.gather(1, noise.argsort(1))
    particles = result.particles
    equal = particles.gather(1, ancestors[..., None].expand_as(particles))
    coords = {"coordinate": target.names}

    def points(x: Tensor) -> xr.Dataset:
        return xr.Dataset({"x": _array(x, "chain", "draw", "coordinate")}, coords=coords)

    weighted = points(particles).assign(_parameters(target, particles))
    weighted = weighted.assign(log_weight=_array(result.log_weights, "chain", "draw"))
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
        data.add_groups(
            {"snapshots": snapshots.to_dataset(target.names)}, warn_on_custom_groups=False
        )
    data.attrs.update(_attributes(result, target, settings))
    return data
