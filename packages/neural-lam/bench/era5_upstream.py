"""The other project's GraphLAM (neural-lam 0.7.0) on ERA5-UK, by its own classes.

Run it in that project's environment, on a datastore prepared from the same file with its own
mllam-data-prep (the last fifth of the month is the test, boundary of 4 points). It trains with
its optimiser and loss, and scores rollouts over the same 125 analysis times with uniform weights
in the interior, once it has had both the given updates and the given CPU time of training.
"""

import argparse
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
FIRST_TEST = 595


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


def score(
    forecaster: Any, state: torch.Tensor, forcing: torch.Tensor, std: torch.Tensor
) -> dict[str, float]:
    """RMSE in K by lead time."""
    inside = forecaster.interior_mask[0, :, 0] > 0
    square = 0
    with torch.no_grad():
        for starts in torch.arange(FIRST_TEST, FIRST_TEST + 125).split(25):
            initial, force, target = batch(state, forcing, starts.tolist(), 24)
            found, _ = forecaster(initial, force, target)
            square = square + ((found - target) * std)[:, :, inside].square().mean((2, 3)).sum(0)
    rmse = (square / 125).sqrt()
    return {str(lead): round(float(rmse[lead - 1]), 4) for lead in LEADS}


def train(store: Any, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train until both the updates and the CPU time are reached, and score."""
    torch.manual_seed(seed)
    state, forcing, std, spread = tensors(store)
    forecaster = ARForecaster(
        GraphLAM(store, "multiscale", hidden_dim=options.hidden, processor_layers=options.layers),
        store,
    )
    inside = forecaster.interior_mask[0, :, 0] > 0
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=options.lr, betas=(0.9, 0.95))
    last, order, step, spent = 446 - options.ar_steps - 1, [], 0, 0.0
    while step < options.updates or spent < options.cpu:
        if len(order) < options.batch:
            order = torch.randperm(last).add(1).tolist()
        starts, order = order[: options.batch], order[options.batch :]
        begin = time.process_time()
        initial, force, target = batch(state, forcing, starts, options.ar_steps)
        found, _ = forecaster(initial, force, target)
        loss = wmse(found, target, spread, mask=inside).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent += time.process_time() - begin
        step += 1
    return {
        "seed": seed,
        "updates": step,
        "cpu_seconds": round(spent, 1),
        "rmse": score(forecaster, state, forcing, std),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datastore", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ar_steps", type=int, default=1)
    parser.add_argument("--updates", type=int, default=199)
    parser.add_argument("--cpu", type=float, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = MDPDatastore(options.datastore, n_boundary_points=4)
    graph = options.datastore.parent / "graph" / "multiscale"
    if not graph.exists():
        create_graph(str(graph), store.get_xy("state", stacked=False))
    runs = [train(store, options, seed) for seed in options.seeds]
    setting = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    for hidden in ("datastore", "output"):
        del setting[hidden]
    options.output.write_text(json.dumps({"setting": setting, "runs": runs}, indent=1) + "\n")
