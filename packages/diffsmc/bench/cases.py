"""The targets of the bench, with log Z, a budget of target evaluations, and errors."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from references import data_file
from torch import Tensor

import diffsmc
from diffsmc import Target

__all__ = ["CASES", "Case", "mode_mass_error"]

HERE = Path(__file__).parent


def _reference(name: str) -> Callable[[], float]:
    def read() -> float:
        entry = json.loads((HERE / "references.json").read_text(encoding="utf-8"))[name]
        # until the SMC has its 1e8 gradients the other estimate has the smaller error
        done = entry.get("gradients", 0.0) >= 1e8
        return float(entry["smc" if done else "importance"]["log_normalizer"])

    return read


def _known(target: Callable[[], Target]) -> Callable[[], float]:
    return lambda: float(target().log_normalizer or 0.0)


@dataclass(frozen=True)
class Case:
    """A target, its log Z and a budget of evaluations, each with or without gradient."""

    target: Callable[[], Target]
    log_normalizer: Callable[[], float]
    budget: float


def _case(target: Callable[[], Target], budget: float) -> Case:
    return Case(target, _known(target), budget)


CASES = {
    "funnel10": _case(lambda: diffsmc.Funnel(10), 4.0e5),
    "gmm40_2d": _case(lambda: diffsmc.gmm40(2), 2.0e5),
    "manywell32": _case(lambda: diffsmc.ManyWell(32), 7.2e5),
    "sonar": Case(lambda: diffsmc.sonar(data_file("sonar")), _reference("sonar"), 2.5e5),
    "ionosphere": Case(
        lambda: diffsmc.ionosphere(data_file("ionosphere")), _reference("ionosphere"), 2.5e5
    ),
    "unequal_two_d2": _case(lambda: diffsmc.two_modes(2, 0.2), 1.5e5),
    "unequal_student_d10": _case(diffsmc.student_mixture, 3.0e5),
}


def mode_mass_error(target: Any, particles: Tensor, weights: Tensor) -> float:
    """Total variation of mode masses; for many wells the mean error of a well's share.

    Arguments:
        target: The target; NaN for one without modes.
        particles: ``(N, D)``.
        weights: Normalised, ``(N,)``.
    """
    if isinstance(target, diffsmc.ManyWell):
        right = weights @ (particles[:, 0::2] > 0).to(weights.dtype)
        return float((right - target.right_mass).abs().mean())
    if not hasattr(target, "masses"):
        return math.nan
    found = weights @ target.log_joint(particles).softmax(-1)
    return float(0.5 * (found - target.masses).abs().sum())
