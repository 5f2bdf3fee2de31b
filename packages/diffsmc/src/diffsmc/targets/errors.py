"""What can be wrong with a density, or with a run on it: typed, in one line, with the cure."""

from torch import Tensor

__all__ = [
    "DensityError",
    "FailedRunError",
    "ImproperTargetError",
    "NonFiniteLogDensityError",
]


class DensityError(ValueError):
    """A function given for a log-density doesn't return one.

    Arguments:
        function: Which one: "log-density logp", "log-prior log_prior".
        got: What it returned.
        expected: What was expected.
        cure: What to do about it.
    """

    def __init__(self, function: str, got: str, expected: str, cure: str) -> None:
        self.function, self.got, self.expected, self.cure = function, got, expected, cure
        super().__init__(f"{function}: got {got}, expected {expected}; {cure}")


class ImproperTargetError(ValueError):
    """A density whose integral seems to be infinite."""


class FailedRunError(ValueError):
    """A run that can give no answer; no number stands for it."""


class NonFiniteLogDensityError(DensityError):
    """A log-density was NaN or ``+inf``: no weight can be made of it.

    Arguments:
        step: Step of the sampler, 0 being the start.
        island: Index of the island.
        particle: Index of the particle in its island.
        value: The offending log-density.
        point: Where it was evaluated, ``(D,)``.
        function: Which function gave it.
    """

    def __init__(
        self,
        step: int,
        island: int,
        particle: int,
        value: float,
        point: Tensor,
        function: str = "log-density",
    ) -> None:
        self.step, self.island, self.particle = step, island, particle
        self.value, self.point = value, point
        where = ", ".join(f"{x:.6g}" for x in point[:8].tolist()) + (
            ", ..." if len(point) > 8 else ""
        )
        super().__init__(
            function,
            f"{value} at step {step}, island {island}, particle {particle}, x = [{where}]",
            "a number, or -inf where the density is zero",
            "NaN and +inf are no values of it: torch.where(ok, ..., -inf)",
        )
