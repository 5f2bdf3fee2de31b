"""What the rest of the package knows of a model: how it encodes, decodes and measures."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from latentgeom.metrics.metric import Metric

__all__ = ["LatentModel", "Learnt"]


@runtime_checkable
class LatentModel(Protocol):
    """Codes of observations, observations at codes, and the metric chosen for the codes."""

    @property
    def metric(self) -> Metric:
        """The chosen metric, of dimension ``d``."""

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates of observations, ``(..., d)``."""

    def decode(self, z: Tensor) -> Tensor:
        """Observations at coordinates."""


class Learnt(LatentModel, Protocol):
    """A model with the scale up to which its decoder is asked to be an isometry."""

    @property
    def log_scale(self) -> Tensor:
        """Log of the factor between the decoder's squared lengths and the chosen ones."""
