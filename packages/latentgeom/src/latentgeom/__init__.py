"""Latent spaces whose distances mean something.

Metrics are pulled back through a decoder, or chosen first and trained into it. Public
names are imported on first use (PEP 562), so that ``import latentgeom`` and
``latentgeom --help`` never pay for torch. The names below are the interface; the modules
that hold them are private and may move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names again, for type checkers and editors; a test compares
    from latentgeom.data.arrays import Arrays as Arrays
    from latentgeom.data.digits import Digits as Digits
    from latentgeom.data.observations import Observations as Observations
    from latentgeom.data.observations import Samples as Samples
    from latentgeom.data.scaling import Scaling as Scaling
    from latentgeom.fitting import Curves as Curves
    from latentgeom.fitting import Fitted as Fitted
    from latentgeom.fitting import fit as fit
    from latentgeom.immersions.curvature import christoffel as christoffel
    from latentgeom.immersions.curvature import gaussian_curvature as gaussian_curvature
    from latentgeom.immersions.curvature import levi_civita as levi_civita
    from latentgeom.immersions.curvature import riemann as riemann
    from latentgeom.immersions.curvature import sectional_curvature as sectional_curvature
    from latentgeom.immersions.immersion import Chart as Chart
    from latentgeom.immersions.immersion import Immersion as Immersion
    from latentgeom.immersions.surfaces import Ellipsoid as Ellipsoid
    from latentgeom.immersions.surfaces import Torus as Torus
    from latentgeom.metrics.answers import FrechetMean as FrechetMean
    from latentgeom.metrics.answers import GeodesicBatch as GeodesicBatch
    from latentgeom.metrics.charts import Diffeomorphism as Diffeomorphism
    from latentgeom.metrics.charts import Scaled as Scaled
    from latentgeom.metrics.charts import half_plane as half_plane
    from latentgeom.metrics.charts import poincare_ball as poincare_ball
    from latentgeom.metrics.charts import poincare_ellipsoid as poincare_ellipsoid
    from latentgeom.metrics.constant_curvature import ambient_to_tangent as ambient_to_tangent
    from latentgeom.metrics.constant_curvature import half_plane_to_tangent as half_plane_to_tangent
    from latentgeom.metrics.constant_curvature import (
        stereographic_to_tangent as stereographic_to_tangent,
    )
    from latentgeom.metrics.constant_curvature import tangent_to_ambient as tangent_to_ambient
    from latentgeom.metrics.constant_curvature import tangent_to_half_plane as tangent_to_half_plane
    from latentgeom.metrics.constant_curvature import (
        tangent_to_stereographic as tangent_to_stereographic,
    )
    from latentgeom.metrics.conversion import curvature_of as curvature_of
    from latentgeom.metrics.conversion import from_geoopt as from_geoopt
    from latentgeom.metrics.conversion import to_geoopt as to_geoopt
    from latentgeom.metrics.explicit import ConstantCurvature as ConstantCurvature
    from latentgeom.metrics.explicit import Euclidean as Euclidean
    from latentgeom.metrics.explicit import Product as Product
    from latentgeom.metrics.explicit import hyperbolic as hyperbolic
    from latentgeom.metrics.explicit import sphere as sphere
    from latentgeom.metrics.metric import Metric as Metric
    from latentgeom.metrics.spd import PositiveDefinite as PositiveDefinite
    from latentgeom.models.latent_model import LatentModel as LatentModel
    from latentgeom.models.losses import RelaxedPenalty as RelaxedPenalty
    from latentgeom.models.losses import conformal_distortion as conformal_distortion
    from latentgeom.models.losses import isometry_loss as isometry_loss
    from latentgeom.models.losses import relative_metric as relative_metric
    from latentgeom.models.losses import relaxed_distortion as relaxed_distortion
    from latentgeom.models.losses import volume_distortion as volume_distortion
    from latentgeom.models.networks import Autoencoder as Autoencoder
    from latentgeom.models.networks import Perceptron as Perceptron
    from latentgeom.models.networks import SizedAutoencoder as SizedAutoencoder
    from latentgeom.models.objective import Objective as Objective
    from latentgeom.models.objective import isometric_objective as isometric_objective
    from latentgeom.pairs.distances import distance_matrix as distance_matrix
    from latentgeom.pairs.starts import bent_curves as bent_curves
    from latentgeom.pairs.starts import graph_curves as graph_curves
    from latentgeom.pairs.starts import spread as spread
    from latentgeom.pairs.transport import pole_ladder as pole_ladder
    from latentgeom.pullback.data_metrics import LocalAverage as LocalAverage
    from latentgeom.pullback.data_metrics import LocalVariance as LocalVariance
    from latentgeom.pullback.data_metrics import RadialCost as RadialCost
    from latentgeom.pullback.data_metrics import local_discriminants as local_discriminants
    from latentgeom.pullback.data_metrics import local_mahalanobis as local_mahalanobis
    from latentgeom.pullback.deviation import RadialDeviation as RadialDeviation
    from latentgeom.pullback.deviation import fit_deviation as fit_deviation
    from latentgeom.pullback.deviation import radial_deviation as radial_deviation
    from latentgeom.pullback.ensembles import Ensemble as Ensemble
    from latentgeom.pullback.ensembles import ExpectedMetric as ExpectedMetric
    from latentgeom.pullback.ensembles import ensemble_geodesics as ensemble_geodesics
    from latentgeom.pullback.ensembles import expected_energy as expected_energy
    from latentgeom.pullback.numerical import NumericalMetric as NumericalMetric
    from latentgeom.pullback.numerical import TensorField as TensorField
    from latentgeom.pullback.pullback import Blend as Blend
    from latentgeom.pullback.pullback import Conformal as Conformal
    from latentgeom.pullback.pullback import EnrichedPullback as EnrichedPullback
    from latentgeom.pullback.pullback import Pullback as Pullback
    from latentgeom.pullback.pullback import Stacked as Stacked
    from latentgeom.pullback.pullback import ellipsoid as ellipsoid
    from latentgeom.pullback.pullback import torus as torus
    from latentgeom.reports.evaluation import DistortionReport as DistortionReport
    from latentgeom.reports.evaluation import PrincipalReport as PrincipalReport
    from latentgeom.reports.evaluation import distortion as distortion
    from latentgeom.reports.evaluation import induced_geodesics as induced_geodesics
    from latentgeom.reports.evaluation import principal_report as principal_report
    from latentgeom.reports.evaluation import random_pairs as random_pairs
    from latentgeom.reports.plots import LatentPlane as LatentPlane
    from latentgeom.reports.plots import draw_distances as draw_distances
    from latentgeom.reports.plots import draw_latent_plane as draw_latent_plane
    from latentgeom.reports.plots import draw_metric_plane as draw_metric_plane
    from latentgeom.reports.plots import poincare_disc as poincare_disc
    from latentgeom.shell.checkpoints import CheckpointError as CheckpointError
    from latentgeom.shell.errors import InputError as InputError
    from latentgeom.solvers.boundary import geodesics as geodesics
    from latentgeom.solvers.exponential import jacobi as jacobi
    from latentgeom.solvers.exponential import shoot as shoot
    from latentgeom.solvers.georce import georce as georce
    from latentgeom.solvers.means import frechet_mean as frechet_mean
    from latentgeom.solvers.solver import Solver as Solver
    from latentgeom.training.isometric import IsometricAutoencoder as IsometricAutoencoder

__version__ = "0.1.0"

_EXPORTS = {
    "Arrays": "data.arrays",
    "Autoencoder": "models.networks",
    "Blend": "pullback.pullback",
    "Chart": "immersions.immersion",
    "CheckpointError": "shell.checkpoints",
    "Conformal": "pullback.pullback",
    "ConstantCurvature": "metrics.explicit",
    "Curves": "fitting",
    "Diffeomorphism": "metrics.charts",
    "Digits": "data.digits",
    "DistortionReport": "reports.evaluation",
    "Ellipsoid": "immersions.surfaces",
    "EnrichedPullback": "pullback.pullback",
    "Ensemble": "pullback.ensembles",
    "Euclidean": "metrics.explicit",
    "ExpectedMetric": "pullback.ensembles",
    "Fitted": "fitting",
    "FrechetMean": "metrics.answers",
    "GeodesicBatch": "metrics.answers",
    "Immersion": "immersions.immersion",
    "InputError": "shell.errors",
    "IsometricAutoencoder": "training.isometric",
    "LatentModel": "models.latent_model",
    "LatentPlane": "reports.plots",
    "LocalAverage": "pullback.data_metrics",
    "LocalVariance": "pullback.data_metrics",
    "Metric": "metrics.metric",
    "NumericalMetric": "pullback.numerical",
    "Observations": "data.observations",
    "Perceptron": "models.networks",
    "Objective": "models.objective",
    "PositiveDefinite": "metrics.spd",
    "PrincipalReport": "reports.evaluation",
    "Product": "metrics.explicit",
    "Pullback": "pullback.pullback",
    "RadialCost": "pullback.data_metrics",
    "RadialDeviation": "pullback.deviation",
    "RelaxedPenalty": "models.losses",
    "Samples": "data.observations",
    "Scaling": "data.scaling",
    "Scaled": "metrics.charts",
    "SizedAutoencoder": "models.networks",
    "Solver": "solvers.solver",
    "Stacked": "pullback.pullback",
    "TensorField": "pullback.numerical",
    "Torus": "immersions.surfaces",
    "ambient_to_tangent": "metrics.constant_curvature",
    "bent_curves": "pairs.starts",
    "christoffel": "immersions.curvature",
    "conformal_distortion": "models.losses",
    "curvature_of": "metrics.conversion",
    "distance_matrix": "pairs.distances",
    "distortion": "reports.evaluation",
    "draw_distances": "reports.plots",
    "draw_latent_plane": "reports.plots",
    "draw_metric_plane": "reports.plots",
    "ellipsoid": "pullback.pullback",
    "ensemble_geodesics": "pullback.ensembles",
    "expected_energy": "pullback.ensembles",
    "fit": "fitting",
    "fit_deviation": "pullback.deviation",
    "frechet_mean": "solvers.means",
    "from_geoopt": "metrics.conversion",
    "gaussian_curvature": "immersions.curvature",
    "geodesics": "solvers.boundary",
    "georce": "solvers.georce",
    "graph_curves": "pairs.starts",
    "half_plane": "metrics.charts",
    "half_plane_to_tangent": "metrics.constant_curvature",
    "hyperbolic": "metrics.explicit",
    "induced_geodesics": "reports.evaluation",
    "isometric_objective": "models.objective",
    "isometry_loss": "models.losses",
    "jacobi": "solvers.exponential",
    "levi_civita": "immersions.curvature",
    "local_discriminants": "pullback.data_metrics",
    "local_mahalanobis": "pullback.data_metrics",
    "poincare_ball": "metrics.charts",
    "poincare_disc": "reports.plots",
    "poincare_ellipsoid": "metrics.charts",
    "pole_ladder": "pairs.transport",
    "principal_report": "reports.evaluation",
    "radial_deviation": "pullback.deviation",
    "random_pairs": "reports.evaluation",
    "relative_metric": "models.losses",
    "relaxed_distortion": "models.losses",
    "riemann": "immersions.curvature",
    "sectional_curvature": "immersions.curvature",
    "shoot": "solvers.exponential",
    "sphere": "metrics.explicit",
    "spread": "pairs.starts",
    "stereographic_to_tangent": "metrics.constant_curvature",
    "tangent_to_ambient": "metrics.constant_curvature",
    "tangent_to_half_plane": "metrics.constant_curvature",
    "tangent_to_stereographic": "metrics.constant_curvature",
    "to_geoopt": "metrics.conversion",
    "torus": "pullback.pullback",
    "volume_distortion": "models.losses",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
