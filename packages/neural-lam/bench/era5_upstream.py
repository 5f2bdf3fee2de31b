r"""The other project's GraphLAM (neural-lam 0.7.0) on ERA5-UK, by its own classes.

Run it in that project's environment, on a datastore that `era5_datastore.py` describes (the last
fifth of the month is the test, boundary of 4 points). It trains with its optimiser and loss, and
scores rollouts over the same 125 analysis times with uniform weights in the interior, once it has
had both the given updates and the given CPU time of training. ``--tune`` first tries learning
rates, lengths of the training rollout and batch sizes with one seed each, and takes for every seed
the setting with the least error over the validation days, relative to persistence and averaged over
the lead times.

    UPSTREAM/bin/python bench/era5_upstream.py --datastore FOLDER/era5.datastore.yaml --tune \
        --output bench/era5_upstream.json
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from neural_lam.create_graph import create_graph
from neural_lam.datastore.mdp import MDPDatastore
from neural_lam.metrics import wmse
from neural_lam.models.forecasters.autoregressive import ARForecaster
from neural_lam.models.step_predictors.graph.graph_lam import GraphLAM

LEADS = (1, 3, 6, 12, 24)
FIRST_VALIDATION, FIRST_TEST = 446, 595
LEARNING_RATES = (1e-3, 3e-3)
# Windows in a batch and steps of the training rollout: about as much work each.
SHAPES = ((8, 1), (2, 4))


def tensors(store: Any) -> tuple[torch.Tensor, ...]:
    """All states and forcing windows, standardised, and the mean and spread of the states."""
    parts, forcings = [], []
    for split in ("train", "val", "test"):
        parts.append(store.get_dataarray("state", split).values)
        forcings.append(store.get_dataarray("forcing", split).values)
    state = torch.tensor(np.concatenate(parts)[:744])
    forcing = torch.tensor(np.concatenate(forcings)[:744])
    found = store.get_standardization_dataarray("state")
    mean, std = (torch.tensor(found[f"state_{k}"].values) for k in ("mean", "std"))
    force = store.get_standardization_dataarray("forcing")
    forcing = (forcing - torch.tensor(force.forcing_mean.values)) / torch.tensor(
        force.forcing_std.values
    )
    return (
        (state - mean) / std,
        forcing,
        std,
        torch.tensor(found.state_diff_std_standardized.values),
    )


def window(forcing: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """Forcing before, at and after each lead time, feature by feature as that project has it."""
    index = torch.arange(first, first + count)[:, None] + torch.tensor([-1, 0, 1])
    picked = forcing[index.clamp(max=len(forcing) - 1)]
    return picked.permute(0, 2, 3, 1).flatten(2)


def batch(
    state: torch.Tensor, forcing: torch.Tensor, starts: list[int], steps: int
) -> tuple[torch.Tensor, ...]:
    """Initial states, forcing and targets of analysis times."""
    initial = torch.stack([state[s - 1 : s + 1] for s in starts])
    target = torch.stack([state[s + 1 : s + 1 + steps] for s in starts])
    return initial, torch.stack([window(forcing, s + 1, steps) for s in starts]), target


def frame(initial: torch.Tensor, target: torch.Tensor, held: bool) -> torch.Tensor:
    """States whose boundary the forecast follows."""
    return initial[:, -1:].expand_as(target) if held else target


def score(
    forecaster: Any, given: tuple[torch.Tensor, ...], starts: torch.Tensor, held: bool
) -> torch.Tensor:
    """RMSE in K by lead time, of the forecast and of persistence, ``(2, 24)``."""
    state, forcing, std, _ = given
    inside = forecaster.interior_mask[0, :, 0] > 0
    square = torch.zeros(2, 24)
    with torch.no_grad():
        for part in starts.split(25):
            initial, force, target = batch(state, forcing, part.tolist(), 24)
            found, _ = forecaster(initial, force, frame(initial, target, held))
            for row, guess in enumerate((found, initial[:, -1:])):
                error = ((guess - target) * std)[:, :, inside]
                square[row] += error.square().mean((2, 3)).sum(0)
    return (square / len(starts)).sqrt()


def train(
    store: Any, options: argparse.Namespace, seed: int, lr: float, size: int, steps: int
) -> tuple[Any, dict[str, Any]]:
    """Train until both the updates and the CPU time are reached."""
    torch.manual_seed(seed)
    state, forcing, _, spread = options.given
    forecaster = ARForecaster(
        GraphLAM(store, "multiscale", hidden_dim=options.hidden, processor_layers=options.layers),
        store,
    )
    inside = forecaster.interior_mask[0, :, 0] > 0
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=lr, betas=(0.9, 0.95))
    last, order, step, spent = FIRST_VALIDATION - steps - 1, [], 0, 0.0
    while step < options.updates or spent < options.cpu:
        if len(order) < size:
            order = torch.randperm(last).add(1).tolist()
        starts, order = order[:size], order[size:]
        begin = time.process_time()
        initial, force, target = batch(state, forcing, starts, steps)
        found, _ = forecaster(initial, force, frame(initial, target, options.held))
        loss = wmse(found, target, spread, mask=inside).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent += time.process_time() - begin
        step += 1
    return forecaster, {"seed": seed, "updates": step, "cpu_seconds": round(spent, 1)}


def validation_error(forecaster: Any, options: argparse.Namespace) -> float:
    """Error over the validation days in parts of persistence, mean of the lead times."""
    starts = torch.arange(FIRST_VALIDATION, FIRST_TEST - 25, 5)
    found, persistence = score(forecaster, options.given, starts, options.held)
    index = torch.tensor(LEADS) - 1
    return float((found / persistence)[index].mean())


def trial(
    store: Any, options: argparse.Namespace, seed: int, chosen: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Train and score on the validation days."""
    forecaster, record = train(store, options, seed, **chosen)
    record["validation"] = round(validation_error(forecaster, options), 4)
    print(json.dumps({**chosen, **record}), flush=True)
    return forecaster, record


def run(
    store: Any, options: argparse.Namespace, seed: int, chosen: dict[str, Any]
) -> dict[str, Any]:
    """Train and score on the test days."""
    forecaster, record = trial(store, options, seed, chosen)
    starts = torch.arange(FIRST_TEST, FIRST_TEST + 125)
    rmse = score(forecaster, options.given, starts, options.held)[0]
    return {**record, "rmse": {str(lead): round(float(rmse[lead - 1]), 4) for lead in LEADS}}


def tune(store: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each setting with the first seed, the best on the validation days first."""
    trials = []
    for lr, (size, steps) in itertools.product(LEARNING_RATES, SHAPES):
        setting = {"lr": lr, "size": size, "steps": steps}
        trials.append({**setting, **trial(store, options, options.seeds[0], setting)[1]})
    return sorted(trials, key=lambda found: found["validation"])


def main() -> None:
    """Tune, train with every seed, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datastore", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--size", type=int, default=8, help="windows in a batch")
    parser.add_argument("--steps", type=int, default=1, help="of the training rollout")
    parser.add_argument("--updates", type=int, default=198)
    parser.add_argument("--cpu", type=float, default=30, help="seconds of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--held", action="store_true", help="hold the boundary")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = MDPDatastore(options.datastore, n_boundary_points=4)
    graph = options.datastore.parent / "graph" / "multiscale"
    if not graph.exists():
        create_graph(str(graph), store.get_xy("state", stacked=False))
    options.given = tensors(store)
    trials = tune(store, options) if options.tune else []
    best = trials[0] if trials else vars(options)
    chosen = {name: best[name] for name in ("lr", "size", "steps")}
    names = ("hidden", "layers", "updates", "cpu", "held")
    result = {
        "setting": {**{name: getattr(options, name) for name in names}, **chosen, "threads": 1},
        "trials": trials,
        "runs": [run(store, options, seed, chosen) for seed in options.seeds],
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
