"""diffsmc against blackjax and particles: one JSON object a line.

    python bench/run.py [--quick] [--seeds 20] [--cases funnel10,sonar] [--only accuracy,speed]
    python bench/run.py --calibrate

- *accuracy*: for every case our three paths and both peers at the case's budget of target
  evaluations. Tempered methods have the settings that ``tempered_study.py`` tuned with equal
  effort, the bridge those of ``mixture_study.py``; the number of particles meets the budget: that
  of the bridge and of the diffusion is found by ``--calibrate`` on seeds of its own. Seeds
  are fresh. ``seconds_per_gradient`` is CPU time, that of particles left out.
- *speed*: the same tempered run by us and by blackjax, turn by turn; sixteen islands against one;
  growth with the number of particles and with the dimension.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import torch  # noqa: E402
from cases import CASES, Case  # noqa: E402
from peers import Blackjax, Ours, Outcome, Particles, RandomWalk, Tempered, tempering  # noqa: E402

import diffsmc  # noqa: E402
from diffsmc.methods.method import Method  # noqa: E402
from diffsmc.methods.mixture_diffusion import MixtureDiffusion  # noqa: E402
from diffsmc.methods.mixture_fit import MixtureFit  # noqa: E402
from diffsmc.methods.reference_mixture import ReferenceMixture  # noqa: E402
from diffsmc.methods.tempering import Tempering  # noqa: E402
from diffsmc.shell.randomness import keyed_generator  # noqa: E402
from diffsmc.smc.adaptation import diagonal_mass  # noqa: E402
from diffsmc.smc.moves import HMC  # noqa: E402

HERE = Path(__file__).parent
SIZES = HERE / "settings" / "particles.json"
TUNING, FRESH = 99, 1000
LEVELS = [0.0, 0.01, 0.1, 0.4, 1.0]


def line(
    case: str, quantity: str, ours: float, peer: float | None, name: str | None, seeds: list[int],
    setting: str,
) -> None:  # fmt: skip
    """Print one comparison."""
    record = {
        "package": "diffsmc", "case": case, "quantity": quantity, "ours": ours, "peer": peer,
        "peer_name": name, "better": "lower", "seeds": seeds, "setting": setting,
    }  # fmt: skip
    print(json.dumps(record), flush=True)


def read(name: str) -> dict[str, Any]:
    """A file of settings."""
    content: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return content


def tuned(case: str, method: str) -> tuple[dict[str, Any], int, str]:
    """Settings of the study, a number of particles scaled to the budget, and how many were tried.

    A case that the study hasn't come to gets the settings as they come.
    """
    entry = read("tempered_study.json").get(case, {}).get(method)
    if entry is None:
        plain = (RandomWalk() if method == "particles" else Tempered()).plain()
        length = plain["chain_length"]
        each = (RandomWalk if method == "particles" else Tempered)(**plain).evaluations(15, 1)
        return plain, max(2, round(CASES[case].budget / each / length)) * length, "untuned"
    best = entry["best"]
    length = best["settings"]["chain_length"]
    num = best["num_particles"] * CASES[case].budget / best["evaluations"]
    tried = f"best of {len(entry['tried'])}"
    return best["settings"], max(2, round(num / length)) * length, tried


def bridge(case: str) -> ReferenceMixture:
    """The bridge with its tuned settings; as it comes where none were tuned."""
    settings = read("settings/mixture.json").get(case)
    if settings is None:
        return ReferenceMixture(adapt_islands=None)
    reference = MixtureFit(**settings["reference"])
    return ReferenceMixture(reference, adapt_islands=None, **settings["method"])


def diffusion(case: str) -> MixtureDiffusion:
    """The diffusion of the same reference."""
    return MixtureDiffusion(bridge(case), num_steps=8, adapt_islands=None)


def calibrate(sampler: Ours, budget: float) -> int:
    """Number of particles whose median evaluations meet the budget: a line through two sizes."""

    def spent(num: int) -> float:
        return statistics.median(sampler.run(TUNING - k, num).evaluations for k in range(3))

    small, large = 400, 1200
    low, high = spent(small), spent(large)
    for _ in range(2):
        num = max(50, round(small + (budget - low) * (large - small) / (high - low)))
        found = spent(num)
        if abs(found / budget - 1) < 0.03:
            break
        small, low, large, high = large, high, num, found
    return num


PATHS: dict[str, Callable[[str], Method]] = {"bridge": bridge, "diffusion": diffusion}


def calibrate_all(cases: list[str]) -> None:
    """Find the numbers of particles of our adaptive paths and keep them."""
    for name in cases:
        found = {}
        for path, make in PATHS.items():
            sampler = Ours(CASES[name].target(), None, make(name))
            found[path] = calibrate(sampler, CASES[name].budget)
        content = {**(read("settings/particles.json") if SIZES.is_file() else {}), name: found}
        partial = SIZES.with_suffix(".part")
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(SIZES)
        print(json.dumps({name: found}), flush=True)


def methods(name: str) -> Iterator[tuple[str, Any, int, str]]:
    """Name, sampler, number of particles and tuning of our paths and of the peers."""
    target = CASES[name].target()
    settings, num, tried = tuned(name, "tempered")
    yield "tempered", Ours(target, Tempered(**settings)), num, tried
    for path, make in PATHS.items():
        num = read("settings/particles.json")[name][path]
        yield path, Ours(target, None, make(name)), num, "mixture_study"
    settings, num, tried = tuned(name, "blackjax")
    yield Blackjax.name, Blackjax(target, Tempered(**settings)), num, tried
    settings, num, tried = tuned(name, "particles")
    yield Particles.name, Particles(target, RandomWalk(**settings)), num, tried


def summarize(case: Case, runs: list[Outcome]) -> dict[str, float]:
    """Figures of a method over its seeds."""
    truth = case.log_normalizer()
    return {
        "log_normalizer_rmse": math.sqrt(
            statistics.fmean((run.log_normalizer - truth) ** 2 for run in runs)
        ),
        "gradients": statistics.median(run.evaluations for run in runs),
        "seconds_per_gradient": statistics.median(run.seconds / run.evaluations for run in runs),
        "mode_mass_error": statistics.median(run.mode_mass_error for run in runs),
    }


def accuracy(name: str, seeds: list[int]) -> None:
    """Run all methods of a case; print every path of ours against every peer."""
    rows, settings = {}, {}
    for method, sampler, num, tried in methods(name):
        rows[method] = summarize(CASES[name], [sampler.run(seed, num) for seed in seeds])
        settings[method] = f"N={num}, {tried}"
    peers = [Blackjax.name, Particles.name]
    for path in ("tempered", "bridge", "diffusion"):
        for peer in peers:
            for quantity, ours in rows[path].items():
                theirs = rows[peer][quantity]
                untimed = quantity == "seconds_per_gradient" and peer == Particles.name
                if math.isnan(ours) or untimed:
                    continue
                setting = f"{path}, {settings[path]}; {peer} {settings[peer]}; budget "
                line(name, quantity, ours, theirs, peer, seeds, f"{setting}{CASES[name].budget:g}")


def per_gradient(outcomes: list[Outcome]) -> float:
    """Least CPU seconds a gradient."""
    return min(run.seconds / run.evaluations for run in outcomes)


def speed(name: str, repeats: int, compiled: bool) -> None:
    """The same tempered run turn by turn: 2000 particles, two moves of ten leapfrog steps."""
    target, shared = CASES[name].target(), Tempered(10, 2, 1, 0.8, 0.65, False)
    theirs = Blackjax(target, shared)
    forms = {"eager": Ours(target, shared)}
    if compiled:
        forms["compiled"] = Ours(target, None, tempering(shared, compiled=True))
    seen: dict[str, list[Outcome]] = {key: [] for key in (*forms, "theirs")}
    for sampler in forms.values():
        sampler.run(0, 2000)
    for seed in range(repeats):
        for key, sampler in forms.items():
            seen[key].append(sampler.run(seed, 2000))
        seen["theirs"].append(theirs.run(seed, 2000))
    peer = per_gradient(seen["theirs"])
    for key in forms:
        setting = f"tempered {key}, N=2000, 2 moves of 10 leapfrogs, diagonal mass, least CPU time"
        ours = per_gradient(seen[key])
        line(name, "seconds_per_gradient", ours, peer, Blackjax.name, list(range(repeats)), setting)
        line(name, f"time_ratio_{key}", ours / peer, None, None, list(range(repeats)), setting)


def seconds(method: Method, target: diffsmc.Target, islands: int, num: int) -> float:
    """CPU seconds of a run."""
    begin = time.process_time()
    with torch.no_grad():
        method.run(target, islands, num, generator=keyed_generator(0))
    return time.process_time() - begin


def islands_ratio() -> None:
    """Time of sixteen islands over that of one, in turn."""
    target = diffsmc.Funnel(10)
    method = Tempering(levels=LEVELS, num_moves=2, adapt_islands=None)
    times = [(seconds(method, target, 1, 100), seconds(method, target, 16, 100)) for _ in range(8)]
    ratio = min(many for _, many in times[1:]) / min(one for one, _ in times[1:])
    line("islands16", "time_ratio", ratio, None, None, [0], "funnel10, 100 particles an island")


def slope(sizes: list[int], times: list[float]) -> float:
    """Slope of the log-log line by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in times]
    return statistics.linear_regression(x, y).slope


def growth() -> None:
    """Time against the number of particles, and against the dimension of a Gaussian."""
    move = HMC(10)
    method = Tempering(
        levels=LEVELS, move=move, num_moves=1, mass=diagonal_mass, adapt_islands=None
    )
    well, sizes = diffsmc.ManyWell(32), [1000, 10_000, 100_000]
    times = [min(seconds(method, well, 1, num) for _ in range(3)) for num in sizes]
    setting = f"manywell32, N = {sizes}, seconds {[round(t, 3) for t in times]}"
    line("growth_particles", "slope", slope(sizes, times), None, None, [0], setting)
    dims = [10, 30, 100, 300, 1000]
    gaussians = [diffsmc.Gaussian([0.0] * dim, scale=2.0) for dim in dims]
    times = [min(seconds(method, one, 1, 4000) for _ in range(3)) for one in gaussians]
    setting = f"Gaussian, N = 4000, d = {dims}, seconds {[round(t, 3) for t in times]}"
    line("growth_dimension", "slope", slope(dims, times), None, None, [0], setting)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, nothing compiled")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--only", default="accuracy,speed")
    parser.add_argument("--calibrate", action="store_true", help="find numbers of particles")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    num_seeds = 1 if arguments.quick else arguments.seeds
    wanted, cases = arguments.only.split(","), arguments.cases.split(",")
    if arguments.calibrate:
        calibrate_all(cases)
        return
    if "speed" in wanted:
        for name in {"sonar", "manywell32"} & set(cases):
            speed(name, 1 if arguments.quick else 3, compiled=not arguments.quick)
        islands_ratio()
        growth()
    if "accuracy" in wanted:
        for name in cases:
            accuracy(name, list(range(FRESH, FRESH + num_seeds)))


if __name__ == "__main__":
    main()
