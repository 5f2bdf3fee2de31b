"""Settings of tempered SMC, ours and the peers', tuned with equal effort.

    python bench/tempered_study.py [--cases funnel10,sonar] [--methods tempered,blackjax,particles]

For each case and method ten settings, each with the number of particles that meets the case's
budget of evaluations, on tuning seeds; the one of least RMSE of log Z is kept. What is done is
in ``tempered_study.json`` beside this file, from which a stopped study goes on.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# compiling takes longer than running here: settings are compared by accuracy, not by time
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)

import torch
from cases import CASES
from peers import Blackjax, Ours, Particles, RandomWalk, Tempered

PATH = Path(__file__).with_name("tempered_study.json")
TUNING = range(100, 104)


def tempered_candidates(spread: float) -> list[Tempered]:
    """Ten settings; ours and blackjax's differ by the spread, which is ours alone."""
    return [
        Tempered(10, 2, 1, 0.9, 0.65, True),
        Tempered(10, 2, 1, 0.9, 0.65, False),
        Tempered(5, 1, 1, 0.9, 0.8, True, spread),
        Tempered(1, 1, 1, 0.8, 0.65, True, spread),
        Tempered(2, 1, 1, 0.9, 0.65, False, spread),
        Tempered(3, 1, 1, 0.8, 0.65, True, spread),
        Tempered(5, 1, 10, 0.9, 0.8, True, spread),
        Tempered(5, 1, 50, 0.9, 0.9, True, spread),
        Tempered(5, 1, 100, 0.97, 0.9, True, spread),
        Tempered(10, 1, 20, 0.9, 0.8, False, spread),
    ]


# Forty Gaussians and sonar had chains of 500 (and 1000) for those of 5 and 20: they were not the
# best there, and took minutes a setting.
WALKS = [RandomWalk(p, ess) for p in (5, 10, 20, 50, 200) for ess in (0.5, 0.9)]
METHODS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "tempered": (Ours, tempered_candidates(2.0)),
    "blackjax": (Blackjax, tempered_candidates(0.0)),
    "particles": (Particles, WALKS),
}


def guess_levels(case: str, method: str, target_ess: float) -> float:
    """Levels that a run will take, from what was tried on the case; most depend on the ESS."""
    tried = read().get(case, {})
    for entries in ([tried.get(method, {})], tried.values()):
        rows = [row for entry in entries for row in entry.get("tried", [])]
        seen = [row["levels"] for row in rows if row["settings"]["target_ess"] == target_ess]
        if seen:
            return statistics.median(seen)
    return 15.0


def fit_particles(method: str, settings: Any, name: str) -> tuple[Any, int]:
    """Choose the number of particles from one run: levels hardly depend on it.

    Each number costs the peer a compilation, which takes as long as several runs.
    """
    case, length = CASES[name], settings.chain_length
    sampler = METHODS[method][0](case.target(), settings)
    each = settings.evaluations(guess_levels(name, method, settings.target_ess), 1)
    num = max(2, round(case.budget / each / length)) * length
    ratio = case.budget / sampler.run(TUNING[0], num).evaluations
    if abs(ratio - 1) > 0.06:
        num = max(2, round(num * ratio / length)) * length
    return sampler, num


def try_settings(method: str, settings: Any, name: str) -> dict[str, Any]:
    """Run one candidate on the tuning seeds."""
    sampler, num = fit_particles(method, settings, name)
    truth = CASES[name].log_normalizer()
    runs = [sampler.run(seed, num) for seed in TUNING]
    return {
        "settings": settings.plain(),
        "num_particles": num,
        "log_normalizer_rmse": math.sqrt(
            statistics.fmean((run.log_normalizer - truth) ** 2 for run in runs)
        ),
        "evaluations": statistics.median(run.evaluations for run in runs),
        "levels": statistics.median(run.levels for run in runs),
    }


def read() -> dict[str, Any]:
    """The study so far."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}


def tried(content: dict[str, Any], case: str, method: str) -> list[dict[str, Any]]:
    """What has been tried."""
    rows: list[dict[str, Any]] = content.setdefault(case, {}).setdefault(method, {"tried": []})[
        "tried"
    ]
    return rows


def record(case: str, method: str, row: dict[str, Any]) -> None:
    """Add a row and keep the best; write whole or not at all."""
    content = read()
    content["command"] = "python bench/tempered_study.py"
    content["tuning_seeds"] = list(TUNING)
    rows = tried(content, case, method)
    rows.append(row)
    content[case][method]["best"] = min(rows, key=lambda one: one["log_normalizer_rmse"])
    partial = PATH.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(PATH)
    print(json.dumps({"case": case, "method": method, **row}), flush=True)


def main() -> None:
    """Try what has not been tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * arguments.minutes
    for name in arguments.cases.split(","):
        for method in arguments.methods.split(","):
            for settings in METHODS[method][1]:
                if time.monotonic() > end:
                    return
                if settings.plain() not in [row["settings"] for row in tried(read(), name, method)]:
                    record(name, method, try_settings(method, settings, name))


if __name__ == "__main__":
    main()
