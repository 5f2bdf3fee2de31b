"""The peer, upstream's neural-lam 0.7.0, in its own environment."""

import logging
import tempfile
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import xarray as xr  # noqa: E402
from cartopy import crs  # noqa: E402
from conversation import serve  # noqa: E402
from dataset import write_dataset  # noqa: E402
from loguru import logger  # noqa: E402
from measure import cpu_seconds, peak_mebibytes  # noqa: E402
from neural_lam.config import DatastoreSelection, NeuralLAMConfig  # noqa: E402
from neural_lam.create_graph import create_graph  # noqa: E402
from neural_lam.create_graph_with_wmg import create_graph_from_datastore  # noqa: E402
from neural_lam.datastore.base import BaseRegularGridDatastore, CartesianGridShape  # noqa: E402
from neural_lam.datastore.mdp import MDPDatastore  # noqa: E402
from neural_lam.models.forecasters.autoregressive import ARForecaster  # noqa: E402
from neural_lam.models.module import ForecasterModule  # noqa: E402
from neural_lam.models.step_predictors.graph.graph_lam import GraphLAM  # noqa: E402
from neural_lam.models.step_predictors.graph.hi_lam import HiLAM  # noqa: E402
from neural_lam.models.step_predictors.graph.hi_lam_parallel import HiLAMParallel  # noqa: E402
from neural_lam.weather_dataset import WeatherDataset  # noqa: E402
from problem import Problem  # noqa: E402

logger.remove()
logging.disable(logging.WARNING)
torch.set_num_threads(1)

MODELS = {"graph_lam": GraphLAM, "hi_lam": HiLAM, "hi_lam_parallel": HiLAMParallel}


class Synthetic(BaseRegularGridDatastore):
    """A problem as upstream reads it."""

    SHORT_NAME = "synthetic"
    is_ensemble = False
    has_ensemble_forcing = False
    is_forecast = False
    config = None
    step_length = timedelta(hours=3)
    coords_projection = crs.LambertConformal()
    root_path = None

    def __init__(self, problem: Problem, root: str) -> None:
        self.problem, self.root_path = problem, Path(root)
        self.sizes = {"state": problem.states, "forcing": problem.forcings, "static": 4}

    def get_vars_names(self, category: str) -> list[str]:
        """Numbered names."""
        return [f"{category}_{i}" for i in range(self.sizes[category])]

    get_vars_long_names = get_vars_names

    def get_vars_units(self, category: str) -> list[str]:
        """None."""
        return ["1"] * self.sizes[category]

    def get_num_data_vars(self, category: str) -> int:
        """Number of variables."""
        return self.sizes[category]

    def get_standardization_dataarray(self, category: str) -> xr.Dataset:
        """Statistics."""
        size, dim = self.sizes[category], f"{category}_feature"
        values = {"mean": np.zeros(size), "std": np.ones(size)}
        if category == "state":
            mean, std = self.problem.change()
            values |= {"diff_mean_standardized": mean, "diff_std_standardized": std}
        return xr.Dataset({f"{category}_{name}": (dim, v) for name, v in values.items()})

    def get_dataarray(
        self, category: str, split: str | None = None, standardize: bool = False
    ) -> xr.DataArray:
        """Static fields; the rest is never asked for."""
        if category != "static":
            raise NotImplementedError(category)
        names = self.get_vars_names("static")
        return xr.DataArray(
            self.problem.static(),
            dims=("grid_index", "static_feature"),
            coords={"static_feature": names},
        )

    @property
    def boundary_mask(self) -> xr.DataArray:
        """1 on the frame."""
        return xr.DataArray(1 - self.problem.interior(), dims="grid_index")

    def get_xy(self, category: str = "state", stacked: bool = True) -> np.ndarray:
        """Coordinates."""
        xy = self.problem.positions()
        return xy.reshape(-1, 2) if stacked else xy

    num_grid_points = property(lambda self: self.problem.rows * self.problem.columns)
    state_feature_weights_values = property(lambda self: [1.0] * self.problem.states)

    @property
    def grid_shape_state(self) -> CartesianGridShape:
        """Sizes."""
        return CartesianGridShape(x=self.problem.rows, y=self.problem.columns)


class State:
    """What the requests work on."""

    def setup(
        self,
        problem: dict[str, Any],
        model: str,
        folder: str,
        propagate: bool = False,
        clamped: bool = False,
        archetype: str = "",
    ) -> dict[str, Any]:
        """Build the graph and the model; write both, and what they make of the data.

        Arguments:
            problem: Sizes.
            model: Which one.
            folder: To write to.
            propagate: Whether there are propagation networks.
            clamped: Whether three variables are kept within bounds.
            archetype: Of weather-model-graphs, which then makes the graph.
        """
        self.problem = Problem(**problem)
        self.store = Synthetic(self.problem, folder)
        graph = "hierarchical" if model != "graph_lam" else "multiscale"
        path = Path(folder, "graph", graph)
        if archetype:
            path = path.with_name(f"weather_model_graphs_{archetype}")
            create_graph_from_datastore(self.store, str(path), archetype)
        elif not path.exists():
            create_graph(str(path), self.problem.positions(), hierarchical=graph == "hierarchical")
        torch.manual_seed(0)
        kind = "PropagationNet" if propagate else "InteractionNet"
        types = ["g2m", "m2g"] if graph == "multiscale" else ["g2m", "m2g", "mesh_up", "mesh_down"]
        self.predictor = MODELS[model](
            datastore=self.store,
            graph_name=path.name,
            hidden_dim=self.problem.hidden,
            hidden_layers=self.problem.hidden_layers,
            processor_layers=self.problem.layers,
            num_past_forcing_steps=1,
            num_future_forcing_steps=1,
            **{f"{name}_gnn_type": kind for name in types},
            **(self._bounds() if clamped else {}),
        )
        self.forecaster = ARForecaster(self.predictor, self.store)
        config = NeuralLAMConfig(datastore=DatastoreSelection(kind="mdp", config_path=""))
        self.module = ForecasterModule(self.forecaster, config, self.store)
        self.batch = [torch.from_numpy(x) for x in self.problem.batch()]
        self.rollout_batch = [torch.from_numpy(x) for x in self.problem.batch(rollout=True)]
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3, betas=(0.9, 0.95))
        torch.save(
            {
                "state_dict": self.module.state_dict(),
                "hyper_parameters": dict(self.module.hparams),
            },
            Path(folder, "model.ckpt"),
        )
        return {"graph": str(path), "weights": sum(p.numel() for p in self.predictor.parameters())}

    def _bounds(self) -> dict[str, dict[str, float]]:
        names, bounds = self.store.get_vars_names("state"), self.problem.bounds()
        return {
            f"output_clamping_{side}": {
                name: float(bound)
                for name, bound in zip(names, values, strict=True)
                if np.isfinite(bound)
            }
            for side, values in zip(("lower", "upper"), bounds, strict=True)
        }

    def exact(self, path: str) -> None:
        """Write forecasts, and gradients of the mean square error of the interior."""
        initial, target, forcing = self.batch
        forecast, _ = self.forecaster(initial, forcing, target)
        mask = self.module.interior_mask_bool
        loss = (forecast - target)[:, :, mask].square().mean()
        loss.backward()
        gradients = {
            name: p.grad for name, p in self.predictor.named_parameters() if p.grad is not None
        }
        torch.save({"forecast": forecast.detach(), "gradients": gradients}, path)

    def _loss(self) -> torch.Tensor:
        initial, target, forcing = self.batch
        times = torch.zeros(target.shape[:2])
        loss = self.module._compute_prediction_and_loss((initial, target, forcing, times))[3]
        return loss.mean()

    def _gradient(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._loss().backward()

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
        return cpu_seconds(lambda: self.forecaster(initial, forcing, target)) / target.shape[1]

    def build_graph(self, rows: int, columns: int, hierarchical: bool = False) -> float:
        """CPU seconds of building and writing a graph."""
        xy = Problem(rows, columns).positions()
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            create_graph(folder, xy, hierarchical=hierarchical)
            return time.process_time() - start

    def open_data(self, problem: dict[str, Any], folder: str, num_times: int) -> None:
        """Write a data set and open it."""
        place = Path(folder)
        write_dataset(Problem(**problem), place, num_times)
        store = MDPDatastore(str(place / "data.datastore.yaml"), n_boundary_points=4)
        self.samples = WeatherDataset(store, split="train", ar_steps=4)

    def sample(self) -> float:
        """CPU seconds of a sample."""
        return cpu_seconds(lambda: [self.samples[i] for i in range(10, 20)]) / 10

    def content(self, path: str) -> None:
        """Write a sample."""
        initial, target, forcing, _ = self.samples[7]
        torch.save({"initial": initial, "target": target, "forcing": forcing}, path)


state = State()
NAMES = "setup exact train update peak rollout build_graph open_data sample content"
serve({name: getattr(state, name) for name in NAMES.split()})
