"""QG study: networks against simple forecasts on several simulated trajectories.

For each trajectory, 400 days of flow are simulated from another seed, and each network is trained
with that seed, forecasts the last fifth every 12 hours out to 48 hours, and is verified: the four
commands of the README. A run that is there isn't repeated, and every finished run is written
beside this script at once:

    python bench/qg_window.py --work FOLDER
    python bench/qg_window.py --work FOLDER --networks conv_raw --trajectories 0 1

``--lines`` prints what is stored beside this script, as the lines of ``results.jsonl``.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import yaml

from neural_lam.verification.reports import environment
from neural_lam.verification.scores import bootstrap_ratio

HERE = Path(__file__).parent
CONFIGS = (HERE.parent / "configs").resolve()
RESULT = Path(__file__).with_suffix(".json")
NETWORKS = {
    "conv_raw": "two-layer-qg-conv-raw.yaml",
    "conv_derived": "two-layer-qg-conv.yaml",
    "graph": "two-layer-qg-long.yaml",
}
DATA = Path("out/neural-lam/two-layer-qg-long.zarr")
# Forecasts in two days, over which errors are correlated.
BLOCK = 4


def command(work: Path, *arguments: object) -> float:
    """Run a verb in the folder, on one thread; its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "neural_lam", *map(str, arguments)],
        cwd=work,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def simulate(work: Path, trajectory: int) -> Path:
    """Folder of a trajectory, with its data."""
    folder = work / f"trajectory-{trajectory}"
    if not (folder / DATA).exists():
        folder.mkdir(parents=True, exist_ok=True)
        flow = ["--name", "two-layer-qg", "--days", 400, "--precision", "single"]
        command(folder, "example-data", *flow, "--seed", trajectory, "--output", DATA)
    return folder


def produce(folder: Path, network: str, trajectory: int) -> dict[str, Any]:
    """Training, forecasts and scores, and what they found."""
    config, out = CONFIGS / NETWORKS[network], Path("out") / network
    given = ["--config", config, "--seed_everything", trajectory, "--trainer.default_root_dir", out]
    seconds = folder / out / "seconds"
    if not seconds.exists():
        seconds.parent.mkdir(parents=True, exist_ok=True)
        seconds.write_text(str(command(folder, "fit", *given, "--overwrite")))
    (checkpoint,) = (folder / out).rglob("last.ckpt")
    forecast = out / "forecast.zarr"
    if not (folder / forecast).exists():
        weights = ["--ckpt_path", checkpoint.resolve()]
        command(folder, "forecast", *given, *weights, "--output", forecast)
    scores = out / "scores"
    if not (folder / scores / "scores.nc").exists():
        command(folder, "verify", "--forecast", forecast, "--output", scores)
    table = xr.load_dataset(folder / scores / "scores.nc", decode_timedelta=True)
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    learned = (w for n, w in content["state_dict"].items() if n.endswith((".weight", ".bias")))
    return {
        "trajectory": trajectory,
        "cpu_seconds_of_fit": round(float(seconds.read_text())),
        "weights": sum(w.numel() for w in learned),
        "num_forecasts": int(table.attrs["num_forecasts"]),
        **compare(table),
    }


def by_lead(hours: list[str], values: Any) -> dict[str, float]:
    """Rounded values by lead time."""
    return {hour: round(float(v), 4) for hour, v in zip(hours, np.asarray(values), strict=True)}


def compare(table: xr.Dataset) -> dict[str, Any]:
    """RMSE by level of all forecasts; the model's in parts of the others' with intervals."""
    hours = [f"{h:g}" for h in table["prediction_timedelta"].values / np.timedelta64(1, "h")]
    found: dict[str, Any] = {"levels": {}, "worst_over_climatology": 0.0}
    for feature in map(str, table["feature"].values):
        one = table.sel(feature=feature)
        square = one["square"]
        level: dict[str, Any] = {
            "rmse": {
                str(n): by_lead(hours, one["rmse"].sel(forecast=n)) for n in one["forecast"].values
            }
        }
        for rival in ("linear_stencil", "principal_components"):
            model, other = (square.sel(forecast=kind).values for kind in ("model", rival))
            lower, upper = bootstrap_ratio(model, other, block=BLOCK)
            ratio = np.sqrt(model.mean(0) / other.mean(0))
            parts = zip(("over", "lower", "upper"), (ratio, lower, upper), strict=True)
            level[rival] = {name: by_lead(hours, values) for name, values in parts}
        # A forecast that runs off has many times the error of the climatology.
        usual = np.sqrt(square.sel(forecast="climatology").values.mean(0))
        worst = float((np.sqrt(square.sel(forecast="model").values) / usual).max())
        found["worst_over_climatology"] = round(max(found["worst_over_climatology"], worst), 3)
        found["levels"][feature.rsplit("_", 1)[1]] = level
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, least and largest ratio over the trajectories, by rival, level and lead time."""
    rivals = ("linear_stencil", "principal_components")
    return {
        rival: {
            level: {
                hour: [
                    round(f(r["levels"][level][rival]["over"][hour] for r in runs), 4)
                    for f in (lambda v: float(np.mean(list(v))), min, max)
                ]
                for hour in runs[0]["levels"][level][rival]["over"]
            }
            for level in runs[0]["levels"]
        }
        for rival in rivals
    } | {"worst_over_climatology": max(r["worst_over_climatology"] for r in runs)}


def record(network: str, run: dict[str, Any]) -> None:
    """Write a run into the result, in the place of one of the same trajectory."""
    content = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    entry = content.setdefault(network, {"runs": []})
    kept = [r for r in entry["runs"] if r["trajectory"] != run["trajectory"]]
    entry["runs"] = sorted([*kept, run], key=lambda r: r["trajectory"])
    entry["command"] = f"python bench/qg_window.py --work FOLDER --networks {network}"
    entry["config"] = yaml.safe_load((CONFIGS / NETWORKS[network]).read_text())
    entry["interval"] = f"95 %, blocks of {BLOCK} forecasts, in pairs"
    entry["mean_least_largest"] = summary(entry["runs"])
    entry["versions"] = environment()
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


def lines() -> None:
    """Print the stored result, a JSON object a network and level."""
    for network, entry in json.loads(RESULT.read_text()).items():
        runs, found = entry["runs"], entry["mean_least_largest"]
        seconds = [run["cpu_seconds_of_fit"] for run in runs]
        for level, ratios in found["linear_stencil"].items():
            mean, least, largest = ratios["24"]
            highest = max(found["principal_components"][level].values(), key=lambda v: v[2])[2]
            setting = (
                f"mean over {len(runs)} simulated trajectories, {least:.3f} to {largest:.3f}; RMSE"
                f" over the 7 x 7 stencil's at 24 h, {runs[0]['num_forecasts']} forecasts each,"
                f" {min(seconds)} to {max(seconds)} CPU seconds of fit with its validation; at most"
                f" {highest:.2f} of the principal components' at any lead time to 48 h; worst"
                f" forecast {found['worst_over_climatology']:.2f} of the climatology's error"
            )
            record = {
                "package": "neural-lam", "case": f"qg_24h_{network}",
                "quantity": f"rmse_ratio_{level}", "ours": mean, "peer": None, "peer_name": "",
                "better": "lower", "seeds": [run["trajectory"] for run in runs],
                "setting": setting,
            }  # fmt: skip
            print(json.dumps(record))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--trajectories", nargs="+", type=int, default=list(range(5)))
    chosen = parser.parse_args()
    if chosen.lines or chosen.work is None:
        lines()
        raise SystemExit
    for number in chosen.trajectories:
        for name in chosen.networks:
            record(name, produce(simulate(chosen.work, number), name, number))
