"""A target that may be evaluated so many times and no more."""

from torch import Tensor
from typing_extensions import override

from diffsmc.targets.errors import FailedRunError
from diffsmc.targets.target import Target

__all__ = ["Limited"]


class Limited(Target):
    """A target that counts its evaluations, with or without gradient, and stops at a limit.

    Arguments:
        target: The target.
        most: Most evaluations.
    """

    def __init__(self, target: Target, most: int) -> None:
        if most < 1:
            raise ValueError(f"max_evaluations must be at least 1, got {most}")
        super().__init__(
            target.dim,
            scale=target.start_factor.cpu(),
            location=target.start_mean.cpu(),
            log_normalizer=target.log_normalizer,
            names=target.names,
            log_concave=target.log_concave,
        )
        self.to(target.start_mean.device)
        self.target, self.most, self.count = target, most, 0
        self.bounded, self.bound = target.bounded, target.bound

    def _spend(self, x: Tensor) -> Tensor:
        num = x[..., 0].numel()
        if self.count + num > self.most:  # refused points aren't evaluated, nor counted
            raise FailedRunError(
                f"{self.most} evaluations (max_evaluations) are spent and the run isn't done: "
                "give more, fewer particles, or a budget, which cuts the run to fit"
            )
        self.count += num
        return x

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.target.log_prob(self._spend(x))

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.target.log_prob_and_grad(self._spend(x))

    @override
    def score(self, x: Tensor) -> Tensor:
        return self.target.score(self._spend(x))
