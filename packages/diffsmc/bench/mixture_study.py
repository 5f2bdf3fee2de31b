"""Settings of the reference mixture for each case, and what they reach on seeds of their own.

    python bench/mixture_study.py tune      candidates on seeds 50 to 59 -> settings/mixture.json
    python bench/mixture_study.py measure   the best on seeds 1000 to 1019 -> mixture_study.json
    python bench/mixture_study.py diffuse   the diffusion of the same mixtures, likewise

All take ``--cases``, and continue from the file where they stopped. A run has one island
and adapts in its only pass, as the peers do. Evaluations are log-densities of the target with or
without gradient; pilots, refits and judgements are counted. The best candidate is that of least
RMSE whose median of evaluations is within the budget.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from cases import CASES, mode_mass_error

from diffsmc.methods.method import Method
from diffsmc.methods.mixture_diffusion import MixtureDiffusion
from diffsmc.methods.mixture_fit import MixtureFit
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.shell.randomness import keyed_generator

HERE = Path(__file__).parent
SETTINGS, RESULTS = HERE / "settings" / "mixture.json", HERE / "mixture_study.json"
TUNING, FRESH = range(50, 60), range(1000, 1020)
DIFFUSED = 400  # particles, 16 steps of 16 draws: about the evaluations of the bridges
Candidate = dict[str, Any]


def candidate(
    num_particles: int,
    chains: int = 400,
    moves: int = 40,
    inflation: float = 1.15,
    **method: Any,
) -> Candidate:
    """A method in plain values."""
    reference = {
        "num_chains": chains, "search_moves": moves, "revisit_moves": 16, "inflation": inflation
    }  # fmt: skip
    return {"num_particles": num_particles, "reference": reference, "method": method}


def one_mode(num: int, chains: int, moves: int, revisits: int, inflation: float) -> Candidate:
    """Importance sampling of ten draws a particle from one Gaussian, unless that is hopeless."""
    found = candidate(
        num, chains, moves, inflation, refits=0, importance_ess=0.005, importance_shape=1.0
    )
    found["reference"]["revisit_moves"] = revisits
    return found


REGRESSIONS = [
    one_mode(19_000, 100, 40, 20, 1.1),
    one_mode(17_000, 100, 40, 40, 1.1),
    one_mode(17_000, 100, 40, 40, 1.0),
    one_mode(15_000, 100, 40, 60, 1.1),
    one_mode(12_500, 100, 40, 80, 1.1),
]
CANDIDATES: dict[str, list[Candidate]] = {
    "funnel10": [
        candidate(3000),
        candidate(3600, target_ess=0.8),
        candidate(2000, refits=2),
        candidate(4000, num_moves=1),
        candidate(2500, refits=2, importance_ess=0.2),
    ],
    "gmm40_2d": [
        candidate(2000),
        candidate(3500, target_ess=0.8),
        candidate(4000, 560, 32, num_moves=1, refit_share=0.2),
        candidate(3500, importance_ess=0.4),
        candidate(5000, num_moves=1, refit_share=0.2),
    ],
    "manywell32": [
        candidate(1600, 200),
        candidate(1800, 200, target_ess=0.8, refit_share=0.6),
        candidate(2000, 200, target_ess=0.85),
        candidate(2500, 200, target_ess=0.8),
        candidate(1450, 256, inflation=1.6),
        candidate(1350, 256, inflation=1.6, refit_share=0.5),
    ],
    "sonar": REGRESSIONS,
    "ionosphere": REGRESSIONS,
    "unequal_two_d2": [
        candidate(3000),
        candidate(4000, 256),
        candidate(2000, 400, refits=2),
    ],
    "unequal_student_d10": [
        candidate(1500, 1000, 24),
        candidate(2000, 1000, 24, target_ess=0.8),
        candidate(1500, 1000, 24, importance_ess=0.2),
        candidate(1000, 1000, 24, refits=2),
        candidate(2200, 600, 30, target_ess=0.8),
    ],
}


def build(settings: Candidate) -> ReferenceMixture:
    """Make the method of plain settings."""
    return ReferenceMixture(
        MixtureFit(**settings["reference"]), adapt_islands=None, **settings["method"]
    )


def run_once(case: str, settings: Candidate, seed: int, diffuse: bool = False) -> dict[str, Any]:
    """One run: error of log Z, mode-mass error, evaluations, path, whether it warned."""
    target, begin = CASES[case].target(), time.process_time()
    method: Method = build(settings)
    if diffuse:
        method = MixtureDiffusion(build(settings), adapt_islands=None)
    num = DIFFUSED if diffuse else settings["num_particles"]
    with torch.no_grad():
        result = method.run(target, 1, num, generator=keyed_generator(seed))
    particles, weights = result.particles[0], result.log_weights[0].softmax(-1)
    modes, error = None, mode_mass_error(target, particles, weights)
    if case == "gmm40_2d":
        near = target.log_joint(particles).argmax(-1)  # type: ignore[operator]
        modes = int((near.bincount(weights, 40) > 0.0025).sum())
    return {
        "seed": seed,
        "error": float(result.log_normalizers[0]) - CASES[case].log_normalizer(),
        "mode_mass_error": None if math.isnan(error) else error,
        "modes": modes,
        "evaluations": result.num_evaluations,
        "path": result.path,
        "warned": any(note.startswith("warning") for note in result.notes),
        "cpu_seconds": round(time.process_time() - begin, 3),
    }


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """RMSE over seeds and the rest of a row."""
    masses = [run["mode_mass_error"] for run in runs if run["mode_mass_error"] is not None]
    modes = [run["modes"] for run in runs if run["modes"] is not None]
    return {
        "log_normalizer_rmse": math.sqrt(statistics.fmean(run["error"] ** 2 for run in runs)),
        "evaluations_median": statistics.median(run["evaluations"] for run in runs),
        "evaluations_max": max(run["evaluations"] for run in runs),
        "mode_mass_error_mean": statistics.fmean(masses) if masses else None,
        "mode_mass_error_max": max(masses) if masses else None,
        "modes_least": min(modes) if modes else None,
        "silent_mass_errors": sum(
            run["mode_mass_error"] > 0.1 and not run["warned"]
            for run in runs
            if run["mode_mass_error"] is not None
        ),
        "warned": sum(run["warned"] for run in runs),
        "paths": sorted({run["path"] for run in runs}),
        "seeds": len(runs),
    }


def read(path: Path) -> dict[str, Any]:
    """The file's content, or nothing."""
    return json.loads(path.read_text()) if path.is_file() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def tune(case: str) -> None:
    """Run the candidates that the file lacks; keep the best."""
    content = read(SETTINGS)
    entry = content.setdefault(case, {"tried": []})
    done = [one["settings"] for one in entry["tried"]]
    for settings in CANDIDATES[case]:
        if settings in done:
            continue
        row = summarize([run_once(case, settings, seed) for seed in TUNING])
        entry["tried"].append({"settings": settings, **row})
        print(json.dumps({"case": case, "settings": settings, **row}), flush=True)
        allowed = [t for t in entry["tried"] if t["evaluations_median"] <= CASES[case].budget]
        best = min(allowed or entry["tried"], key=lambda t: t["log_normalizer_rmse"])
        entry.update(best["settings"], budget=CASES[case].budget, tuning_seeds=[50, 59])
        write(SETTINGS, content)


def measure(case: str, diffuse: bool = False) -> None:
    """Run the best settings, or the diffusion of their mixtures, on fresh seeds."""
    entry = read(SETTINGS)[case]
    settings = {name: entry[name] for name in ("num_particles", "reference", "method")}
    runs = [run_once(case, settings, seed, diffuse) for seed in FRESH]
    what = "diffuse" if diffuse else "measure"
    row = {"command": f"python bench/mixture_study.py {what}", "settings": settings}
    if diffuse:
        row["settings"] = {**settings, "num_particles": DIFFUSED}
    case = f"{case} diffusion" if diffuse else case
    content = read(RESULTS)
    content[case] = {**row, "threads": 1, **summarize(runs), "runs": runs}
    write(RESULTS, content)
    print(json.dumps({"case": case, **summarize(runs)}), flush=True)


def main() -> None:
    """Tune or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tune", "measure", "diffuse"])
    parser.add_argument("--cases", default=",".join(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case in arguments.cases.split(","):
        if arguments.what == "tune":
            tune(case)
        else:
            measure(case, arguments.what == "diffuse")


if __name__ == "__main__":
    main()
