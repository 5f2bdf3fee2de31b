r"""Paths of stochastic processes that are seen at both ends and not in the middle.

References:
    Ambrogioni, Lin, Fertig, Vikram, Hinne, Moore & van Gerven, Automatic structured variational
    inference, AISTATS 2021; the observations are those of TensorFlow Probability's Inference Gym.
"""

import math

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.targets.target import Target

__all__ = ["BrownianMotion", "LorenzBridge"]

LOG_2PI = math.log(2 * math.pi)
NUM_TIMES = 30
SEEN = [*range(10), *range(20, 30)]
BROWNIAN = [
    0.21592641, 0.118771404, -0.07945447, 0.037677474, -0.27885845, -0.1484156, -0.3250906,
    -0.22957903, -0.44110894, -0.09830782, -0.8786016, -0.83736074, -0.7384849, -0.8939254,
    -0.7774566, -0.70238715, -0.87771565, -0.51853573, -0.6948214, -0.6202789,
]  # fmt: skip
LORENZ = [
    -0.2761459, 0.18631345, 0.1467675, -1.3148443, -1.2150469, -0.44544014, -0.5505127,
    -0.9422926, -1.9986963, 0.13876402, -16.095385, -18.901144, -21.515736, -22.736586,
    -23.451488, -21.417793, -15.236895, -7.6766376, -0.19389218, 6.26647,
]  # fmt: skip


def _log_normal(residual: Tensor, log_scale: Tensor | float) -> Tensor:
    """Sum over the last axis the log-density of residuals, all of one scale."""
    log_scale = torch.as_tensor(log_scale, dtype=residual.dtype, device=residual.device)
    square = residual.square().sum(-1) * torch.exp(-2 * log_scale)
    return -0.5 * square - residual.shape[-1] * (log_scale + 0.5 * LOG_2PI)


class BrownianMotion(Target):
    r"""A Brownian path of 30 steps, of unknown noise, seen ten times at either end.

    .. math:: x_1\sim N(0, \sigma^2),\quad x_t\sim N(x_{t-1}, \sigma^2),\quad
        y_t\sim N(x_t, \tau^2),\quad \log\sigma,\log\tau\sim N(0, 2^2)

    Coordinates are :math:`\log\sigma, \log\tau, x_1, \dots, x_{30}`. :math:`\log Z` is a quadrature
    over both scales of the Kalman filter's likelihood.

    Arguments:
        scale: Standard deviation of the wide start.
    """

    def __init__(self, scale: float = 1.0) -> None:
        names = ["log sigma", "log tau", *(f"x[{t}]" for t in range(NUM_TIMES))]
        super().__init__(NUM_TIMES + 2, scale=scale, names=names)
        self.register_buffer("observed", torch.tensor(BROWNIAN, dtype=torch.float64))
        self.log_normalizer = self._quadrature()

    observed: Tensor

    def _quadrature(self, num: int = 400) -> float:
        """Integrate over both log-scales by the trapezoidal rule."""
        grid = torch.linspace(-14, 14, num, dtype=torch.float64)
        log_sigma, log_tau = torch.meshgrid(grid, grid, indexing="ij")
        joint = self._kalman(log_sigma, log_tau)
        joint = joint + sum(_log_normal(s[..., None], math.log(2.0)) for s in (log_sigma, log_tau))
        return float(joint.flatten().logsumexp(0) + 2 * (grid[1] - grid[0]).log())

    def _kalman(self, log_sigma: Tensor, log_tau: Tensor) -> Tensor:
        """Likelihood of the observations by the Kalman filter, for scales of any shape."""
        mean, variance = torch.zeros_like(log_sigma), torch.zeros_like(log_sigma)
        total, seen = torch.zeros_like(log_sigma), iter(self.observed.tolist())
        for time in range(NUM_TIMES):
            variance = variance + torch.exp(2 * log_sigma)
            if time not in SEEN:
                continue
            residual = next(seen) - mean
            spread = variance + torch.exp(2 * log_tau)
            total = total - 0.5 * (residual.square() / spread + spread.log() + LOG_2PI)
            gain = variance / spread
            mean, variance = mean + gain * residual, (1 - gain) * variance
        return total

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        log_sigma, log_tau, jumps, errors = self._parts(x)
        prior = _log_normal(x[..., :2], math.log(2.0))
        return prior + _log_normal(jumps, log_sigma) + _log_normal(errors, log_tau)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        path = x[..., 2:]
        before = torch.cat([torch.zeros_like(path[..., :1]), path[..., :-1]], -1)
        return x[..., 0], x[..., 1], path - before, self.observed - path[..., SEEN]

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_sigma, log_tau, jumps, errors = self._parts(x)
        pull = jumps * torch.exp(-2 * log_sigma)[..., None]
        path = -pull
        path[..., :-1] += pull[..., 1:]
        push = errors * torch.exp(-2 * log_tau)[..., None]
        path[..., SEEN] += push
        scales = torch.stack(
            [(jumps * pull).sum(-1) - NUM_TIMES, (errors * push).sum(-1) - len(SEEN)], -1
        )
        return self.log_prob(x), torch.cat([scales - x[..., :2] / 4, path], -1)


class LorenzBridge(Target):
    r"""A path of the stochastic Lorenz system, of whose first coordinate both ends are seen.

    With :math:`f(x, y, z) = (10(y-x),\ x(28-z)-y,\ xy-\tfrac83z)` and steps :math:`h = 0.02`,
    :math:`s_1\sim N(0, I)`, :math:`s_{t+1}\sim N(s_t + hf(s_t), 0.1^2hI)`, and
    :math:`N(x_t, 1)` is observed in the first and the last ten of 30 steps. Coordinates are
    :math:`s_1, \dots, s_{30}`, 90 in all.

    Arguments:
        scale: Standard deviation of the wide start.
    """

    def __init__(self, scale: float = 10.0) -> None:
        names = [f"{name}[{t}]" for t in range(NUM_TIMES) for name in "xyz"]
        super().__init__(3 * NUM_TIMES, scale=scale, names=names)
        self.step, self.noise = 0.02, 0.1 * math.sqrt(0.02)
        self.register_buffer("observed", torch.tensor(LORENZ, dtype=torch.float64))

    observed: Tensor

    def drift(self, state: Tensor) -> Tensor:
        """Give the Lorenz system's vector field, ``(..., 3)``."""
        x, y, z = state.unbind(-1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)

    def _pull_back(self, state: Tensor, vector: Tensor) -> Tensor:
        """Apply the transposed Jacobian of a step to a vector, both ``(..., 3)``."""
        (x, y, z), (u, v, w) = state.unbind(-1), vector.unbind(-1)
        back = [-10 * u + (28 - z) * v + y * w, 10 * u - v + x * w, -x * v - 8 / 3 * w]
        return vector + self.step * torch.stack(back, -1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = x.reshape(*x.shape[:-1], NUM_TIMES, 3)
        old = states[..., :-1, :]
        residual = states[..., 1:, :] - old - self.step * self.drift(old)
        return states, residual, self.observed - states[..., SEEN, 0]

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        states, residual, errors = self._parts(x)
        noise = _log_normal(residual.flatten(-2), math.log(self.noise))
        return _log_normal(states[..., 0, :], 0.0) + noise + _log_normal(errors, 0.0)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states, residual, errors = self._parts(x)
        pull = residual / self.noise**2
        grad = torch.zeros_like(states)
        grad[..., 0, :] = -states[..., 0, :]
        grad[..., 1:, :] -= pull
        grad[..., :-1, :] += self._pull_back(states[..., :-1, :], pull)
        grad[..., SEEN, 0] += errors
        return self.log_prob(x), grad.reshape(x.shape)
