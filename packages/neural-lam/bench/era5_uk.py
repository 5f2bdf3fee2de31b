"""ERA5-UK study: does a network add to a linear guess, and both to the best simple forecasts?

Trains the model of `configs/era5-uk-direct.yaml` with three seeds, with the true boundary and
with the boundary held, and scores it at five lead times over the 125 analysis times of the last
fifth of the month, every point of the interior alike, as the reference scores below. Finished
parts are kept, so that the study goes on where it was stopped; `--only` does one of them.
`--validate` compares networks over the validation days alone, with which one was chosen:

    python bench/era5_uk.py --data era5_uk_2m_temperature_2019-03.nc --work out/era5-uk-study

The result is written beside this script.
"""

import argparse
import json
import resource
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor

from neural_lam.data.module import GriddedData
from neural_lam.networks.convolutional import ConvLAM
from neural_lam.networks.full_resolution import FullResolution
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.predictors.direct import DirectPredictor, damping_factors
from neural_lam.training.direct import DirectForecaster
from neural_lam.verification.reports import environment
from neural_lam.verification.scores import bootstrap_ratio, bootstrap_rmse

LEADS = (1, 3, 6, 12, 24)
# The best simple forecasts, RMSE in K by lead time, computed independently of this package;
# tests/test_era5.py shows that `verify` reproduces them.
BEST = {
    "true": {1: 0.423, 3: 1.149, 6: 1.409, 12: 1.385, 24: 1.277},
    "held": {1: 0.423, 3: 1.171, 6: 1.548, 12: 1.582, 24: 1.684},
}
SETTING: dict[str, Any] = {
    # Of `networks`, the best over the validation days.
    "network": "ConvLAM",
    "hidden_size": 32,
    "num_layers": 3,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "batch_size": 2,
    "num_leads": 4,
    "epochs": 1,
    "day_components": 5,
}


def cpu_seconds() -> float:
    """CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def squares(model: DirectForecaster, loader: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Squares of what the guess leaves, products with the correction and its squares.

    Each is the mean over the interior for each window and lead time, ``(N, 5)``.
    """
    leads = torch.tensor(LEADS) - 1
    inside = model.loss_weights > 0
    rows = []
    predictor = model.predictor
    assert isinstance(predictor, DirectPredictor)
    with torch.no_grad():
        for batch in loader:
            linear, correction = predictor.parts(
                batch.initial, batch.forcing, model.boundary(batch), batch.sample, leads
            )
            left = (batch.target[:, leads] - linear)[:, :, inside, 0].double()
            change = correction[:, :, inside, 0].double()
            products = (left.square(), left * change, change.square())
            rows.append([product.mean(-1) for product in products])
    first, second, third = (torch.cat(part) for part in zip(*rows, strict=True))
    return first, second, third


def networks() -> dict[str, Any]:
    """Candidates, of which the validation days choose one."""
    mesh = partial(GraphLAM, hidden_size=SETTING["hidden_size"], num_layers=SETTING["num_layers"])
    return {
        "GraphLAM": mesh,
        "FullResolution": partial(FullResolution, network=mesh, hidden_size=16, num_blocks=1),
        "ConvLAM": partial(ConvLAM, hidden_size=24, coarse_size=32),
    }


def train(data: str, network: str, seed: int, boundary: str) -> tuple[DirectForecaster, Any, int]:
    """A trained model, its data, and its number of updates."""
    held = boundary == "held"
    torch.manual_seed(seed)
    given = GriddedData(
        data,
        ["2m_temperature"],
        ["toa_radiation", "hour"],
        boundary_width=4,
        day_components=SETTING["day_components"],
        held_boundary=held,
        rollout_steps=24,
        lead_steps=24,
        batch_size=SETTING["batch_size"],
        seed=seed,
    )
    model = DirectForecaster(
        networks()[network],
        learning_rate=SETTING["learning_rate"],
        weight_decay=SETTING["weight_decay"],
        num_leads=SETTING["num_leads"],
        held_boundary=held,
        seed=seed,
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=SETTING["epochs"],
        gradient_clip_val=1.0,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, given)
    model.eval()
    return model, given, trainer.global_step


def validation(model: DirectForecaster, given: Any) -> tuple[Tensor, Tensor]:
    """Damping factors, and the RMSE over that of the guess with factors of the other half."""
    parts = squares(model, given.val_dataloader())
    # Alternate days, as forecasts of neighbouring hours overlap.
    days = torch.arange(len(parts[0])) // 24 % 2
    halves = [[part[days == half].mean(0) for part in parts] for half in range(2)]
    factors = [damping_factors(product, power) for _, product, power in reversed(halves)]
    found = [
        left - 2 * factor * product + factor.square() * power
        for (left, product, power), factor in zip(halves, factors, strict=True)
    ]
    ratio = (sum(found) / sum(left for left, _, _ in halves)).sqrt()
    _, product, power = (part.mean(0) for part in parts)
    return damping_factors(product, power), ratio


def by_lead(values: Any) -> dict[str, float]:
    """Rounded values by lead time in hours."""
    return {str(k): round(float(v), 4) for k, v in zip(LEADS, values, strict=True)}


def study(data: str, *, seed: int, boundary: str) -> dict[str, object]:
    """Train and score once."""
    start = cpu_seconds()
    model, given, updates = train(data, SETTING["network"], seed, boundary)
    factor, validated = validation(model, given)
    trained = cpu_seconds() - start
    left, products, power = squares(model, given.test_dataloader())
    error = (left - 2 * factor * products + factor.square() * power).numpy()
    lower, upper = bootstrap_rmse(error, block=48)
    guess_lower, guess_upper = bootstrap_ratio(error, left.numpy(), block=48)
    rmse, guess = np.sqrt(error.mean(0)), left.mean(0).sqrt().numpy()
    best = BEST[boundary]
    return {
        "boundary": boundary,
        "seed": seed,
        "num_forecasts": len(error),
        "updates": updates,
        "cpu_seconds": round(trained, 1),
        "rmse": by_lead(rmse),
        "lower": by_lead(lower),
        "upper": by_lead(upper),
        "rmse_of_the_linear_guess": by_lead(guess),
        "over_guess": by_lead(rmse / guess),
        "over_guess_lower": by_lead(guess_lower),
        "over_guess_upper": by_lead(guess_upper),
        "over_guess_in_validation": by_lead(validated),
        "damping": by_lead(factor),
        "over_best_simple": by_lead(rmse / np.array([best[lead] for lead in LEADS])),
    }


def largest(parts: list[dict[str, Any]], boundary: str) -> dict[str, float]:
    """Largest ratio to the best simple forecast over the seeds."""
    rows = [part["over_best_simple"] for part in parts if part["boundary"] == boundary]
    return {str(lead): max(row[str(lead)] for row in rows) for lead in LEADS if rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one part, true-0 to held-2, without writing the result")
    parser.add_argument("--validate", action="store_true", help="compare networks, test unseen")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.validate:
        for name, seed in product(networks(), range(chosen.seeds)):
            began = cpu_seconds()
            model, given, _ = train(chosen.data, name, seed, "true")
            line = {"network": name, "seed": seed, **by_lead(validation(model, given)[1])}
            print(json.dumps({**line, "cpu_seconds": round(cpu_seconds() - began)}), flush=True)
        raise SystemExit
    parts: list[dict[str, Any]] = []
    for boundary in BEST:
        for seed in range(chosen.seeds):
            name = f"{boundary}-{seed}"
            if chosen.only not in {None, name}:
                continue
            chosen.work.mkdir(parents=True, exist_ok=True)
            record = chosen.work / f"{name}.json"
            if not record.exists():
                part = study(chosen.data, seed=seed, boundary=boundary)
                record.write_text(json.dumps(part), encoding="utf-8")
            parts.append(json.loads(record.read_text(encoding="utf-8")))
    result = {
        "command": "python bench/era5_uk.py --data FILE --work FOLDER",
        "setting": {**SETTING, "threads": 1, "interval": "95 %, blocks of 48 h"},
        "best_simple_rmse": BEST,
        "largest_ratio_over_seeds": {name: largest(parts, name) for name in BEST},
        "runs": parts,
        "versions": environment(),
    }
    if chosen.only is None:
        Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
