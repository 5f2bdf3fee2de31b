"""The main case on an accelerator: a training step of GraphLAM and a forecast.

``python accelerator.py --device cuda`` prints two lines; gradients and forecasts must agree.
"""

import argparse
from collections.abc import Callable

import torch
from on_device import compare
from problem import Problem
from torch import Tensor

from neural_lam.graphs.construction import Grid, Rectangular
from neural_lam.networks.graph_lam import GraphLAM

PROBLEM = Problem(63, 63)


def network(device: torch.device) -> tuple[GraphLAM, Tensor]:
    """The network of the bench with random weights, and inputs of four samples."""
    positions = torch.from_numpy(PROBLEM.positions().reshape(-1, 2))
    graph = Rectangular().build(Grid(positions, (PROBLEM.rows, PROBLEM.columns)))
    num_inputs = 2 * PROBLEM.states + 3 * PROBLEM.forcings + 4
    torch.manual_seed(0)
    built = GraphLAM(
        graph, num_inputs, PROBLEM.states, hidden_size=PROBLEM.hidden, num_layers=PROBLEM.layers
    )
    return built.to(device), torch.randn(len(positions), 4, num_inputs).to(device)


def training(device: torch.device) -> Callable[[], Tensor]:
    """Gradient of the mean square of the outputs."""
    built, inputs = network(device)

    def work() -> Tensor:
        built.zero_grad()
        built(inputs, built.embed()).square().mean().backward()
        gradients = [one.grad for one in built.parameters() if one.grad is not None]
        return torch.cat([one.flatten() for one in gradients])

    return work


def forecast(device: torch.device) -> Callable[[], Tensor]:
    """Outputs without gradients."""
    built, inputs = network(device)

    @torch.no_grad()
    def work() -> Tensor:
        return built(inputs, built.embed())

    return work


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    device = parser.parse_args().device
    setting = "GraphLAM, 63x63, batch 4"
    compare("neural-lam", "training_on_device", training, device, setting, 1e-2)
    compare("neural-lam", "forecast_on_device", forecast, device, setting, 1e-3)


if __name__ == "__main__":
    main()
