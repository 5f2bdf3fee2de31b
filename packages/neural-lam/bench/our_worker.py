"""Ours, on the peer's graph and weights."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from conversation import serve
from measure import cpu_seconds, peak_mebibytes
from problem import Problem
from torch import Tensor

from neural_lam.data.upstream import UpstreamData
from neural_lam.graphs.construction import Grid, Rectangular
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.losses import scaled_square_error
from neural_lam.predictors.rollout import rollout
from neural_lam.predictors.step import BoundaryForced, Clamped, Residual, StepPredictor
from neural_lam.upstream.graphs import read_upstream_graph, write_upstream_graph
from neural_lam.upstream.weights import (
    read_upstream_checkpoint,
    translate_weights,
    upstream_network,
)

torch.set_num_threads(1)


def _norm(values: list[Tensor]) -> float:
    return float(torch.cat([value.flatten().double() for value in values]).norm())


class State:
    """What the requests work on."""

    def setup(
        self, problem: Any, folder: str, graph: str, clamped: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Read graph and model."""
        self.problem = Problem(**problem)
        positions = torch.from_numpy(self.problem.positions().reshape(-1, 2))
        built = read_upstream_graph(graph, positions)
        checkpoint = read_upstream_checkpoint(Path(folder, "model.ckpt"))
        if "propagate" in options:
            kind = "PropagationNet" if options.pop("propagate") else "InteractionNet"
            names = ("g2m", "m2g", "mesh_up", "mesh_down")
            settings = {f"{name}_gnn_type": kind for name in names}
            checkpoint = checkpoint._replace(settings=settings)
        self._start(upstream_network(checkpoint, built, **options), clamped)
        sets = {"g2m": built.g2m, "m2g": built.m2g, "m2m": built.m2m[0]}
        return {
            "edges": {name: len(edges.senders) for name, edges in sets.items()},
            "distinct": {name: len(edges.features) for name, edges in sets.items()},
        }

    def setup_own(self, problem: Any) -> None:
        """Build a graph and a model of our own."""
        self.problem = Problem(**problem)
        shape = (self.problem.rows, self.problem.columns)
        positions = torch.from_numpy(self.problem.positions().reshape(-1, 2))
        graph = Rectangular().build(Grid(positions, shape))
        num_inputs = 2 * self.problem.states + 3 * self.problem.forcings + 4
        torch.manual_seed(0)
        self._start(
            GraphLAM(
                graph,
                num_inputs,
                self.problem.states,
                hidden_size=self.problem.hidden,
                num_layers=self.problem.layers,
            )
        )

    def _start(self, network: GridNetwork, clamped: bool = False) -> None:
        self.interior = torch.from_numpy(self.problem.interior())
        mean, self.scale = (torch.from_numpy(x) for x in self.problem.change())
        static = torch.from_numpy(self.problem.static())
        self.network = network
        inner: StepPredictor = Residual(network, static, self.interior, mean, self.scale)
        if clamped:
            inner = Clamped(inner, *map(torch.from_numpy, self.problem.bounds()))
        self.predictor = BoundaryForced(inner, self.interior)
        self.batch = [torch.from_numpy(x) for x in self.problem.batch()]
        self.rollout_batch = [torch.from_numpy(x) for x in self.problem.batch(rollout=True)]
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True
        )

    def exact(self, path: str) -> dict[str, float]:
        """Relative differences of forecasts and gradients from the peer's."""
        initial, target, forcing = self.batch
        forecast = rollout(self.predictor, initial, forcing, target)
        loss = (forecast - target)[:, :, self.interior > 0].square().mean()
        loss.backward()
        peer = torch.load(path, weights_only=True)
        ours = {name: p.grad for name, p in self.network.named_parameters()}
        theirs = translate_weights(peer["gradients"])
        missing = [name for name in ours if name not in theirs]
        pairs = [(ours[name], theirs[name]) for name in theirs]
        largest = max(float((a - b).norm() / b.norm()) for a, b in pairs if float(b.norm()) > 0)
        reference = peer["forecast"]
        return {
            "forecast": float((forecast - reference).norm() / reference.norm()),
            "gradients": _norm([a - b for a, b in pairs]) / _norm([b for _, b in pairs]),
            "largest_gradient": largest,
            "missing": len(missing),
        }

    def _gradient(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        initial, target, forcing = self.batch
        forecast = rollout(self.predictor, initial, forcing, target)
        scaled_square_error(forecast, target, self.interior, self.scale).backward()

    def train(self) -> float:
        """CPU seconds of a loss and its gradient."""
        return cpu_seconds(self._gradient)

    def _update(self) -> None:
        self._gradient()
        self.optimizer.step()

    def update(self) -> float:
        """CPU seconds of a training step with the optimiser."""
        return cpu_seconds(self._update)

    def peak(self) -> float:
        """Mebibytes above those before three training steps."""
        return peak_mebibytes(lambda: [self._gradient() for _ in range(3)])

    @torch.no_grad()
    def rollout(self) -> float:
        """CPU seconds of a step of a forecast."""
        initial, target, forcing = self.rollout_batch
        return (
            cpu_seconds(lambda: rollout(self.predictor, initial, forcing, target)) / target.shape[1]
        )

    def build_graph(self, rows: int, columns: int, hierarchical: bool = False) -> float:
        """CPU seconds of building and writing a graph, as the same files."""
        positions = torch.from_numpy(Problem(rows, columns).positions().reshape(-1, 2))
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            graph = Rectangular(hierarchical=hierarchical).build(Grid(positions, (rows, columns)))
            write_upstream_graph(graph, Path(folder, "graph"))
            return time.process_time() - start

    def open_data(self, folder: str) -> None:
        """Open the data set that upstream wrote, by the same configuration."""
        data = UpstreamData(str(Path(folder, "config.yaml")), boundary_width=4)
        self.samples = data.windows(0, 4)

    def sample(self) -> float:
        """CPU seconds of a sample."""
        index = [torch.tensor([i]) for i in range(10, 20)]
        return cpu_seconds(lambda: [self.samples[i] for i in index]) / 10

    def content(self, path: str) -> float:
        """Largest difference of a sample from upstream's."""
        batch, peer = self.samples[torch.tensor([7])], torch.load(path, weights_only=True)
        return max(float((getattr(batch, name)[0] - peer[name]).abs().max()) for name in peer)


if __name__ == "__main__":
    state = State()
    names = "setup setup_own exact train update peak rollout build_graph open_data sample content"
    serve({name: getattr(state, name) for name in names.split()})
