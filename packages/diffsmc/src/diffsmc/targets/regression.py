r"""Posteriors of Bayesian regressions.

.. math::
    \log\gamma(\beta) = \sum_i \big[y_i x_i^\top\beta - \log(1 + e^{x_i^\top\beta})\big]
        - \frac{\|\beta\|^2}{2 s^2} - \frac D2\log(2\pi s^2)

so that :math:`Z` is the evidence of the model.
"""

import csv
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from diffsmc.targets.target import Target

__all__ = ["LinearRegression", "LogisticRegression", "breast_cancer", "ionosphere", "sonar"]

LOG_2PI = math.log(2 * math.pi)
EXACT = 40.0  # from here log(1 + exp(z)) is z in float64


class LogisticRegression(Target):
    """Posterior of a logistic regression with an independent Gaussian prior.

    Arguments:
        features: Design matrix with its column of ones, ``(n, D)``.
        labels: 0 or 1, ``(n,)``.
        prior_scale: Standard deviation of the prior.
        names: Names of the coefficients.
    """

    def __init__(
        self,
        features: list[list[float]],
        labels: list[float],
        prior_scale: float = 1.0,
        names: list[str] | None = None,
    ) -> None:
        design = torch.as_tensor(features, dtype=torch.float64)
        y = torch.as_tensor(labels, dtype=torch.float64)
        if design.dim() != 2 or not len(design):
            raise ValueError(f"features must have rows and columns, got {tuple(design.shape)}")
        if len(design) != len(y):
            raise ValueError(f"expected one label for each of {len(design)} rows, got {len(y)}")
        if not bool(((y == 0) | (y == 1)).all()):
            raise ValueError("labels must be 0 or 1")
        if not bool(design.isfinite().all()):
            raise ValueError("features must be finite")
        super().__init__(design.shape[1], scale=prior_scale, names=names, log_concave=True)
        self.register_buffer("design", design)
        self.register_buffer("labels", y)
        self.register_buffer("score_sum", y @ design)

    design: Tensor
    labels: Tensor
    score_sum: Tensor

    def _log_prior(self, x: Tensor) -> Tensor:
        normalizer = self.dim * (math.log(self.scale) + 0.5 * LOG_2PI)
        return -0.5 * x.square().sum(-1) / self.scale**2 - normalizer

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        logits = x @ self.design.T
        return (
            x @ self.score_sum
            - functional.softplus(logits, threshold=EXACT).sum(-1)
            + self._log_prior(x)
        )

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = x @ self.design.T
        fitted = logits.sigmoid()
        softplus = functional.softplus(logits, threshold=EXACT).sum(-1)
        grad = self.score_sum - fitted @ self.design - x / self.scale**2
        return x @ self.score_sum - softplus + self._log_prior(x), grad

    @override
    def score(self, x: Tensor) -> Tensor:
        fitted = (x @ self.design.T).sigmoid()
        prior = torch.add(self.score_sum, x, alpha=-1 / self.scale**2)
        return prior - fitted @ self.design


class LinearRegression(Target):
    r"""Posterior of a linear regression with known noise: the evidence is Gaussian.

    :math:`y \sim N(0, \sigma^2 I + s^2 X X^\top)` after integrating
    :math:`\beta \sim N(0, s^2 I)`, which gives :math:`\log Z` in closed form.

    Arguments:
        features: Design matrix, ``(n, D)``.
        responses: Observations, ``(n,)``.
        noise_scale: :math:`\sigma`.
        prior_scale: :math:`s`.
    """

    def __init__(
        self,
        features: list[list[float]],
        responses: list[float],
        noise_scale: float = 1.0,
        prior_scale: float = 1.0,
    ) -> None:
        design = torch.as_tensor(features, dtype=torch.float64)
        y = torch.as_tensor(responses, dtype=torch.float64)
        if design.dim() != 2 or not len(design):
            raise ValueError(f"features must have rows and columns, got {tuple(design.shape)}")
        if len(design) != len(y):
            raise ValueError(f"expected one response for each of {len(design)} rows, got {len(y)}")
        eye = torch.eye(len(y), dtype=torch.float64)
        factor = torch.linalg.cholesky(noise_scale**2 * eye + prior_scale**2 * design @ design.T)
        white = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
        log_det = factor.diagonal().log().sum()
        evidence = float(-0.5 * white.square().sum() - log_det - 0.5 * len(y) * LOG_2PI)
        super().__init__(
            design.shape[1], scale=prior_scale, log_normalizer=evidence, log_concave=True
        )
        self.noise_scale = noise_scale
        self.register_buffer("design", design)
        self.register_buffer("responses", y)

    design: Tensor
    responses: Tensor

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_prob_and_grad(x)[0]

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = (self.responses - x @ self.design.T) / self.noise_scale
        grad = residual @ self.design / self.noise_scale - x / self.scale**2
        normalizer = len(self.responses) * (math.log(self.noise_scale) + 0.5 * LOG_2PI)
        normalizer += self.dim * (math.log(self.scale) + 0.5 * LOG_2PI)
        square = residual.square().sum(-1) + x.square().sum(-1) / self.scale**2
        return -0.5 * square - normalizer, grad


def standardize(features: Tensor) -> Tensor:
    """Centre and scale columns, a constant one to zero, and put ones in front."""
    scale = features.std(0, correction=0)
    unit = (features - features.mean(0)) / torch.where(scale == 0, 1.0, scale)
    return torch.cat([torch.ones(len(unit), 1, dtype=unit.dtype), unit], -1)


def breast_cancer(prior_scale: float = 1.0) -> LogisticRegression:
    """Malignancy of 569 breast tumours from 30 measurements of cell nuclei.

    Arguments:
        prior_scale: Standard deviation of the prior of every coefficient.

    References:
        Street, Wolberg & Mangasarian 1993; the copy that comes with scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    features = standardize(torch.as_tensor(data.data, dtype=torch.float64))
    names = ["intercept", *(str(name) for name in data.feature_names)]
    malignant = (1 - data.target).tolist()
    return LogisticRegression(features.tolist(), malignant, prior_scale, names)


def read_table(path: str) -> list[list[str]]:
    """Read the rows of a headerless CSV file."""
    with Path(path).open(newline="", encoding="utf-8") as handle:
        return [row for row in csv.reader(handle) if row]


def sonar(path: str, prior_scale: float = 1.0) -> LogisticRegression:
    """Mines against rocks from 60 sonar energies, 208 rows.

    Arguments:
        path: The UCI file: 60 features, then ``M`` or ``R``.
        prior_scale: Standard deviation of the prior of every coefficient.

    References:
        Gorman & Sejnowski (1988), Analysis of hidden units in a layered network trained to classify
        sonar targets, Neural Networks 1.
    """
    rows = read_table(path)
    features = torch.tensor([[float(v) for v in row[:-1]] for row in rows], dtype=torch.float64)
    labels = [1.0 if row[-1] == "M" else 0.0 for row in rows]
    return LogisticRegression(standardize(features).tolist(), labels, prior_scale)


def ionosphere(path: str, prior_scale: float = 1.0) -> LogisticRegression:
    """Good against bad radar returns, 351 rows.

    Arguments:
        path: The UCI file: features, then a label of -1 or 1.
        prior_scale: Standard deviation of the prior of every coefficient.

    References:
        Sigillito et al. (1989), Classification of radar returns from the ionosphere using neural
        networks, Johns Hopkins APL Technical Digest 10.
    """
    table = torch.tensor([[float(v) for v in row] for row in read_table(path)], dtype=torch.float64)
    labels = (table[:, -1] + 1) / 2
    return LogisticRegression(standardize(table[:, :-1]).tolist(), labels.tolist(), prior_scale)
