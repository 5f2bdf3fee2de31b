"""Five posteriors of posteriordb, whose reference draws are published.

Each takes the path of its ``data.json``.

References:
    Magnusson, Torgander, Bürkner, Zhang, Carpenter & Vehtari, posteriordb: testing,
    benchmarking and developing Bayesian inference algorithms, AISTATS 2025.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint, interval, positive, unit_interval

from diffsmc.targets.posterior import Parameter, Parameters, Posterior

__all__ = ["autoregression", "bayesian_regression", "eight_schools", "garch", "kid_scores"]


LOG_2PI = math.log(2 * math.pi)


def _load(path: str) -> dict[str, Any]:
    return {
        name: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
        for name, value in json.loads(Path(path).read_text(encoding="utf-8")).items()
    }


def _log_normal(x: Tensor, mean: Tensor | float, scale: Tensor | float) -> Tensor:
    """Sum independent Gaussian log-densities over the last axis."""
    scale = torch.as_tensor(scale, dtype=x.dtype)
    return (-0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * LOG_2PI).sum(-1)


def _half_cauchy(x: Tensor, scale: float) -> Tensor:
    return math.log(2 / (math.pi * scale)) - torch.log1p((x / scale).square())


def eight_schools(path: str, scale: float = 3.0) -> Posterior:
    """Effects of coaching in eight schools, non-centred.

    Arguments:
        path: The data file.
        scale: Standard deviation of the wide start.
    """
    data = _load(path)
    y, sigma = data["y"], data["sigma"]
    space = {
        "theta_trans": Parameter(shape=(len(y),)), "mu": Parameter(), "tau": Parameter(positive)
    }  # fmt: skip

    def prior(p: Parameters) -> Tensor:
        tau = _half_cauchy(p["tau"], 5.0)
        return _log_normal(p["theta_trans"], 0.0, 1.0) + _log_normal(p["mu"][..., None], 0, 5) + tau

    def likelihood(p: Parameters) -> Tensor:
        theta = p["mu"][..., None] + p["tau"][..., None] * p["theta_trans"]
        return _log_normal(y, theta, sigma)

    return Posterior(space, prior, likelihood, scale)


def autoregression(path: str, scale: float = 3.0) -> Posterior:
    """Autoregression of order five.

    Arguments:
        path: The data file.
        scale: Standard deviation of the wide start.
    """
    data = _load(path)
    y, order = data["y"], int(data["K"])
    lags = torch.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], -1)
    space = {
        "alpha": Parameter(), "beta": Parameter(shape=(order,)), "sigma": Parameter(positive)
    }  # fmt: skip

    def prior(p: Parameters) -> Tensor:
        location = torch.cat([p["alpha"][..., None], p["beta"]], -1)
        return _log_normal(location, 0.0, 10.0) + _half_cauchy(p["sigma"], 2.5)

    def likelihood(p: Parameters) -> Tensor:
        mean = p["alpha"][..., None] + p["beta"] @ lags.T
        return _log_normal(y[order:], mean, p["sigma"][..., None])

    return Posterior(space, prior, likelihood, scale)


def garch(path: str, scale: float = 3.0) -> Posterior:
    r"""GARCH(1, 1) with flat priors and :math:`\beta_1 < 1 - \alpha_1`.

    Arguments:
        path: The data file.
        scale: Standard deviation of the wide start.
    """
    data = _load(path)
    y, first = data["y"], float(data["sigma1"])

    def below(p: Parameters) -> Constraint:
        bound: Constraint = interval(0.0, 1 - p["alpha1"])  # type: ignore[no-untyped-call]
        return bound

    space = {
        "mu": Parameter(), "alpha0": Parameter(positive), "alpha1": Parameter(unit_interval),
        "beta1": Parameter(below),
    }  # fmt: skip

    def likelihood(p: Parameters) -> Tensor:
        shock = (y - p["mu"][..., None]).square()
        drive = p["alpha0"][..., None] + p["alpha1"][..., None] * shock
        variances = [torch.full_like(p["mu"], first**2)]
        for t in range(1, len(y)):
            variances.append(drive[..., t - 1] + p["beta1"] * variances[-1])
        return _log_normal(y, p["mu"][..., None], torch.stack(variances, -1).sqrt())

    return Posterior(space, _flat, likelihood, scale)


def _flat(p: Parameters) -> Tensor:
    return torch.zeros_like(next(iter(p.values())))


def bayesian_regression(path: str, scale: float = 3.0) -> Posterior:
    """Linear regression with five coefficients and unknown noise.

    Arguments:
        path: The data file.
        scale: Standard deviation of the wide start.
    """
    data = _load(path)
    design, y = data["X"], data["y"]
    space = {"beta": Parameter(shape=(design.shape[1],)), "sigma": Parameter(positive)}

    def prior(p: Parameters) -> Tensor:
        half_normal = math.log(2) + _log_normal(p["sigma"][..., None], 0.0, 10.0)
        return _log_normal(p["beta"], 0.0, 10.0) + half_normal

    def likelihood(p: Parameters) -> Tensor:
        return _log_normal(y, p["beta"] @ design.T, p["sigma"][..., None])

    return Posterior(space, prior, likelihood, scale)


def kid_scores(path: str, scale: float = 20.0) -> Posterior:
    """Test scores of children by their mothers' IQ.

    Arguments:
        path: The data file.
        scale: Standard deviation of the wide start.
    """
    data: Mapping[str, Any] = _load(path)
    iq, y = data["mom_iq"], data["kid_score"]
    space = {"beta": Parameter(shape=(2,)), "sigma": Parameter(positive)}

    def prior(p: Parameters) -> Tensor:
        return _half_cauchy(p["sigma"], 2.5)

    def likelihood(p: Parameters) -> Tensor:
        mean = p["beta"][..., :1] + p["beta"][..., 1:] * iq
        return _log_normal(y, mean, p["sigma"][..., None])

    return Posterior(space, prior, likelihood, scale)
