"""How geodesics of numerical metrics are solved: settings that every such metric holds."""

from dataclasses import dataclass

__all__ = ["DEFAULT", "Solver"]


@dataclass(frozen=True)
class Solver:
    """Settings of a numerical metric's geodesics.

    Arguments:
        num_segments: Segments of geodesics between given ends, a multiple of 4 and at least 8.
        tolerance: Error of a step of geodesics by their first velocity.
        memory_gb: Memory that a solve may take, in gigabytes; many pairs are solved in parts.
    """

    num_segments: int = 32
    tolerance: float = 1e-9
    memory_gb: float = 1.0

    def __post_init__(self) -> None:
        if self.num_segments < 8 or self.num_segments % 4:
            raise ValueError(
                f"num_segments must be a multiple of 4 from 8 on, got {self.num_segments}"
            )
        for name in ("tolerance", "memory_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


DEFAULT = Solver()
