"""What a forecast knows of the boundary at its lead times."""

from enum import Enum

__all__ = ["FutureBoundary"]


class FutureBoundary(Enum):
    """Whether the boundary of the lead times is given, or held as at the analysis time."""

    GIVEN = False
    HELD = True
