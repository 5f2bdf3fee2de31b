"""Accuracy and speed of the methods on targets with known log Z: one JSON object a line.

    python bench/run.py [--quick] [--seeds 20] [--cases gmm40_2d,funnel10]

Quantities of each case and method: ``log_normalizer_rmse`` over fresh seeds,
``gradients`` (log-densities of the target, with or without gradient, pilots included),
``seconds_per_gradient`` and, where modes are known, ``mode_mass_error`` (total variation).
blackjax runs beside our tempered method, with its settings, if it is installed.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from diffsmc import targets
from diffsmc.kernels import HMC
from diffsmc.methods import Method, Result, Tempering
from diffsmc.randomness import keyed_generator
from diffsmc.reference_mixture import ReferenceMixture
from diffsmc.targets import Target


class Case(NamedTuple):
    """A target, our methods, and particles of each."""

    target: Callable[[], Target]
    methods: dict[str, tuple[Method, int]]


def tempering(target_ess: float = 0.9, num_moves: int = 2, leapfrogs: int = 10) -> Method:
    """Adaptive tempering in one pass, as the peers do it."""
    move = HMC(leapfrogs)
    return Tempering(target_ess, move=move, num_moves=num_moves, adapt_islands=None)


def mixture() -> Method:
    """Stratified bridge in one pass."""
    return ReferenceMixture(adapt_islands=None)


CASES = {
    "funnel10": Case(lambda: targets.Funnel(10), {"tempered": (tempering(), 2000)}),
    "gmm40_2d": Case(
        lambda: targets.gmm40(2),
        {"tempered": (tempering(), 2000), "mixture": (mixture(), 3500)},
    ),
    "manywell32": Case(
        lambda: targets.ManyWell(32),
        {"tempered": (tempering(), 2000), "mixture": (mixture(), 2000)},
    ),
    "unequal_two_d2": Case(
        lambda: targets.two_modes(2, 0.2),
        {"tempered": (tempering(), 1000), "mixture": (mixture(), 5000)},
    ),
    "unequal_student_d10": Case(
        targets.student_mixture,
        {"tempered": (tempering(), 1000), "mixture": (mixture(), 3600)},
    ),
}


def mode_mass_error(target: Any, result: Result) -> float | None:
    """Total variation between estimated and true mode masses."""
    if not hasattr(target, "masses"):
        return None
    weights = result.log_weights[0].softmax(-1)
    found = weights @ target.log_joint(result.particles[0]).softmax(-1)
    return float(0.5 * (found - target.masses).abs().sum())


def measure(case: Case, seeds: range) -> Iterator[dict[str, Any]]:
    """Run our methods; yield a row for each."""
    target = case.target()
    assert target.log_normalizer is not None
    for name, (method, num_particles) in case.methods.items():
        errors, masses, speeds, counts = [], [], [], []
        for seed in seeds:
            begin = time.perf_counter()
            result = method.run(target, 1, num_particles, generator=keyed_generator(seed))
            speeds.append((time.perf_counter() - begin) / result.num_evaluations)
            errors.append(float(result.log_normalizers[0]) - target.log_normalizer)
            counts.append(result.num_evaluations)
            masses.append(mode_mass_error(target, result))
        yield summarize(f"diffsmc {name}", errors, counts, speeds, masses)
    if find_spec("blackjax") is not None:
        from peers import run_blackjax

        errors, counts, speeds = run_blackjax(target, seeds, case.methods["tempered"][1])
        yield summarize("blackjax 1.7.1 tempered", errors, counts, speeds, [])


def summarize(
    method: str,
    errors: list[float],
    counts: list[int],
    speeds: list[float],
    masses: list[float | None],
) -> dict[str, Any]:
    """Make a row of all seeds."""
    known = [mass for mass in masses if mass is not None]
    return {
        "method": method,
        "log_normalizer_rmse": math.sqrt(statistics.fmean(e**2 for e in errors)),
        "gradients": statistics.median(counts),
        "seconds_per_gradient": statistics.median(speeds),
        "mode_mass_error": statistics.median(known) if known else None,
        "seeds": len(errors),
    }


def islands_ratio() -> dict[str, Any]:
    """Time of sixteen islands over that of one, on the breast cancer posterior."""
    target, method = (
        targets.breast_cancer(),
        Tempering(levels=[0.0, 0.01, 0.1, 0.4, 1.0], num_moves=1, adapt_islands=None),
    )
    seconds = []
    for islands in (1, 16, 1, 16):
        begin = time.perf_counter()
        method.run(target, islands, 100, generator=keyed_generator(0))
        seconds.append(time.perf_counter() - begin)
    return {"case": "islands16", "method": "diffsmc", "time_ratio": seconds[3] / seconds[2]}


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cases", default=",".join(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(1000, 1000 + (3 if arguments.quick else arguments.seeds))
    for name in arguments.cases.split(","):
        for row in measure(CASES[name], seeds):
            print(json.dumps({"case": name, **row}), flush=True)
    print(json.dumps(islands_ratio()), flush=True)


if __name__ == "__main__":
    main()
