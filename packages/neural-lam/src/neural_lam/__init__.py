"""Graph-based weather forecasting on any domain.

Public names are imported on first use (PEP 562), so that ``import neural_lam`` and
``neural-lam --help`` never pay for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "1.0.0"

_EXPORTS = {
    "CheckpointError": "checkpoints",
    "DirectForecaster": "training",
    "Forecaster": "training",
    "Graph": "graph",
    "GraphLAM": "predictors",
    "GriddedData": "data.module",
    "HiLAM": "predictors",
    "HiLAMParallel": "predictors",
    "Icosahedral": "construction",
    "InteractionNet": "layers",
    "PropagationNet": "layers",
    "Rectangular": "construction",
    "Triangular": "construction",
    "TwoLayerFlow": "simulators",
    "UpstreamData": "data.upstream",
    "read_graph": "graph",
    "read_upstream_graph": "upstream",
    "to_pyg": "pyg",
    "upstream_network": "upstream",
    "write_graph": "graph",
    "write_upstream_graph": "upstream",
}
_MODULES = {
    "autoregression",
    "baselines",
    "callbacks",
    "checkpoints",
    "configuration",
    "connectivity",
    "construction",
    "data",
    "direct",
    "evaluation",
    "example_data",
    "forecasts",
    "fused",
    "graph",
    "grib",
    "guards",
    "layers",
    "loading",
    "lorenz",
    "losses",
    "mesh",
    "plots",
    "predictors",
    "pyg",
    "randomness",
    "reference",
    "rollout",
    "simulators",
    "training",
    "upstream",
    "verbs",
    "verification",
    "wrappers",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_EXPORTS})
