"""Graph-based weather forecasting on any domain.

Names are imported on first use (PEP 562), so that ``import neural_lam`` and
``neural-lam --help`` never pay for torch. What isn't named here is private: modules and folders
may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_lam.data.domain import Domain as Domain
    from neural_lam.data.module import GriddedData as GriddedData
    from neural_lam.data.upstream import UpstreamData as UpstreamData
    from neural_lam.data.windows import Batch as Batch
    from neural_lam.fields.features import Feature as Feature
    from neural_lam.fields.store import FieldStore as FieldStore
    from neural_lam.graphs.construction import Grid as Grid
    from neural_lam.graphs.construction import Icosahedral as Icosahedral
    from neural_lam.graphs.construction import MeshBuilder as MeshBuilder
    from neural_lam.graphs.construction import Rectangular as Rectangular
    from neural_lam.graphs.construction import Triangular as Triangular
    from neural_lam.graphs.graph import EdgeSet as EdgeSet
    from neural_lam.graphs.graph import Graph as Graph
    from neural_lam.graphs.graph import read_graph as read_graph
    from neural_lam.graphs.graph import write_graph as write_graph
    from neural_lam.graphs.pyg import from_pyg as from_pyg
    from neural_lam.graphs.pyg import to_pyg as to_pyg
    from neural_lam.known_answers.two_layer import TwoLayerFlow as TwoLayerFlow
    from neural_lam.networks.convolutional import ConvLAM as ConvLAM
    from neural_lam.networks.full_resolution import FullResolution as FullResolution
    from neural_lam.networks.graph_lam import GraphLAM as GraphLAM
    from neural_lam.networks.grid_network import GridNetwork as GridNetwork
    from neural_lam.networks.hi_lam import HiLAM as HiLAM
    from neural_lam.networks.hi_lam_parallel import HiLAMParallel as HiLAMParallel
    from neural_lam.networks.layers import MLP as MLP
    from neural_lam.networks.layers import Edges as Edges
    from neural_lam.networks.layers import InteractionNet as InteractionNet
    from neural_lam.networks.layers import PropagationNet as PropagationNet
    from neural_lam.networks.layers import fusion as fusion
    from neural_lam.predictors.direct import DirectPredictor as DirectPredictor
    from neural_lam.predictors.heads import Elliptic as Elliptic
    from neural_lam.predictors.heads import Head as Head
    from neural_lam.predictors.heads import Increment as Increment
    from neural_lam.predictors.losses import Crps as Crps
    from neural_lam.predictors.losses import LeadWeighted as LeadWeighted
    from neural_lam.predictors.losses import Likelihood as Likelihood
    from neural_lam.predictors.losses import Loss as Loss
    from neural_lam.predictors.losses import ScaleBalanced as ScaleBalanced
    from neural_lam.predictors.losses import WeightedAbsolute as WeightedAbsolute
    from neural_lam.predictors.losses import WeightedSquare as WeightedSquare
    from neural_lam.predictors.rollout import rollout as rollout
    from neural_lam.predictors.stencil import LinearGuess as LinearGuess
    from neural_lam.predictors.step import BoundaryForced as BoundaryForced
    from neural_lam.predictors.step import Clamped as Clamped
    from neural_lam.predictors.step import Residual as Residual
    from neural_lam.predictors.step import Standardised as Standardised
    from neural_lam.predictors.step import StepPredictor as StepPredictor
    from neural_lam.shell.checkpoints import CheckpointError as CheckpointError
    from neural_lam.shell.errors import InputError as InputError
    from neural_lam.shell.guards import NonFiniteError as NonFiniteError
    from neural_lam.shell.guards import NonFiniteGuard as NonFiniteGuard
    from neural_lam.training.building import build_direct_predictor as build_direct_predictor
    from neural_lam.training.building import build_predictor as build_predictor
    from neural_lam.training.callbacks import ForecastWriter as ForecastWriter
    from neural_lam.training.callbacks import RunTimer as RunTimer
    from neural_lam.training.direct import DirectForecaster as DirectForecaster
    from neural_lam.training.forecaster import Forecaster as Forecaster
    from neural_lam.training.upstream import UpstreamForecaster as UpstreamForecaster
    from neural_lam.upstream.graphs import read_upstream_graph as read_upstream_graph
    from neural_lam.upstream.graphs import write_upstream_graph as write_upstream_graph
    from neural_lam.upstream.weights import UpstreamCheckpoint as UpstreamCheckpoint
    from neural_lam.upstream.weights import read_upstream_checkpoint as read_upstream_checkpoint
    from neural_lam.upstream.weights import upstream_network as upstream_network
    from neural_lam.verification.plots import draw_graph as draw_graph
    from neural_lam.verification.plots import draw_maps as draw_maps
    from neural_lam.verification.plots import draw_scores as draw_scores
    from neural_lam.verification.plots import save_figure as save_figure
    from neural_lam.verification.scores import bootstrap_ratio as bootstrap_ratio
    from neural_lam.verification.scores import bootstrap_rmse as bootstrap_rmse
    from neural_lam.verification.store import Verification as Verification
    from neural_lam.verification.store import verify_store as verify_store

__version__ = "1.0.0"

_EXPORTS = {
    "Batch": "data.windows",
    "BoundaryForced": "predictors.step",
    "CheckpointError": "shell.checkpoints",
    "Clamped": "predictors.step",
    "ConvLAM": "networks.convolutional",
    "Crps": "predictors.losses",
    "DirectForecaster": "training.direct",
    "DirectPredictor": "predictors.direct",
    "Domain": "data.domain",
    "EdgeSet": "graphs.graph",
    "Edges": "networks.layers",
    "Elliptic": "predictors.heads",
    "Feature": "fields.features",
    "FieldStore": "fields.store",
    "ForecastWriter": "training.callbacks",
    "Forecaster": "training.forecaster",
    "FullResolution": "networks.full_resolution",
    "Graph": "graphs.graph",
    "GraphLAM": "networks.graph_lam",
    "Grid": "graphs.construction",
    "GridNetwork": "networks.grid_network",
    "GriddedData": "data.module",
    "Head": "predictors.heads",
    "HiLAM": "networks.hi_lam",
    "HiLAMParallel": "networks.hi_lam_parallel",
    "Icosahedral": "graphs.construction",
    "Increment": "predictors.heads",
    "InputError": "shell.errors",
    "InteractionNet": "networks.layers",
    "LeadWeighted": "predictors.losses",
    "Likelihood": "predictors.losses",
    "LinearGuess": "predictors.stencil",
    "Loss": "predictors.losses",
    "MLP": "networks.layers",
    "MeshBuilder": "graphs.construction",
    "NonFiniteError": "shell.guards",
    "NonFiniteGuard": "shell.guards",
    "PropagationNet": "networks.layers",
    "Rectangular": "graphs.construction",
    "Residual": "predictors.step",
    "RunTimer": "training.callbacks",
    "ScaleBalanced": "predictors.losses",
    "Standardised": "predictors.step",
    "StepPredictor": "predictors.step",
    "Triangular": "graphs.construction",
    "TwoLayerFlow": "known_answers.two_layer",
    "UpstreamCheckpoint": "upstream.weights",
    "UpstreamData": "data.upstream",
    "UpstreamForecaster": "training.upstream",
    "Verification": "verification.store",
    "WeightedAbsolute": "predictors.losses",
    "WeightedSquare": "predictors.losses",
    "bootstrap_ratio": "verification.scores",
    "bootstrap_rmse": "verification.scores",
    "build_direct_predictor": "training.building",
    "build_predictor": "training.building",
    "draw_graph": "verification.plots",
    "draw_maps": "verification.plots",
    "draw_scores": "verification.plots",
    "from_pyg": "graphs.pyg",
    "fusion": "networks.layers",
    "read_graph": "graphs.graph",
    "read_upstream_checkpoint": "upstream.weights",
    "read_upstream_graph": "upstream.graphs",
    "rollout": "predictors.rollout",
    "save_figure": "verification.plots",
    "to_pyg": "graphs.pyg",
    "upstream_network": "upstream.weights",
    "verify_store": "verification.store",
    "write_graph": "graphs.graph",
    "write_upstream_graph": "upstream.graphs",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
