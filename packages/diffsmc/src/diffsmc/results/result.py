"""A result: weighted particles, evidence by island, and how the run went."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsmc.results.diagnostics import WARNING, Record, diagnose
from diffsmc.smc.estimators import Evidence, effective_sample_size, evidence
from diffsmc.smc.path import StepInfo
from diffsmc.targets.target import Target

__all__ = ["Result", "merge_islands"]

ASKED = "asked for"


class Result(NamedTuple):
    """Weighted particles, evidence by island, and how the run went.

    ``particles`` ``(R, N, D)`` are in the target's coordinates, ``log_weights`` ``(R, N)``
    unnormalised, ``log_normalizers`` ``(R,)``. ``num_evaluations`` counts log-densities of
    the target, with or without gradient, in all passes. ``path`` and ``reason`` say which path
    ran and why; ``notes`` are findings on the way. Particles come in ``num_strata`` strata, one
    after the other. With a ``chain_length`` above 1 the run was waste-free: particles are states
    of chains, and families say nothing of the variance. ``target`` is what was sampled.
    """

    particles: Tensor
    log_weights: Tensor
    log_normalizers: Tensor
    eves: Tensor
    num_resampled: Tensor
    history: list[StepInfo]
    unbiased: bool
    num_evaluations: int
    path: str
    reason: str = ASKED
    notes: tuple[str, ...] = ()
    strata: Tensor | None = None
    chain_length: int = 1
    target: Target | None = None

    def evidence(self) -> Evidence:
        """Give log Z with its 95 % interval, which is conditional on the modes found."""
        return evidence(self.log_normalizers)

    def record(self) -> Record:
        """Give what diagnosis looks at."""
        history = self.history

        def stack(name: str) -> Tensor:
            return torch.stack([getattr(info, name).cpu() for info in history])

        return Record(
            log_weights=self.log_weights.cpu(),
            log_normalizers=self.log_normalizers.cpu(),
            conditional_ess=stack("conditional_ess"),
            families=history[-1].families.cpu(),
            acceptance=history[-1].acceptance.cpu(),
            unbiased=self.unbiased,
            step_sizes=stack("step_size"),
            renewal=stack("renewal"),
            notes=self.notes,
            path=self.path,
            resampled=bool(stack("resampled").any()),
        )

    def diagnose(self) -> list[str]:
        """List what is suspicious about the run, each with its cure."""
        return diagnose(self.record())

    def to_inference_data(self, settings: Mapping[str, Any] | None = None, *, seed: int = 0) -> Any:
        """Give the result as ``arviz.InferenceData``.

        Arguments:
            settings: What the run was asked for, kept as JSON.
            seed: Seed of the final resample.
        """
        from diffsmc.results.inference_data import to_inference_data

        if self.target is None:
            raise ValueError("this result names no target: use to_inference_data(result, target)")
        generator = torch.Generator(self.log_weights.device).manual_seed(seed)
        return to_inference_data(self, self.target, settings or {}, generator=generator)

    def summary(self) -> str:
        """Say in some lines what came out, how, and what is suspicious."""
        islands, num = self.log_weights.shape
        ess = float(effective_sample_size(self.log_weights).mean()) / num
        lines = [
            str(self.evidence()),
            f"  path: {self.path} ({self.reason})",
            f"  {islands * num} weighted particles in {self.particles.shape[-1]} dimensions, ESS "
            f"{ess:.0%}; {self.num_evaluations} evaluations"
            + ("" if self.unbiased else "; adapted in the run: consistent, not unbiased"),
        ]
        lines += [f"  {note}" for note in self.notes if not note.startswith(WARNING)]
        return "\n".join([*lines, *(f"  warning: {line}" for line in self.diagnose())])

    def __repr__(self) -> str:
        return self.summary()

    def __str__(self) -> str:
        return self.summary()


def merge_islands(results: list[Result]) -> Result:
    """Put runs that differ only in their draws together, as islands of one run."""
    first = results[0]
    tensors = {
        name: torch.cat([getattr(one, name) for one in results])
        for name in ("particles", "log_weights", "log_normalizers", "eves", "num_resampled")
    }
    return first._replace(
        particles=tensors["particles"],
        log_weights=tensors["log_weights"],
        log_normalizers=tensors["log_normalizers"],
        eves=tensors["eves"],
        num_resampled=tensors["num_resampled"],
        history=[
            _merge_infos(infos) for infos in zip(*(one.history for one in results), strict=True)
        ],
        unbiased=all(one.unbiased for one in results),
        num_evaluations=sum(one.num_evaluations for one in results),
        notes=tuple(dict.fromkeys(note for one in results for note in one.notes)),
    )


def _merge_infos(infos: tuple[StepInfo, ...]) -> StepInfo:
    first = infos[0]
    by_island = {
        name: torch.cat([getattr(info, name) for info in infos])
        for name in StepInfo._fields
        if name not in {"level", "mass"}
    }
    mass = first.mass._replace(
        mean=torch.cat([info.mass.mean for info in infos]),
        factor=torch.cat([info.mass.factor for info in infos]),
    )
    return StepInfo(level=first.level, mass=mass, **by_island)
