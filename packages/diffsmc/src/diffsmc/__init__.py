"""Sampling unnormalised densities by denoising diffusion and sequential Monte Carlo.

Public names are imported on first use (PEP 562), so that ``import diffsmc`` and
``diffsmc --help`` never pay for torch. The modules behind them are private.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diffsmc.methods.automatic import Automatic as Automatic
    from diffsmc.methods.denoising import Diffusion as Diffusion
    from diffsmc.methods.method import Method as Method
    from diffsmc.methods.method import Monitor as Monitor
    from diffsmc.methods.mixture_diffusion import MixtureDiffusion as MixtureDiffusion
    from diffsmc.methods.mixture_fit import MixtureFit as MixtureFit
    from diffsmc.methods.reference_mixture import ReferenceMixture as ReferenceMixture
    from diffsmc.methods.sampling import sample as sample
    from diffsmc.methods.tempering import Tempering as Tempering
    from diffsmc.paths.bridge import StratifiedPath as StratifiedPath
    from diffsmc.paths.diffusion import DiffusionPath as DiffusionPath
    from diffsmc.paths.mixture_diffusion import MixtureDiffusionPath as MixtureDiffusionPath
    from diffsmc.paths.mixture_diffusion import MixturePotential as MixturePotential
    from diffsmc.paths.mixture_diffusion import MonteCarloRatio as MonteCarloRatio
    from diffsmc.paths.mixture_diffusion import UnitRatio as UnitRatio
    from diffsmc.paths.tempered import TemperedPath as TemperedPath
    from diffsmc.potentials.learned import LearnedPotential as LearnedPotential
    from diffsmc.potentials.learned import VectorNetwork as VectorNetwork
    from diffsmc.potentials.monte_carlo import MonteCarloPotential as MonteCarloPotential
    from diffsmc.potentials.monte_carlo import NaivePotential as NaivePotential
    from diffsmc.potentials.monte_carlo import Potential as Potential
    from diffsmc.references.gaussian import GaussianReference as GaussianReference
    from diffsmc.results.files import read_result as read_result
    from diffsmc.results.files import write_result as write_result
    from diffsmc.results.inference_data import to_inference_data as to_inference_data
    from diffsmc.results.result import Result as Result
    from diffsmc.results.snapshots import Snapshots as Snapshots
    from diffsmc.shell.checkpoints import CheckpointError as CheckpointError
    from diffsmc.shell.errors import InputError as InputError
    from diffsmc.smc.adaptation import dense_mass as dense_mass
    from diffsmc.smc.adaptation import diagonal_mass as diagonal_mass
    from diffsmc.smc.density import Cloud as Cloud
    from diffsmc.smc.density import Density as Density
    from diffsmc.smc.density import Mass as Mass
    from diffsmc.smc.estimators import Evidence as Evidence
    from diffsmc.smc.estimators import conditional_ess as conditional_ess
    from diffsmc.smc.estimators import effective_sample_size as effective_sample_size
    from diffsmc.smc.estimators import evidence as evidence
    from diffsmc.smc.estimators import lee_whiteley_variance as lee_whiteley_variance
    from diffsmc.smc.estimators import log_mean_exp as log_mean_exp
    from diffsmc.smc.moves import HMC as HMC
    from diffsmc.smc.moves import MALA as MALA
    from diffsmc.smc.moves import PCN as PCN
    from diffsmc.smc.moves import RWM as RWM
    from diffsmc.smc.moves import ULA as ULA
    from diffsmc.smc.moves import Move as Move
    from diffsmc.smc.moves import MoveInfo as MoveInfo
    from diffsmc.smc.path import Path as Path
    from diffsmc.smc.resampling import multinomial as multinomial
    from diffsmc.smc.resampling import residual as residual
    from diffsmc.smc.resampling import ssp as ssp
    from diffsmc.smc.resampling import stratified as stratified
    from diffsmc.smc.resampling import systematic as systematic
    from diffsmc.smc.schedules import AdaptiveSchedule as AdaptiveSchedule
    from diffsmc.smc.schedules import FixedSchedule as FixedSchedule
    from diffsmc.smc.schedules import cosine_variances as cosine_variances
    from diffsmc.smc.schedules import geometric_levels as geometric_levels
    from diffsmc.targets.errors import DensityError as DensityError
    from diffsmc.targets.errors import FailedRunError as FailedRunError
    from diffsmc.targets.errors import ImproperTargetError as ImproperTargetError
    from diffsmc.targets.errors import NonFiniteLogDensityError as NonFiniteLogDensityError
    from diffsmc.targets.fields import LatticeField as LatticeField
    from diffsmc.targets.fields import LogGaussianCox as LogGaussianCox
    from diffsmc.targets.fields import finnish_pines as finnish_pines
    from diffsmc.targets.mixtures import GaussianMixture as GaussianMixture
    from diffsmc.targets.mixtures import StudentMixture as StudentMixture
    from diffsmc.targets.mixtures import gmm40 as gmm40
    from diffsmc.targets.mixtures import student_mixture as student_mixture
    from diffsmc.targets.mixtures import two_modes as two_modes
    from diffsmc.targets.ordering import ordered as ordered
    from diffsmc.targets.posterior import Parameter as Parameter
    from diffsmc.targets.posterior import Posterior as Posterior
    from diffsmc.targets.posteriordb import autoregression as autoregression
    from diffsmc.targets.posteriordb import bayesian_regression as bayesian_regression
    from diffsmc.targets.posteriordb import eight_schools as eight_schools
    from diffsmc.targets.posteriordb import garch as garch
    from diffsmc.targets.posteriordb import kid_scores as kid_scores
    from diffsmc.targets.processes import BrownianMotion as BrownianMotion
    from diffsmc.targets.processes import LorenzBridge as LorenzBridge
    from diffsmc.targets.regression import LinearRegression as LinearRegression
    from diffsmc.targets.regression import LogisticRegression as LogisticRegression
    from diffsmc.targets.regression import breast_cancer as breast_cancer
    from diffsmc.targets.regression import ionosphere as ionosphere
    from diffsmc.targets.regression import sonar as sonar
    from diffsmc.targets.shapes import Funnel as Funnel
    from diffsmc.targets.shapes import Gaussian as Gaussian
    from diffsmc.targets.shapes import ManyWell as ManyWell
    from diffsmc.targets.shapes import SkewedGaussian as SkewedGaussian
    from diffsmc.targets.shapes import correlated_gaussian as correlated_gaussian
    from diffsmc.targets.target import LogDensity as LogDensity
    from diffsmc.targets.target import Target as Target
    from diffsmc.targets.target import differentiate as differentiate
    from diffsmc.training.particles import ParticleData as ParticleData
    from diffsmc.training.potential import IslandWriter as IslandWriter
    from diffsmc.training.potential import PotentialTraining as PotentialTraining
    from diffsmc.training.potential import TrainedPotential as TrainedPotential

_EXPORTS = {
    "AdaptiveSchedule": "smc.schedules",
    "Automatic": "methods.automatic",
    "BrownianMotion": "targets.processes",
    "CheckpointError": "shell.checkpoints",
    "Cloud": "smc.density",
    "Density": "smc.density",
    "DensityError": "targets.errors",
    "Diffusion": "methods.denoising",
    "DiffusionPath": "paths.diffusion",
    "Evidence": "smc.estimators",
    "FailedRunError": "targets.errors",
    "FixedSchedule": "smc.schedules",
    "Funnel": "targets.shapes",
    "Gaussian": "targets.shapes",
    "GaussianMixture": "targets.mixtures",
    "GaussianReference": "references.gaussian",
    "HMC": "smc.moves",
    "ImproperTargetError": "targets.errors",
    "InputError": "shell.errors",
    "IslandWriter": "training.potential",
    "LatticeField": "targets.fields",
    "LearnedPotential": "potentials.learned",
    "LinearRegression": "targets.regression",
    "LogDensity": "targets.target",
    "LogGaussianCox": "targets.fields",
    "LogisticRegression": "targets.regression",
    "LorenzBridge": "targets.processes",
    "MALA": "smc.moves",
    "ManyWell": "targets.shapes",
    "Mass": "smc.density",
    "Method": "methods.method",
    "MixtureDiffusion": "methods.mixture_diffusion",
    "MixtureDiffusionPath": "paths.mixture_diffusion",
    "MixtureFit": "methods.mixture_fit",
    "MixturePotential": "paths.mixture_diffusion",
    "Monitor": "methods.method",
    "MonteCarloPotential": "potentials.monte_carlo",
    "MonteCarloRatio": "paths.mixture_diffusion",
    "Move": "smc.moves",
    "MoveInfo": "smc.moves",
    "NaivePotential": "potentials.monte_carlo",
    "NonFiniteLogDensityError": "targets.errors",
    "PCN": "smc.moves",
    "Parameter": "targets.posterior",
    "ParticleData": "training.particles",
    "Path": "smc.path",
    "Posterior": "targets.posterior",
    "Potential": "potentials.monte_carlo",
    "PotentialTraining": "training.potential",
    "RWM": "smc.moves",
    "ReferenceMixture": "methods.reference_mixture",
    "Result": "results.result",
    "SkewedGaussian": "targets.shapes",
    "Snapshots": "results.snapshots",
    "StratifiedPath": "paths.bridge",
    "StudentMixture": "targets.mixtures",
    "Target": "targets.target",
    "TemperedPath": "paths.tempered",
    "Tempering": "methods.tempering",
    "TrainedPotential": "training.potential",
    "ULA": "smc.moves",
    "UnitRatio": "paths.mixture_diffusion",
    "VectorNetwork": "potentials.learned",
    "autoregression": "targets.posteriordb",
    "bayesian_regression": "targets.posteriordb",
    "breast_cancer": "targets.regression",
    "conditional_ess": "smc.estimators",
    "correlated_gaussian": "targets.shapes",
    "cosine_variances": "smc.schedules",
    "dense_mass": "smc.adaptation",
    "diagonal_mass": "smc.adaptation",
    "differentiate": "targets.target",
    "effective_sample_size": "smc.estimators",
    "eight_schools": "targets.posteriordb",
    "evidence": "smc.estimators",
    "finnish_pines": "targets.fields",
    "garch": "targets.posteriordb",
    "geometric_levels": "smc.schedules",
    "gmm40": "targets.mixtures",
    "ionosphere": "targets.regression",
    "kid_scores": "targets.posteriordb",
    "lee_whiteley_variance": "smc.estimators",
    "log_mean_exp": "smc.estimators",
    "multinomial": "smc.resampling",
    "ordered": "targets.ordering",
    "read_result": "results.files",
    "residual": "smc.resampling",
    "sample": "methods.sampling",
    "sonar": "targets.regression",
    "ssp": "smc.resampling",
    "stratified": "smc.resampling",
    "student_mixture": "targets.mixtures",
    "systematic": "smc.resampling",
    "to_inference_data": "results.inference_data",
    "two_modes": "targets.mixtures",
    "write_result": "results.files",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
