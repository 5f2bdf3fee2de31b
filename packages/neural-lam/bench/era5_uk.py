"""ERA5-UK study: direct forecasts of 2 m temperature against the best simple ones.

Trains `configs/era5-uk-direct.yaml` with three seeds, with the true boundary and with the
boundary held, forecasts the 125 analysis times of the last fifth of the month and verifies them
with uniform weights, as the reference scores below. Finished parts are kept, so that the
study goes on where it was stopped; `--only` does one of them:

    python bench/era5_uk.py --data era5_uk_2m_temperature_2019-03.nc --work out/era5-uk-study

The result is written beside this script.
"""

import argparse
import json
import resource
from pathlib import Path

import numpy as np
import xarray as xr

from neural_lam.__main__ import main
from neural_lam.data.domain import frame_interior
from neural_lam.data.fields import FieldStore
from neural_lam.evaluation import environment
from neural_lam.verification import scores, sums

LEADS = (1, 3, 6, 12, 24)
# The best simple forecasts, RMSE in K by lead time, computed independently of this package.
BEST = {
    False: {1: 0.423, 3: 1.149, 6: 1.409, 12: 1.385, 24: 1.277},
    True: {1: 0.423, 3: 1.171, 6: 1.548, 12: 1.582, 24: 1.684},
}


def cpu_seconds() -> float:
    """CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run(arguments: list[str]) -> None:
    """Run a verb; anything but success stops the study."""
    code = main(arguments)
    if code:
        raise SystemExit(f"neural-lam {' '.join(arguments)}: exit code {code}")


def scored(forecast: str, data: str, folder: Path, *, simple: bool) -> xr.Dataset:
    """Scores of the model, and those of the simple forecasts by ``verify``."""
    if simple:
        run(["verify", "--forecast", forecast, "--output", str(folder), "--uniform", "true"])
        with xr.open_dataset(folder / "scores.nc", decode_timedelta=True) as scores_of_all:
            found: xr.Dataset = scores_of_all.isel(feature=0).load()
        return found
    store = FieldStore(data, ["2m_temperature"])
    weights = frame_interior(store.shape, 4).reshape(store.shape).numpy()
    with xr.open_zarr(forecast, consolidated=False, decode_timedelta=True) as given:
        found_at = np.searchsorted(store.times, given["time"].values)
        leads, fields = given["prediction_timedelta"].values, given["2m_temperature"].values
    truth = np.stack(
        [store.states(int(t) + 1, int(t) + 1 + len(leads)).numpy() for t in found_at]
    ).reshape(fields.shape)
    rows = sums(
        fields[:, :, None].astype(float), truth[:, :, None].astype(float), np.zeros(1), weights
    )
    return scores({"model": rows}, ["2m_temperature"], leads, block=48).isel(feature=0)


def study(data: str, folder: Path, *, seed: int, held: bool) -> dict[str, object]:
    """Train, forecast and verify once."""
    settings = ["--config", "era5-uk-direct.yaml", "--seed_everything", str(seed)]
    settings += ["--data.init_args.path", data, "--data.init_args.seed", str(seed)]
    settings += ["--data.init_args.held_boundary", str(held).lower()]
    settings += ["--model.init_args.held_boundary", str(held).lower()]
    settings += ["--model.init_args.seed", str(seed)]
    settings += ["--trainer.default_root_dir", str(folder), "--trainer.enable_progress_bar=false"]
    saved = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": str(folder), "filename": "last", "enable_version_counter": False},
    }
    start = cpu_seconds()
    callbacks = ["--trainer.callbacks", json.dumps([saved])]
    if not (folder / "last.ckpt").exists():
        run(["fit", *settings, *callbacks])
    trained = cpu_seconds() - start
    forecast = str(folder / "forecast.zarr")
    run(["forecast", *settings, "--ckpt_path", str(folder / "last.ckpt"), "--output", forecast])
    table = scored(forecast, data, folder, simple=seed == 0)
    hours = table["prediction_timedelta"].values / np.timedelta64(1, "h")
    chosen = table.isel(prediction_timedelta=[int(np.flatnonzero(hours == h)[0]) for h in LEADS])
    rows = {
        str(name): {
            str(lead): [round(float(chosen[key].sel(forecast=name)[i]), 4) for key in
                        ("rmse", "rmse_lower", "rmse_upper")]
            for i, lead in enumerate(LEADS)
        }
        for name in chosen["forecast"].values
    }  # fmt: skip
    return {
        "seed": seed,
        "held_boundary": held,
        "num_forecasts": int(table.attrs["num_forecasts"]),
        "train_cpu_seconds": round(trained, 1),
        "rmse_lower_upper": rows,
        "over_best_simple": {
            str(lead): round(rows["model"][str(lead)][0] / BEST[held][lead], 4) for lead in LEADS
        },
    }


def summary(parts: list[dict[str, object]]) -> dict[str, object]:
    """Largest ratio to the best simple forecast over the seeds."""
    return {
        "held boundary" if held else "true boundary": {
            str(lead): max(
                part["over_best_simple"][str(lead)]  # type: ignore[index]
                for part in parts
                if part["held_boundary"] is held
            )
            for lead in LEADS
        }
        for held in (False, True)
        if any(part["held_boundary"] is held for part in parts)
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one part, true-0 to held-2, without writing the result")
    chosen = parser.parse_args()
    parts = []
    for held in (False, True):
        for seed in range(chosen.seeds):
            name = f"{'held' if held else 'true'}-{seed}"
            if chosen.only not in {None, name}:
                continue
            folder = chosen.work / name
            folder.mkdir(parents=True, exist_ok=True)
            record = folder / "record.json"
            if not record.exists():
                part = study(chosen.data, folder, seed=seed, held=held)
                record.write_text(json.dumps(part), encoding="utf-8")
            parts.append(json.loads(record.read_text(encoding="utf-8")))
    result = {
        "command": "python bench/era5_uk.py --data FILE --work FOLDER",
        "setting": "configs/era5-uk-direct.yaml, one thread; blocks of 2 days",
        "best_simple_rmse": {"true boundary": BEST[False], "held boundary": BEST[True]},
        "largest_ratio_over_seeds": summary(parts),
        "runs": parts,
        "versions": environment(),
    }
    if chosen.only is None:
        Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
