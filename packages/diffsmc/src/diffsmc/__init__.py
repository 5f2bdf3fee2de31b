"""Sampling unnormalised densities by denoising diffusion and sequential Monte Carlo.

Public names are imported on first use (PEP 562), so that ``import diffsmc`` and
``diffsmc --help`` never pay for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Automatic": "selection",
    "CheckpointError": "checkpoints",
    "Diffusion": "methods",
    "Evidence": "estimators",
    "LogDensity": "targets",
    "MixtureDiffusion": "reference_mixture",
    "MixtureFit": "reference_mixture",
    "NonFiniteLogDensityError": "targets",
    "ReferenceMixture": "reference_mixture",
    "Result": "methods",
    "Target": "targets",
    "Tempering": "methods",
    "evidence": "estimators",
}
_MODULES = {
    "bridge",
    "checkpoints",
    "configuration",
    "data",
    "diagnostics",
    "diffusion",
    "estimators",
    "evaluation",
    "kernels",
    "loading",
    "losses",
    "methods",
    "mixture",
    "mixture_diffusion",
    "moves",
    "networks",
    "pilot",
    "plots",
    "potentials",
    "randomness",
    "reference",
    "reference_mixture",
    "resampling",
    "results",
    "resume",
    "schedules",
    "selection",
    "smc",
    "targets",
    "tempering",
    "training",
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
