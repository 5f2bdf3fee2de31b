"""Targets: unnormalised log-densities with gradients, log Z and samples where known."""

from .fields import LatticeField, LogGaussianCox, finnish_pines
from .mixtures import GaussianMixture, StudentMixture, gmm40, student_mixture, two_modes
from .posterior import Parameter, Posterior
from .posteriordb import (
    autoregression,
    bayesian_regression,
    eight_schools,
    garch,
    kid_scores,
)
from .processes import BrownianMotion, LorenzBridge
from .regression import (
    LinearRegression,
    LogisticRegression,
    breast_cancer,
    ionosphere,
    sonar,
)
from .shapes import Funnel, Gaussian, ManyWell, SkewedGaussian, correlated_gaussian
from .target import (
    LogDensity,
    NonFiniteLogDensityError,
    Target,
    checked_log_prob,
    differentiate,
)

__all__ = [
    "BrownianMotion",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "LatticeField",
    "LinearRegression",
    "LogDensity",
    "LogGaussianCox",
    "LogisticRegression",
    "LorenzBridge",
    "ManyWell",
    "NonFiniteLogDensityError",
    "Parameter",
    "Posterior",
    "SkewedGaussian",
    "StudentMixture",
    "Target",
    "autoregression",
    "bayesian_regression",
    "breast_cancer",
    "checked_log_prob",
    "correlated_gaussian",
    "differentiate",
    "eight_schools",
    "finnish_pines",
    "garch",
    "gmm40",
    "ionosphere",
    "kid_scores",
    "sonar",
    "student_mixture",
    "two_modes",
]
