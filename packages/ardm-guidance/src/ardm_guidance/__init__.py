"""Autoregressive diffusion for discrete data, guided exactly.

Public names are imported on first use (PEP 562), so that ``import ardm_guidance`` and
``ardm-guidance --help`` never pay for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "CheckpointError": "checkpoints",
    "Connectivity": "constraints",
    "Discriminator": "discriminator",
    "Guided": "guidance",
    "GraphTransformer": "networks",
    "MoleculeARDM": "training",
    "MoleculeAlphabet": "molecules",
    "MoleculeData": "data",
    "OrderAgnosticARDM": "ardm",
    "Potential": "potentials",
    "Valence": "constraints",
}
_MODULES = {
    "accessibility",
    "ardm",
    "checkpoints",
    "configuration",
    "constraints",
    "calibration",
    "chemnet",
    "data",
    "discriminator",
    "evaluation",
    "files",
    "fingerprints",
    "graphs",
    "guidance",
    "loading",
    "molecules",
    "moses",
    "networks",
    "orders",
    "plots",
    "potentials",
    "pyg",
    "randomness",
    "resampling",
    "schedules",
    "smc",
    "splits",
    "toys",
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
