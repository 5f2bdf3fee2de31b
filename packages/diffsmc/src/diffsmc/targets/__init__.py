"""Targets: unnormalised log-densities with gradients, log Z and samples where known."""

from .mixtures import GaussianMixture, StudentMixture, gmm40, student_mixture, two_modes
from .regression import (
    LinearRegression,
    LogisticRegression,
    breast_cancer,
    ionosphere,
    sonar,
)
from .shapes import Funnel, Gaussian, ManyWell, SkewedGaussian, correlated_gaussian
from .target import LogDensity, NonFiniteLogDensityError, Target, differentiate

__all__ = [
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "LinearRegression",
    "LogDensity",
    "LogisticRegression",
    "ManyWell",
    "NonFiniteLogDensityError",
    "SkewedGaussian",
    "StudentMixture",
    "Target",
    "breast_cancer",
    "correlated_gaussian",
    "differentiate",
    "gmm40",
    "ionosphere",
    "sonar",
    "student_mixture",
    "two_modes",
]
