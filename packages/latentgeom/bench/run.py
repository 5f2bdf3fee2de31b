"""Geodesics between pairs: ours against the peers, one thread, interleaved, at matched error.

Prints one JSON object a line.  Our setting for a peer is the cheapest one, of those below,
whose largest error isn't above the peer's, 1e-8 for those that are far better than the
others; both are timed in turns, and the smallest and the median CPU time of each are given.
Peers that solve a pair at a time get the first pairs only, and their time is scaled to all
of them; ``setting`` says how many.  ``--quick`` takes fewer.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import peers  # noqa: E402
import torch  # noqa: E402
from problems import Problem, ellipsoid, mlp, network, sphere  # noqa: E402
from torch import Tensor  # noqa: E402

from latentgeom.immersions.immersion import Chart  # noqa: E402
from latentgeom.metrics.answers import GeodesicBatch  # noqa: E402
from latentgeom.solvers.boundary import geodesics  # noqa: E402

__all__ = ["main"]

SEGMENTS = (8, 12, 16, 24, 32, 48)
TOLERANCES = (1e-4, 1e-9)
FLOOR = 1e-8  # the error asked of us where a peer's is about that, or below


class Setting(NamedTuple):
    """What our solver is called with."""

    num_segments: int
    tolerance: float


class Timing(NamedTuple):
    """CPU seconds."""

    least: float
    median: float


def line(
    case: str, quantity: str, ours: float, peer: float | None, name: str, setting: str
) -> None:
    """One result: lower is better."""
    record = {
        "package": "latentgeom", "case": case, "quantity": quantity, "ours": ours, "peer": peer,
        "peer_name": name, "better": "lower", "seeds": [1], "setting": setting,
    }  # fmt: skip
    finite = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }
    print(json.dumps(finite), flush=True)


def seconds_of(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def errors(problem: Problem, length: Tensor) -> Tensor:
    """Relative errors; infinite where there is no answer."""
    return ((length - problem.exact) / problem.exact).abs().nan_to_num(nan=math.inf)


def ours(problem: Problem, setting: Setting) -> GeodesicBatch:
    """Our solver."""
    return geodesics(Chart(problem.decoder, 2), problem.a, problem.b, **setting._asdict())


def matched(problem: Problem, bound: float) -> tuple[Setting, float] | None:
    """The cheapest setting that meets a bound with every pair converged, and its error."""
    found = []
    for num_segments in SEGMENTS:
        for tolerance in TOLERANCES:
            setting = Setting(num_segments, tolerance)
            batch = ours(problem, setting)
            error = float(errors(problem, batch.length).max())
            if error <= bound and bool(batch.converged.all()):
                cost = min(seconds_of(lambda s=setting: ours(problem, s)) for _ in range(2))
                found.append((cost, setting, error))
        if len(found) >= 2:
            break
    return min(found)[1:] if found else None


def compare(
    problem: Problem,
    name: str,
    solve: Callable[[Problem], Tensor],
    count: int,
    turns: int,
    bound: float | None = None,
) -> None:
    """One peer, on the first ``count`` pairs; ours within its error, or within a bound."""
    total = len(problem.a)
    part = problem._replace(a=problem.a[:count], b=problem.b[:count], exact=problem.exact[:count])
    start = time.process_time()
    error = errors(part, solve(part))
    theirs = [time.process_time() - start]
    answered = error[torch.isfinite(error)]
    worst = float(answered.max()) if answered.numel() else math.inf
    best = matched(problem, bound or max(worst, FLOOR))
    case = f"{problem.name}_{total}_pairs"
    if best is None:
        line(case, "max_relative_error", math.nan, worst, name, "no setting reached the error")
        return
    setting, mine = best
    mines = []
    for turn in range(turns):
        mines += [seconds_of(lambda: ours(problem, setting)) for _ in range(2)]
        theirs += [seconds_of(lambda: solve(part))] if turn < turns - 1 else []
    us, them = (Timing(min(times), statistics.median(times)) for times in (mines, theirs))
    scale = total / count
    note = (
        f"segments {setting.num_segments}, tolerance {setting.tolerance:g}, all converged; peer on"
        f" {count} of {total} pairs, {len(answered)} answered; float64; {turns} turns"
    )
    medians = f"; medians {us.median:.4g} and {scale * them.median:.4g}"
    line(case, "cpu_seconds", us.least, scale * them.least, name, note + medians)
    line(case, "max_relative_error", mine, worst, name, note)


def growth(
    case: str, bound: float, sizes: list[int], work: Callable[[int], Callable[[], object]]
) -> None:
    """Exponent of the CPU time by least squares in logarithms."""
    jobs = [work(size) for size in sizes]
    rounds = [[seconds_of(job) for job in jobs] for _ in range(3)]
    seconds = [min(column) for column in zip(*rounds, strict=True)]
    x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (sizes, seconds))
    x = x - x.mean()
    exponent = float((x * y).sum() / x.square().sum())
    setting = f"sizes {sizes}, CPU seconds {[round(s, 3) for s in seconds]}"
    line(case, "exponent", exponent, bound, "bound", setting)


def pairs_of(count: int) -> Callable[[], object]:
    """Random pairs on the network."""
    generator = torch.Generator().manual_seed(0)
    a, b = 3 * torch.rand(2, count, 2, generator=generator, dtype=torch.float64) - 1.5
    chart = Chart(network([2, 64, 64, 50]), 2)
    return lambda: geodesics(chart, a, b, num_segments=16, tolerance=1e-6)


def nodes_of(num_segments: int) -> Callable[[], object]:
    """Curves with many segments on the network."""
    generator = torch.Generator().manual_seed(0)
    a, b = 3 * torch.rand(2, 50, 2, generator=generator, dtype=torch.float64) - 1.5
    chart = Chart(network([2, 64, 64, 50]), 2)
    return lambda: geodesics(chart, a, b, num_segments=num_segments, tolerance=1e-6)


def dimension_of(dim: int) -> Callable[[], object]:
    """A network of many coordinates."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 32, dim, generator=generator, dtype=torch.float64) / math.sqrt(dim)
    chart = Chart(network([dim, 128, 128, 784]), dim)
    return lambda: geodesics(chart, a, b, num_segments=16, tolerance=1e-6)


def memory() -> None:
    """Peak memory of 10 000 pairs."""
    script = Path(__file__).with_name("memory.py")
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    setting = (
        f"2 -> 64 -> 64 -> 784, segments 16, CPU seconds {result['seconds']:.1f}, converged"
        f" {result['converged']:.2%}, the interpreter and torch included"
    )
    line("memory_10000_pairs", "peak_gigabytes", result["gigabytes"], 2.0, "bound", setting)


def adversarial_study() -> None:
    """Pairs made to deceive: how many are silently wrong, and converged."""
    script = Path(__file__).with_name("adversarial.py")
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    verdicts = json.loads(done.stdout)
    pairs, silent, converged = (
        sum(v[key] for v in verdicts) for key in ("pairs", "silent", "converged")
    )
    told = "; ".join(
        f"{v['family']}: {v['silent']} silent, {v['converged']} of {v['pairs']}"
        + f" ({v['within']} of {v['resolved']} that 256 segments resolve)" * bool(v["resolved"])
        for v in verdicts
    )
    line("adversarial", "silent", silent, 0, "bound", f"{pairs} pairs; {told}")
    resolved = [v for v in verdicts if v["family"] in ("ridges", "sines", "helices")]
    share = sum(v["converged"] for v in resolved) / sum(v["pairs"] for v in resolved)
    setting = f"ridges, sines and helices; of all {converged} of {pairs}"
    record = {
        "package": "latentgeom", "case": "adversarial", "quantity": "converged_share",
        "ours": share, "peer": 0.95, "peer_name": "bound", "better": "higher", "seeds": [1000],
        "setting": setting,
    }  # fmt: skip
    print(json.dumps(record), flush=True)


def ratios_to(before: Path, turns: int) -> None:
    """CPU time of smooth solves over that of an earlier checkout, processes in turns."""
    script = str(Path(__file__).with_name("timed.py"))
    here = Path(__file__).parents[1]
    seconds: dict[Path, list[dict[str, dict[str, float]]]] = {before: [], here: []}
    for _ in range(turns):
        for place, found in seconds.items():
            environment = {**os.environ, "PYTHONPATH": str(place / "src")}
            done = subprocess.run(
                [sys.executable, script, "5"], check=True, capture_output=True, text=True,
                env=environment,
            )  # fmt: skip
            found.append(json.loads(done.stdout))
    for case, bound in (("smooth_d2", 1.15), ("smooth_d10", 1.5)):
        ratio = {}
        for segments in ("16", "32"):
            old, new = (min(f[case][segments] for f in seconds[p]) for p in (before, here))
            ratio[segments] = new / old
        setting = f"16 and 32 segments: {ratio['16']:.3f} and {ratio['32']:.3f}; {turns} turns"
        line(case, "cpu_ratio_to_before", max(ratio.values()), bound, "bound", setting)


def six_decoders(quick: bool) -> None:
    """Other networks than the first, and other peers."""
    import compiled_georce
    import decoders

    problems = decoders.decoders(20, first=1) if quick else decoders.decoders()
    for number, problem in enumerate(problems, 1):
        compiled, setting = compiled_georce.cheapest(problem)
        solvers = {
            "stochman-default": (peers.stochman(5, 150, 20), ""),
            "georce": (decoders.by_tensor, ""),
            "georce-jax": (compiled, f"; compiled, {setting}: cheapest of four with a digit"),
            "scipy-lbfgsb": (decoders.by_scipy, ""),
        }
        for name, (solve, note) in solvers.items():
            seconds = 1.0 if quick else decoders.SECONDS
            found = decoders.compare(problem, solve, 1 if quick else 2, seconds)
            if found is not None:
                line(
                    f"decoder_{number}", "cpu_seconds", found.ours, found.theirs, name,
                    found.setting + note,
                )  # fmt: skip


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs for the slow peers")
    parser.add_argument("--decoders", action="store_true", help="the six decoders alone")
    parser.add_argument("--before", type=Path, help="packages/latentgeom of an earlier checkout")
    options = parser.parse_args()
    quick = options.quick
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ours(sphere(4), Setting(8, 1e-4))
    if options.decoders:
        six_decoders(quick)
        return
    for problem in (mlp(100), sphere(100), ellipsoid(100)):
        first = problem.name == "mlp"
        compare(problem, "stochman-default", peers.stochman(5, 150, 20), 100, 3 if quick else 7)
        if first or not quick:
            compare(problem, "stochman-tuned", peers.stochman(10, 1000, 50), 100, 1)
        pairs = 3 if quick else 50 if first else 10
        compare(problem, "latent-geometry", peers.latent_geometry(), pairs, 1, bound=FLOOR)
        if first or not quick:
            compare(problem, "geomstats", peers.geomstats(), 1, 1)
    growth("growth_pairs", 1.05, [100, 400, 1600] + [6400] * (not quick), pairs_of)
    growth("growth_nodes", 1.1, [32, 64, 128, 256] + [512] * (not quick), nodes_of)
    growth("growth_dimension", 2.0, [6, 12, 25, 50], dimension_of)
    memory()
    six_decoders(quick)
    if options.before:
        ratios_to(options.before, 2 if quick else 4)
    if not quick:
        adversarial_study()


if __name__ == "__main__":
    main()
