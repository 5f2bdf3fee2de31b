"""The package's own verbs: sample, evidence, diagnose, targets."""

import inspect
import json
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import diffsmc
from diffsmc.methods.automatic import Automatic
from diffsmc.methods.method import Method, Monitor, Report
from diffsmc.methods.resume import RunStore
from diffsmc.results.descriptions import describe
from diffsmc.results.diagnostics import WARNING
from diffsmc.results.diagnostics import diagnose as list_warnings
from diffsmc.results.evaluation import build_report, evidence_of, write_report
from diffsmc.results.inference_data import (
    Snapshots,
    read_result,
    to_inference_data,
    to_record,
    write_result,
)
from diffsmc.results.plots import (
    draw_evidence,
    draw_marginals,
    draw_modes,
    draw_schedule,
    draw_snapshots,
    draw_weights,
    save,
)
from diffsmc.shell.errors import InputError
from diffsmc.shell.randomness import keyed_generator
from diffsmc.smc.path import State, StepInfo
from diffsmc.targets.target import Target

__all__ = ["diagnose", "evidence", "list_targets", "sample"]


def _progress(bar: Any) -> Report:
    """Show the level of the current pass as a bar from 0 to 1."""

    def report(name: str, state: State, info: StepInfo) -> None:
        if name != bar.desc or info.level < bar.n:
            bar.reset()
            bar.set_description_str(name, refresh=False)
        ess = float(info.ess.mean()) / state.log_weights.shape[-1]
        bar.set_postfix_str(f"step {state.num_steps}, ESS {ess:.0%}", refresh=False)
        bar.update(info.level - bar.n)

    return report


def _settings(method: Method, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "method": describe(method),
        "seed": seed,
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
    }


def sample(
    target: Target,
    method: Method | None = None,
    num_islands: int = 8,
    num_particles: int = 1000,
    seed: int = 0,
    output: str = "out/diffsmc/sample.nc",
    resume: bool = True,
    snapshots: int = 0,
) -> None:
    """Sample a target; write InferenceData with posterior, schedule and log-evidence.

    Arguments:
        target: The target.
        method: How to sample it; by default a pilot's diagnostics choose the path.
        num_islands: Independent runs, from which the interval comes.
        num_particles: Particles of each.
        seed: Seed of all draws.
        output: File to write: NetCDF, or zarr if it ends in .zarr.
        resume: Keep the run beside the output while it lasts, and continue one that was
            killed; the result is the same bit for bit.
        snapshots: Particles of each step to keep for a picture of the path, of those steps that
            this process runs.
    """
    if num_islands < 1 or num_particles < 2:
        raise InputError(
            f"num_islands must be at least 1 and num_particles 2, got {num_islands} and "
            f"{num_particles}"
        )
    method = Automatic() if method is None else method
    generator = keyed_generator(seed)
    sizes = [num_islands, num_particles]
    asked = {**_settings(method, seed, 0.0), "target": describe(target), "sizes": sizes}
    store = RunStore(f"{output}.run", json.dumps(asked)) if resume else None
    begin = time.perf_counter()
    form = "{desc:>5} {percentage:3.0f}%|{bar}| {elapsed} {postfix}"
    with torch.no_grad(), tqdm(total=1.0, bar_format=form) as bar:
        seen, show = Snapshots(snapshots), _progress(bar)

        def report(name: str, state: State, info: StepInfo) -> None:
            show(name, state, info)
            if snapshots:
                seen(name, state, info)

        monitor = Monitor(report, store)
        result = method.run(
            target, num_islands, num_particles, generator=generator, monitor=monitor
        )
    settings = _settings(method, seed, time.perf_counter() - begin)
    data = to_inference_data(result, target, settings, generator=generator, snapshots=seen)
    write_result(data, output)
    if store:
        store.discard()
    _print_evidence(output, data)


def _print_evidence(name: str, data: Any) -> None:
    one = evidence_of(data)
    print(
        f"{name}: log Z = {one.log_normalizer:.3f}, 95 % [{one.lower:.3f}, {one.upper:.3f}]"
        f" from {one.islands} islands"
    )
    print(f"  path: {data.attrs['path']} ({data.attrs['reason']})")
    for note in json.loads(data.attrs["notes"]):
        if not note.startswith(WARNING):
            print(f"  {note}")
    for warning in list_warnings(to_record(data)):
        print(f"  warning: {warning}")


def evidence(
    results: dict[str, str], output: str = "out/diffsmc", truth: float | None = None
) -> None:
    """Compare the log-evidence of results; write report.json and pictures.

    Arguments:
        results: NetCDF files by the name that the pictures show.
        output: Folder for report.json, schedule.png, marginals.png, evidence.png, weights.png and,
            where there is something to show, modes.png and path_<name>.png.
        truth: The true log-evidence, where it is known.
    """
    if not results:
        raise InputError("results: expected at least one name: file")
    begin = time.perf_counter()
    runs = {name: read_result(path) for name, path in results.items()}
    report = build_report(runs, truth)
    folder = Path(output)
    save(draw_schedule(runs), folder / "schedule.png")
    save(draw_marginals(runs), folder / "marginals.png")
    islands = {name: to_record(data).log_normalizers for name, data in runs.items()}
    combined = {name: evidence_of(data) for name, data in runs.items()}
    save(draw_evidence(islands, combined, truth), folder / "evidence.png")
    save(draw_weights(runs), folder / "weights.png")
    pictures = 4 + _draw_what_there_is(runs, folder)
    packages = ("diffsmc", "torch", "lightning", "numpy", "arviz")
    report["versions"] = {name: version(name) for name in packages}
    report["versions"]["python"] = platform.python_version()
    report["report_seconds"] = round(time.perf_counter() - begin, 2)
    write_report(report, folder / "report.json")
    for name, data in runs.items():
        _print_evidence(name, data)
    for line in report["disagreements"]:
        print(f"warning: {line}")
    print(f"wrote {folder / 'report.json'} and {pictures} pictures")


def _draw_what_there_is(runs: dict[str, Any], folder: Path) -> int:
    """Draw modes and paths of those results that have them; give the number of pictures."""
    masses = {"mode_mass", "stratum_mass"}
    modal = {name: data for name, data in runs.items() if masses & set(data["evidence"])}
    paths = {name: data for name, data in runs.items() if "snapshots" in data.groups()}
    if modal:
        save(draw_modes(modal), folder / "modes.png")
    for name, data in paths.items():
        save(draw_snapshots(data), folder / f"path_{name.replace(' ', '_')}.png")
    return bool(modal) + len(paths)


def diagnose(results: list[str], strict: bool = False) -> None:
    """Say what is suspicious about results, and what to do about it.

    Arguments:
        results: NetCDF files.
        strict: Fail if anything is suspicious.
    """
    found = 0
    for path in results:
        warnings = list_warnings(to_record(read_result(path)))
        found += len(warnings)
        print(f"{path}: {'nothing suspicious' if not warnings else f'{len(warnings)} warnings'}")
        for warning in warnings:
            print(f"  {warning}")
    if strict and found:
        raise InputError(f"{found} warnings")


def list_targets() -> None:
    """List the targets that come with the package: parameters, and what is known of them."""
    for name in diffsmc.__all__:
        thing = getattr(diffsmc, name)
        if _makes_target(thing):
            print(f"diffsmc.{name}{_signature(thing)}")
            summary = (inspect.getdoc(thing) or "").splitlines()[0]
            print("    " + re.sub(":math:`([^`]*)`", r"\1", summary))
            known = _known(thing)
            if known:
                print(f"    {known}")


def _makes_target(thing: Any) -> bool:
    if not callable(thing):
        return False
    made = thing if inspect.isclass(thing) else inspect.signature(thing).return_annotation
    return inspect.isclass(made) and issubclass(made, Target) and not inspect.isabstract(made)


def _known(thing: Callable[..., Any]) -> str:
    """Say what is known of a target whose parameters all have defaults."""
    if any(p.default is p.empty for p in inspect.signature(thing).parameters.values()):
        return ""
    target = thing()
    facts = [f"dimension {target.dim}"]
    if target.log_normalizer is not None:
        facts.append(f"log Z = {target.log_normalizer:.6g}")
    facts += ["exact samples"] if hasattr(target, "sample") else []
    facts += ["mode masses"] if hasattr(target, "masses") or hasattr(target, "right_mass") else []
    return ", ".join(facts)


def _signature(thing: Callable[..., Any]) -> str:
    shown = [
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in inspect.signature(thing).parameters.values()
    ]
    return f"({', '.join(shown)})"
