"""What lies beside the first and the last column of a grid."""

from enum import Enum

__all__ = ["Sides"]


class Sides(Enum):
    """Whether the last column of a grid is followed by the first, as around the globe."""

    APART = False
    JOINED = True
