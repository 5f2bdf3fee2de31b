"""The package's own verbs: sample, evidence, diagnose, targets."""

import inspect
import json
import platform
import re
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diffsmc
from diffsmc.methods.automatic import Automatic
from diffsmc.methods.importance import IMPORTANCE
from diffsmc.methods.method import Method, Monitor
from diffsmc.methods.progress import progress_bar, report_to
from diffsmc.methods.resume import RunStore
from diffsmc.methods.sampling import as_target, check_seed
from diffsmc.results.descriptions import describe, to_json
from diffsmc.results.diagnostics import WARNING
from diffsmc.results.diagnostics import diagnose as list_warnings
from diffsmc.results.evaluation import build_report, evidence_of, write_report
from diffsmc.results.files import read_result, to_record, write_result
from diffsmc.results.inference_data import to_inference_data
from diffsmc.results.plots import (
    draw_evidence,
    draw_importance,
    draw_marginals,
    draw_modes,
    draw_schedule,
    draw_snapshots,
    draw_weights,
    save,
)
from diffsmc.results.snapshots import Snapshots
from diffsmc.shell.configuration import near_miss
from diffsmc.shell.errors import InputError
from diffsmc.shell.randomness import keyed_generator
from diffsmc.shell.writing import claim
from diffsmc.smc.path import State, StepInfo
from diffsmc.targets.target import Target

__all__ = ["diagnose", "evidence", "list_targets", "sample"]


def _settings(method: Method, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "method": describe(method),
        "seed": seed,
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
    }


def sample(
    target: Target | str,
    dim: int | None = None,
    method: Method | None = None,
    num_islands: int = 8,
    num_particles: int = 1000,
    seed: int = 0,
    scale: float | None = None,
    budget: int | None = None,
    max_evaluations: int | None = None,
    device: str | None = None,
    output: str = "out/diffsmc/sample.nc",
    resume: bool = True,
    snapshots: int = 0,
) -> None:
    """Sample a target; write InferenceData with posterior, schedule and log-evidence.

    Arguments:
        target: The target: a class with its options, or a function of points such as
            mymodule.log_density.
        dim: Dimension, where the target is a function.
        method: How to sample it; by default what the density shows decides.
        num_islands: Independent runs, from which the interval comes.
        num_particles: Particles of each.
        seed: Seed of all draws.
        scale: Standard deviation of a Gaussian wide enough to start from, where the target is a
            function.
        budget: Evaluations that the default method is to get along with.
        max_evaluations: The run fails that needs more.
        device: Where to compute: cpu, cuda, cuda:1, mps, or auto for an accelerator if there is
            one; by default where the target is.
        output: File to write: NetCDF, or zarr if it ends in .zarr.
        resume: Keep the run beside the output while it lasts, and continue one that was
            killed; the result is the same bit for bit.
        snapshots: Particles of each step to keep for a picture of the path, of those steps that
            this process runs.
    """
    if snapshots < 0:
        raise InputError(f"snapshots must be at least 0, got {snapshots}")
    if budget is not None and method is not None:
        raise InputError("budget is of the default method: give it to diffsmc.Automatic")
    given = find_function(target) if isinstance(target, str) else target
    chosen = as_target(given, dim, scale)
    if device is not None:
        chosen = chosen.to(find_device(device))
    method = Automatic(budget=budget) if method is None else method
    generator = keyed_generator(check_seed(seed), device=chosen.start_mean.device)
    claim(output)
    asked = {
        **_settings(method, seed, 0.0),
        "target": describe(chosen),
        "sizes": [num_islands, num_particles],
    }
    store = RunStore(f"{output}.run", to_json(asked)) if resume else None
    begin = time.perf_counter()
    with torch.no_grad(), progress_bar() as bar:
        seen, show = Snapshots(snapshots), report_to(bar)

        def report(name: str, state: State, info: StepInfo) -> None:
            show(name, state, info)
            if snapshots:
                seen(name, state, info)

        result = method.run(
            chosen,
            num_islands,
            num_particles,
            generator=generator,
            monitor=Monitor(report, store),
            max_evaluations=max_evaluations,
        )
    settings = _settings(method, seed, store.seconds if store else time.perf_counter() - begin)
    data = to_inference_data(result, chosen, settings, generator=generator, snapshots=seen)
    write_result(data, output)
    if store:
        store.discard()
    _print_evidence(output, data)


def find_device(name: str) -> torch.device:
    """Give a device by its name.

    Raises:
        InputError: There is no such device here.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device {name!r} can't be used here: {reason}") from None
    return device


def find_function(path: str) -> Callable[[Tensor], Tensor]:
    """Give a function by its path, ``module.function``.

    Raises:
        InputError: There is no such module or function.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise InputError(f"target: expected module.function or a class, got {path!r}")
    try:
        found = import_module(module)
    except ImportError as error:
        raise InputError(f"target: {path}: {error}") from error
    except Exception as error:
        # A module of the user's own: whatever it does wrong is for the user to mend.
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"target: module {module!r} can't be imported: {reason}") from error
    if not hasattr(found, name):
        near = near_miss(name, [n for n in dir(found) if not n.startswith("_")])
        raise InputError(f"target: module {module!r} has no attribute {name!r}{near}")
    function: Callable[[Tensor], Tensor] = getattr(found, name)
    if not callable(function):
        raise InputError(f"target: {path} is a {type(function).__name__}, expected a function")
    return function


def _print_evidence(name: str, data: Any) -> None:
    print(f"{name}: {evidence_of(data)}")
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

    Runs of one target must agree; runs of several are compared by log Bayes factors.

    Arguments:
        results: NetCDF or zarr files by the name that the pictures show.
        output: Folder for report.json, evidence.png, weights.png and, where there is something to
            show, schedule.png, marginals.png, modes.png, path_<name>.png and importance_<name>.png.
        truth: The true log-evidence of the one target, where it is known.
    """
    if not results:
        raise InputError("results: expected at least one name: file")
    begin = time.perf_counter()
    folder = Path(output)
    claim(folder / "report.json", *_pictures_in(folder))
    files = [_file_name(name) for name in results]
    if len(set(files)) < len(files):
        raise InputError(f"results: names differ by marks alone: {', '.join(results)}")
    runs = {name: read_result(path) for name, path in results.items()}
    report = build_report(runs, truth)
    _draw_all(runs, report["targets"], truth, folder)
    packages = ("diffsmc", "torch", "lightning", "numpy", "arviz")
    report["versions"] = {name: version(name) for name in packages}
    report["versions"]["python"] = platform.python_version()
    report["report_seconds"] = round(time.perf_counter() - begin, 2)
    write_report(report, folder / "report.json")
    for name, data in runs.items():
        _print_evidence(name, data)
    for line in report["disagreements"]:
        print(f"warning: {line}")
    for pair, factor in report["bayes_factors"].items():
        low, high = factor["interval_95"]
        print(
            f"log Bayes factor {pair}: {factor['log_bayes_factor']:.3f}, "
            f"95 % [{low:.3f}, {high:.3f}]"
        )


def _pictures_in(folder: Path) -> list[Path]:
    """Pictures of an earlier report that this one might replace."""
    names = ("evidence", "weights", "schedule", "modes", "marginals*", "path_*", "importance_*")
    return [path for name in names for path in sorted(folder.glob(f"{name}.png"))]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _draw_all(
    runs: dict[str, Any], groups: list[list[str]], truth: float | None, folder: Path
) -> None:
    """Draw what there is to show."""
    records = {name: to_record(data) for name, data in runs.items()}
    islands = {name: record.log_normalizers for name, record in records.items()}
    combined = {name: evidence_of(data) for name, data in runs.items()}
    costs = {name: int(data.attrs["num_evaluations"]) for name, data in runs.items()}
    known = [data.attrs.get("true_log_normalizer") for data in runs.values()]
    if truth is None and len(groups) == 1 and known[0] is not None:
        truth = float(known[0])
    save(draw_evidence(islands, combined, truth, costs), folder / "evidence.png")
    save(draw_weights(runs), folder / "weights.png")
    stepwise = {name: d for name, d in runs.items() if d.attrs["path"] != IMPORTANCE}
    if stepwise:
        save(draw_schedule(stepwise), folder / "schedule.png")
    for group in groups:
        part = {name: runs[name] for name in group}
        end = "" if len(groups) == 1 else f"_{_file_name(group[0])}"
        save(draw_marginals(part), folder / f"marginals{end}.png")
    masses = {"mode_mass", "stratum_mass"}
    modal = {name: data for name, data in runs.items() if masses & set(data["evidence"])}
    if modal:
        save(draw_modes(modal), folder / "modes.png")
    for name, data in runs.items():
        if data.attrs["path"] == IMPORTANCE:
            save(draw_importance(data, truth), folder / f"importance_{_file_name(name)}.png")
        elif "snapshots" in data.groups():
            save(draw_snapshots(data), folder / f"path_{_file_name(name)}.png")


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
