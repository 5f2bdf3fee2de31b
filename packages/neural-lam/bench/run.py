"""Ours against upstream's neural-lam 0.7.0: same weights, graph and data; one thread, interleaved.

Prints one JSON object a line. Upstream can't share an environment with ours: it runs in its
own, which this script builds (or takes from ``NEURAL_LAM_UPSTREAM_PYTHON``), and the two take
turns. Seconds are the smallest CPU seconds of the repeats; ``setting`` holds the ratio of the
medians too. ``--quick`` takes two minutes; ``--cases`` names the cases to run.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conversation import Worker
from problem import Problem

__all__ = ["main"]

HERE = Path(__file__).parent
PEER = "neural-lam 0.7.0 (upstream)"
MODELS = {"graphlam": "graph_lam", "hilam": "hi_lam", "hilam_parallel": "hi_lam_parallel"}


def line(
    case: str, quantity: str, ours: float, peer: float | None, setting: str, name: str = PEER
) -> None:
    """One result: smaller is better."""
    record = {
        "package": "neural-lam", "case": case, "quantity": quantity, "ours": ours, "peer": peer,
        "peer_name": name, "better": "lower", "seeds": [0], "setting": setting,
    }  # fmt: skip
    print(json.dumps(record), flush=True)


def upstream_python() -> str:
    """Interpreter of upstream's environment, which is made on first use."""
    given = os.environ.get("NEURAL_LAM_UPSTREAM_PYTHON")
    if given:
        return given
    folder = Path(sys.prefix).parent / "upstream-neural-lam-0.7.0"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # torch first, alone: where only a CPU build can be found, nothing replaces it.
        install = [str(python), "-m", "pip", "install", "--quiet", "--quiet"]
        subprocess.run([*install, "torch==2.13.0"], check=True)
        subprocess.run([*install, "neural-lam==0.7.0"], check=True)
        (folder / "ready").touch()
    return str(python)


@contextmanager
def pair(peer: str, num_ours: int = 1) -> Iterator[list[Worker]]:
    """The peer's program and ours."""
    workers = [Worker(peer, HERE / "upstream_worker.py")]
    workers += [Worker(sys.executable, HERE / "our_worker.py") for _ in range(num_ours)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()


def prepare(
    workers: list[Worker], problem: Problem, model: str, folder: str, options: list[dict[str, Any]]
) -> dict[str, Any]:
    """Build upstream's graph and model, and read them on our side."""
    graph = workers[0].ask("setup", problem=problem.as_dict(), model=model, folder=folder)["graph"]
    answer: dict[str, Any] = {}
    for worker, chosen in zip(workers[1:], options, strict=True):
        answer = worker.ask(
            "setup", problem=problem.as_dict(), folder=folder, graph=graph, **chosen
        )
    return answer


def turns(workers: list[Worker], request: str, repeats: int) -> list[list[float]]:
    """Answers of each, taken in turn after one to warm up."""
    for worker in workers:
        worker.ask(request)
    rounds = [[worker.ask(request) for worker in workers] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def compare(case: str, quantity: str, times: list[list[float]], setting: str) -> None:
    """A line of seconds."""
    theirs, ours = times
    ratio = statistics.median(theirs) / statistics.median(ours)
    detail = f"{setting}; {len(ours)} repeats, ratio of medians {ratio:.2f}"
    line(case, quantity, round(min(ours), 5), round(min(theirs), 5), detail)


def describe(problem: Problem, answer: dict[str, Any]) -> str:
    """Sizes in words."""
    return (
        f"{problem.rows}x{problem.columns}, hidden {problem.hidden}, {problem.layers} layers,"
        f" {problem.states} variables, batch {problem.batch_size}, distinct edge features"
        f" g2m {answer['distinct']['g2m']}/{answer['edges']['g2m']}"
        f" m2g {answer['distinct']['m2g']}/{answer['edges']['m2g']}"
    )


def speed(peer: str, case: str, model: str, size: int, batch: int, repeats: int) -> None:
    """Seconds of training and forecasting, and peak memory."""
    problem = Problem(size, size, batch_size=batch)
    ours: list[dict[str, Any]] = [{}, {"save": "nothing"}] if case == "graphlam_b4" else [{}]
    with tempfile.TemporaryDirectory() as folder, pair(peer, len(ours)) as workers:
        setting = describe(problem, prepare(workers, problem, model, folder, ours))
        # First, while no memory lies about that an earlier step has freed.
        peaks = [round(worker.ask("peak"), 1) for worker in workers]
        memory = "resident memory above that before three training steps"
        line(case, "peak_mebibytes", peaks[1], peaks[0], f"{setting}; {memory}")
        times = turns(workers, "train", repeats)
        compare(case, "train_seconds", times[:2], setting)
        if len(ours) > 1:
            low, detail = f"{case}_low_memory", f"{setting}; save=nothing"
            line(low, "peak_mebibytes", peaks[2], peaks[0], f"{detail}; {memory}")
            compare(low, "train_seconds", [times[0], times[2]], detail)
        compare(case, "rollout_seconds", turns(workers[:2], "rollout", repeats), setting)
        if case == "hilam_b1":
            detail = f"{setting}; with AdamW, fused on our side"
            compare(case, "epoch_seconds", turns(workers, "update", repeats), detail)


def parity(peer: str) -> None:
    """Relative differences of forecasts and gradients, and of our plain path."""
    problem = Problem(60, 50, batch_size=2, steps=2, layers=2)
    for name, model in MODELS.items():
        for propagate in (False, True):
            case = f"parity_{name}" + ("_propagation" if propagate else "")
            one_parity(peer, case, model, problem, propagate)


def further_parity(peer: str) -> None:
    """The same with bounds, and on graphs of weather-model-graphs."""
    problem = Problem(60, 50, batch_size=2, steps=2, layers=2)
    one_parity(peer, "parity_graphlam_clamped", "graph_lam", problem, clamped=True)
    for archetype in ("keisler", "graphcast", "hierarchical"):
        model = "hi_lam" if archetype == "hierarchical" else "graph_lam"
        case = f"parity_weather_model_graphs_{archetype}"
        one_parity(peer, case, model, problem, archetype=archetype)


def one_parity(
    peer: str,
    case: str,
    model: str,
    problem: Problem,
    propagate: bool = False,
    clamped: bool = False,
    archetype: str = "",
) -> None:
    """Two-step forecasts and their gradients: upstream's checkpoint and graph, read by us."""
    setting = f"{problem.rows}x{problem.columns}, batch 2, 2 steps, relative; bar 1e-5"
    with tempfile.TemporaryDirectory() as folder, pair(peer) as workers:
        upstream, ours = workers
        sizes = problem.as_dict()
        same = {"problem": sizes, "folder": folder, "propagate": propagate, "clamped": clamped}
        graph = upstream.ask("setup", model=model, archetype=archetype, **same)["graph"]
        path = str(Path(folder, "exact.pt"))
        upstream.ask("exact", path=path)
        for fused in (True, False):
            ours.ask("setup", graph=graph, fused=fused, **same)
            found = ours.ask("exact", path=path)
            suffix = "" if fused else "_plain"
            for quantity in ("forecast", "gradients", "largest_gradient"):
                line(case + suffix, f"{quantity}_difference", found[quantity], 0.0, setting)


def graphs(peer: str, repeats: int) -> None:
    """Seconds of building a graph with features and files, and how they grow."""
    with pair(peer) as (upstream, ours):
        for hierarchical in (False, True):
            size = {"rows": 268, "columns": 238, "hierarchical": hierarchical}
            theirs = upstream.ask("build_graph", **size)
            mine = min(ours.ask("build_graph", **size) for _ in range(repeats))
            case = "graph_build_268x238" + ("_hierarchical" if hierarchical else "")
            kind = "hierarchical" if hierarchical else "multiscale"
            setting = f"against create_graph, {kind}, features and files written"
            line(case, "seconds", round(mine, 4), round(theirs, 3), setting)
        sides = (250, 500, 1000)
        seconds = [
            min(ours.ask("build_graph", rows=n, columns=n) for _ in range(repeats)) for n in sides
        ]
        setting = f"multiscale, with files; {sides} squared took {[round(s, 3) for s in seconds]}"
        line("graph_build_1000x1000", "seconds", round(seconds[-1], 3), None, setting, "")
        exponent = slope(list(sides), seconds)
        line("graph_build_growth", "exponent", round(exponent, 3), None, setting, "")


def sample(peer: str, repeats: int) -> None:
    """CPU seconds of one training sample, and whether its content is the same."""
    problem, num_times = Problem(60, 50), 240
    with tempfile.TemporaryDirectory() as folder, pair(peer) as (upstream, ours):
        upstream.ask("open_data", problem=problem.as_dict(), folder=folder, num_times=num_times)
        ours.ask("open_data", folder=folder)
        path = str(Path(folder, "sample.pt"))
        upstream.ask("content", path=path)
        setting = f"60x50, {problem.states} variables, 4 steps, {num_times} times, config.yaml"
        line("sample", "content_difference", ours.ask("content", path=path), 0.0, setting)
        compare("sample", "cpu_seconds", turns([upstream, ours], "sample", repeats), setting)


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of a power law, by least squares on logarithms."""
    x, y = [math.log(n * n) for n in sizes], [math.log(v) for v in values]
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def growth(repeats: int, largest: int) -> None:
    """Time and memory of a training step against the number of grid nodes."""
    sizes = [n for n in (50, 71, 100, 141, 200, 283, 400) if n <= largest]
    seconds, memory = [], []
    for size in sizes:
        problem = Problem(size, size).as_dict()
        worker = Worker(sys.executable, HERE / "our_worker.py")
        worker.ask("setup_own", problem=problem)
        # First, while no memory lies about that an earlier step has freed.
        memory.append(worker.ask("peak"))
        seconds.append(min(worker.ask("train") for _ in range(repeats)))
        worker.close()
    setting = f"GraphLAM on our own graph, batch 1, grids {sizes} squared"
    line("growth_grid", "exponent", round(slope(sizes, seconds), 3), None,
         f"{setting}; seconds {[round(s, 4) for s in seconds]}; bar 1.05", "")  # fmt: skip
    line("growth_grid", "memory_exponent", round(slope(sizes, memory), 3), None,
         f"{setting}; mebibytes {[round(m, 1) for m in memory]}; bar 1.05", "")  # fmt: skip


def cases(peer: str, quick: bool) -> dict[str, Callable[[], None]]:
    """Every case by name."""
    repeats = 3 if quick else 7
    found: dict[str, Callable[[], None]] = {
        "parity": lambda: parity(peer),
        "further_parity": lambda: further_parity(peer),
    }
    for name in ("graphlam", "hilam"):
        for batch in (1, 4):
            found[f"{name}_b{batch}"] = lambda name=name, batch=batch: speed(
                peer, f"{name}_b{batch}", MODELS[name], 100, batch, repeats
            )
    for batch in (1, 4):
        found[f"graphlam_101_b{batch}"] = lambda batch=batch: speed(
            peer, f"graphlam_101_b{batch}", "graph_lam", 101, batch, repeats
        )
    found["sample"] = lambda: sample(peer, repeats)
    found["graph_build"] = lambda: graphs(peer, 2)
    found["growth_grid"] = lambda: growth(3, 200 if quick else 400)
    return found


QUICK = ("parity", "graphlam_b1", "sample", "graph_build")


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", nargs="*")
    chosen = parser.parse_args()
    found = cases(upstream_python(), chosen.quick)
    for name in chosen.cases or (QUICK if chosen.quick else found):
        found[name]()


if __name__ == "__main__":
    main()
