"""QG study: can a model beat the simple forecasts at every lead time and level?

Runs the four commands of the README with `configs/two-layer-qg-long.yaml` in a folder: 400 days of
simulated flow, the training, forecasts of the last fifth every 12 hours out to 48 hours, and their
scores. Every part goes on where it was stopped. The result is written beside this script:

    python bench/qg_window.py --work out/qg-window
"""

import argparse
import json
import os
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
CONFIG = (HERE.parent / "configs" / "two-layer-qg-long.yaml").resolve()
DATA, RUN = Path("out/neural-lam/two-layer-qg-long.zarr"), Path("out/neural-lam/long")
CHECKPOINT, FORECAST = RUN / "checkpoints" / "last.ckpt", RUN / "forecast.zarr"
# Forecasts in two days, over which errors are correlated.
BLOCK = 4


def command(work: Path, *arguments: object) -> None:
    """Run a verb in the folder, on one thread."""
    subprocess.run(
        [sys.executable, "-m", "neural_lam", *map(str, arguments)],
        cwd=work,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def steps_done(path: Path) -> int:
    """Training steps of a checkpoint."""
    if not path.exists():
        return 0
    content = torch.load(path, map_location="cpu", weights_only=True)
    return int(content["global_step"])


def produce(work: Path) -> None:
    """Data, training, forecasts and scores, as far as they aren't there."""
    work.mkdir(parents=True, exist_ok=True)
    flow = ["--name", "two-layer-qg", "--days", 400, "--precision", "single"]
    command(work, "example-data", *flow, "--output", DATA)
    given = ["--config", CONFIG]
    wanted = yaml.safe_load(CONFIG.read_text())["trainer"]["max_steps"]
    done = steps_done(work / CHECKPOINT)
    if done < wanted:
        resumed = ["--ckpt_path", CHECKPOINT] if done else []
        command(work, "fit", *given, *resumed)
    if not (work / FORECAST).exists():
        command(work, "forecast", *given, "--ckpt_path", CHECKPOINT, "--output", FORECAST)
    if not (work / RUN / "scores.nc").exists():
        command(work, "verify", "--forecast", FORECAST, "--output", RUN)


def by_lead(hours: list[str], values: Any) -> dict[str, float]:
    """Rounded values by lead time."""
    return {hour: round(float(v), 4) for hour, v in zip(hours, np.asarray(values), strict=True)}


def compare(table: xr.Dataset, name: str, hours: list[str]) -> dict[str, Any]:
    """RMSE, and that of the model in parts of it with a paired interval."""
    square = table["square"]
    model, other = (square.sel(forecast=kind).values for kind in ("model", name))
    lower, upper = bootstrap_ratio(model, other, block=BLOCK)
    row = {"rmse": by_lead(hours, table["rmse"].sel(forecast=name))}
    if name == "model":
        ends = (table[f"rmse_{end}"].sel(forecast=name) for end in ("lower", "upper"))
        return row | dict(zip(("lower", "upper"), (by_lead(hours, e) for e in ends), strict=True))
    ratio = np.sqrt(model.mean(0) / other.mean(0))
    found = {"model_over": ratio, "lower": lower, "upper": upper}
    return row | {kind: by_lead(hours, values) for kind, values in found.items()}


def result(work: Path) -> dict[str, Any]:
    """Scores of every forecast by level and lead time."""
    table = xr.load_dataset(work / RUN / "scores.nc", decode_timedelta=True)
    hours = [f"{h:g}" for h in table["prediction_timedelta"].values / np.timedelta64(1, "h")]
    scores = {
        str(feature): {
            str(name): compare(table.sel(feature=feature), str(name), hours)
            for name in table["forecast"].values
        }
        for feature in table["feature"].values
    }
    worst = {
        rival: max(max(scores[f][rival]["model_over"].values()) for f in scores)
        for rival in map(str, table["forecast"].values[1:])
    }
    content = torch.load(work / CHECKPOINT, map_location="cpu", weights_only=True)
    return {
        "command": "python bench/qg_window.py --work FOLDER",
        "setting": {
            "config": yaml.safe_load(CONFIG.read_text()),
            "interval": f"95 %, blocks of {BLOCK} forecasts, in pairs for ratios",
            "weights": sum(w.numel() for n, w in content["state_dict"].items() if _learned(n)),
            "threads": 1,
        },
        "num_forecasts": int(table.attrs["num_forecasts"]),
        "largest_ratio": worst,
        "scores": scores,
        "versions": environment(),
    }


def _learned(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    chosen = parser.parse_args()
    produce(chosen.work)
    content = result(chosen.work)
    Path(__file__).with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
