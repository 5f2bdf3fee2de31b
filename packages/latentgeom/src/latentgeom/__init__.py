"""Latent spaces whose distances mean something.

Metrics are pulled back through a decoder, or chosen first and trained into it. Public
names are imported on first use (PEP 562), so that ``import latentgeom`` and
``latentgeom --help`` never pay for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Autoencoder": "networks",
    "Chart": "immersion",
    "CheckpointError": "checkpoints",
    "ConstantCurvature": "explicit",
    "Euclidean": "explicit",
    "GeodesicBatch": "geodesics",
    "Metric": "metric",
    "Pullback": "pullback",
}
_MODULES = {
    "constant_curvature",
    "conversion",
    "curvature",
    "curves",
    "data_metrics",
    "deviation",
    "ensembles",
    "evaluation",
    "explicit",
    "exponential",
    "geodesics",
    "georce",
    "immersion",
    "losses",
    "means",
    "networks",
    "numerical",
    "plots",
    "pullback",
    "spd",
    "starts",
    "surfaces",
    "transport",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_EXPORTS})
