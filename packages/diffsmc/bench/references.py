"""References for log Z of the logistic regressions: SMC of at least 1e8 gradients, and a check.

    python bench/references.py sonar ionosphere

Each target gets

- *smc*: a plan adapted once (levels, masses, step sizes), then frozen islands until their
  gradients are 1e8; each island's Z is unbiased, and so is their mean;
- *importance*: 1e6 draws from a Student distribution fitted to the adapting islands, which
  shares no path, move or resampling with it.

Every batch is kept in ``references.json`` beside this file, so that a stopped run goes on.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsmc import Target, ionosphere, sonar
from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import isotropic
from diffsmc.shell.randomness import keyed_generator
from diffsmc.smc.engine import Settings, freeze, smc, total_log_normalizer
from diffsmc.smc.estimators import (
    effective_sample_size,
    evidence,
    log_mean_exp,
    pareto_shape,
    weighted_moments,
)
from diffsmc.smc.moves import HMC
from diffsmc.smc.path import Plan
from diffsmc.smc.schedules import AdaptiveSchedule

PATH = Path(__file__).with_name("references.json")
TARGETS: dict[str, Callable[[str], Target]] = {"sonar": sonar, "ionosphere": ionosphere}
SETTINGS: dict[str, Any] = {
    "target_ess": 0.9, "num_particles": 2000, "num_moves": 2, "leapfrogs": 10,
    "target_acceptance": 0.8, "islands_per_batch": 4, "gradients": 1e8,
    "importance_draws": 1_000_000, "freedom": 15.0, "inflation": 1.05, "seed": 7, "single": True,
}  # fmt: skip


def data_file(name: str) -> str:
    """Find a data set: in ``DIFFSMC_DATA``, or in ``shared/data`` of a parent folder."""
    given = os.environ.get("DIFFSMC_DATA")
    parents = Path(__file__).resolve().parents
    folders = [Path(given)] if given else [parent / "shared" / "data" for parent in parents]
    for folder in folders:
        if (folder / f"{name}.csv").is_file():
            return str(folder / f"{name}.csv")
    raise FileNotFoundError(f"no {name}.csv in shared/data above {__file__}; set DIFFSMC_DATA")


def settings() -> Settings:
    """Give the settings of the engine."""
    move = HMC(SETTINGS["leapfrogs"], target_acceptance=SETTINGS["target_acceptance"])
    return Settings(move, SETTINGS["num_moves"])


def islands(path: TemperedPath, plan: Plan | None, batch: int) -> tuple[Any, Any]:
    """Run a batch of islands; give the last state and the history."""
    steps = list(
        smc(
            path,
            AdaptiveSchedule(SETTINGS["target_ess"]),
            settings(),
            SETTINGS["islands_per_batch"],
            SETTINGS["num_particles"],
            plan=plan,
            generator=keyed_generator(SETTINGS["seed"], batch),
        )
    )
    return steps[-1][0], [info for _, info in steps]


def read() -> dict[str, Any]:
    """The references so far."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}


def save(name: str, entry: dict[str, Any]) -> None:
    """Put an entry into the file, written whole or not at all."""
    command = "python bench/references.py " + " ".join(TARGETS)
    content = {**read(), "command": command, "settings": SETTINGS, name: entry}
    fresh = PATH.with_suffix(".partial")
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    fresh.replace(PATH)


def run_smc(target: Target, entry: dict[str, Any]) -> Iterator[Tensor]:
    """Add batches to the entry; yield the particles of each, the adapting batch's first."""
    path = TemperedPath(target, isotropic(target.dim, target.scale), single=SETTINGS["single"])
    adapted, history = islands(path, None, 0)
    yield adapted.cloud.particles
    plan = freeze(history)
    each = adapted.log_weights.numel() * (
        1 + len(history) * SETTINGS["num_moves"] * SETTINGS["leapfrogs"]
    )
    values = entry.setdefault("log_normalizers", [])
    while len(values) // SETTINGS["islands_per_batch"] * each < SETTINGS["gradients"]:
        batch = 1 + len(values) // SETTINGS["islands_per_batch"]
        begin = time.process_time()
        state, _ = islands(path, plan, batch)
        values += total_log_normalizer(state).tolist()
        entry["levels"] = len(history)
        entry["gradients"] = batch * each
        entry["seconds"] = entry.get("seconds", 0.0) + time.process_time() - begin
        entry["smc"] = dict(evidence(torch.tensor(values, dtype=torch.float64))._asdict())
        yield state.cloud.particles


def importance(target: Target, particles: Tensor) -> dict[str, float]:
    """Estimate log Z from a Student distribution with the particles' moments."""
    mean, covariance = weighted_moments(
        particles.flatten(0, 1)[None],
        torch.zeros(1, particles[..., 0].numel(), dtype=torch.float64),
    )
    factor = SETTINGS["inflation"] * torch.linalg.cholesky(covariance[0])
    nu, dim = SETTINGS["freedom"], target.dim
    # the fit has the particles' covariance, which is nu / (nu - 2) times the scale matrix
    factor = factor * math.sqrt((nu - 2) / nu)
    constant = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - dim / 2 * math.log(nu * math.pi)
    constant -= float(factor.diagonal().log().sum())
    parts = []
    for block in range(SETTINGS["importance_draws"] // 20_000):
        generator = keyed_generator(SETTINGS["seed"], 10**6, block)
        noise = torch.randn(20_000, dim, generator=generator, dtype=torch.float64)
        shape = torch.full((20_000, 1), nu / 2, dtype=torch.float64)
        unit = noise * (nu / (2 * torch._standard_gamma(shape, generator=generator))).sqrt()
        density = constant - (nu + dim) / 2 * torch.log1p(unit.square().sum(-1) / nu)
        parts.append(target.log_prob(mean[0] + unit @ factor.T) - density)
    ratios = torch.cat(parts)
    log_z = log_mean_exp(ratios)
    return {
        "log_normalizer": float(log_z),
        "standard_error": float((ratios - log_z).exp().std()) / math.sqrt(len(ratios)),
        "ess": float(effective_sample_size(ratios)),
        "pareto_shape": pareto_shape(ratios),
        "draws": len(ratios),
    }


def main() -> None:
    """Make or complete the references that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * arguments.minutes
    for name in arguments.names:
        target, entry = TARGETS[name](data_file(name)), read().get(name, {})
        for particles in run_smc(target, entry):
            if "importance" not in entry:
                entry["importance"] = importance(target, particles.double())
            save(name, entry)
            if time.monotonic() > end:
                break
        smc_part = entry.get("smc", {})
        print(json.dumps({"target": name, "smc": smc_part, "importance": entry["importance"]}))


if __name__ == "__main__":
    main()
