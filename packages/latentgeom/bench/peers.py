"""The peers, each called as its documentation says; only run, on one thread.

- stochman 0.3.0: cubic splines and Adam on the discrete energy, all pairs at once.
- latent-geometry 1.1.0: scipy's ``solve_bvp``, a pair at a time.
- geomstats 2.8.0: logarithm by ``solve_bvp``, a pair at a time; it needs
  two names that numpy 2.4 dropped.
"""

import os
from collections.abc import Callable

import numpy as np
import torch
from problems import Decoder, Problem, curve_length
from torch import Tensor

__all__ = ["geomstats", "latent_geometry", "stochman"]


def stochman(num_nodes: int, iterations: int, grid: int) -> Callable[[Problem], Tensor]:
    """Spline geodesics with the given number of nodes, Adam steps and points of the energy."""
    from stochman.curves import CubicSpline
    from stochman.geodesic import geodesic_minimizing_energy
    from stochman.manifold import EmbeddedManifold

    class Manifold(EmbeddedManifold):
        def __init__(self, decoder: Decoder) -> None:
            self.decoder = decoder

        def embed(self, points: Tensor, jacobian: bool = False) -> Tensor:
            return self.decoder(points)

    def solve(problem: Problem) -> Tensor:
        torch.manual_seed(0)
        curve = CubicSpline(problem.a, problem.b, num_nodes=num_nodes)
        manifold = Manifold(problem.decoder)
        geodesic_minimizing_energy(curve, manifold, max_iter=iterations, eval_grid=grid)
        with torch.no_grad():
            t = torch.linspace(0, 1, 1001, dtype=torch.float64)
            return curve_length(problem, curve(t))

    return solve


def latent_geometry() -> Callable[[Problem], Tensor]:
    """Boundary-value problems at the package's default tolerance."""
    from latent_geometry.manifold.latent import LatentManifold
    from latent_geometry.mapping import TorchModelMapping
    from latent_geometry.metric import EuclideanMetric

    class Module(torch.nn.Module):
        def __init__(self, decoder: Decoder) -> None:
            super().__init__()
            self.decoder = decoder
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, z: Tensor) -> Tensor:
            return self.decoder(z.double()).float()

    def solve(problem: Problem) -> Tensor:
        mapping = TorchModelMapping(Module(problem.decoder), (2,), (50,), 64)
        manifold = LatentManifold(mapping, EuclideanMetric(), solver_tol=1e-3, bvp_n_mesh_nodes=10)
        lengths = []
        for a, b in zip(problem.a.numpy(), problem.b.numpy(), strict=True):
            try:
                path = manifold.shortest_path(a, b)
                curve = np.stack([np.asarray(path(t)).ravel() for t in np.linspace(0, 1, 201)])
                lengths.append(curve_length(problem, torch.tensor(curve)[None])[0])
            except Exception:  # a failed pair is a result of the peer, reported as such
                lengths.append(torch.tensor(torch.nan, dtype=torch.float64))
        return torch.stack(lengths)

    return solve


def geomstats() -> Callable[[Problem], Tensor]:
    """Logarithms of the pullback metric by the package's boundary-value solver."""
    os.environ["GEOMSTATS_BACKEND"] = "pytorch"
    for old, new in (("trapz", "trapezoid"), ("in1d", "isin")):
        if not hasattr(np, old):
            setattr(np, old, getattr(np, new))
    import geomstats.backend as gs
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean
    from geomstats.geometry.pullback_metric import PullbackMetric
    from geomstats.numerics.geodesic import LogODESolver

    class Surface(ImmersedSet):
        def __init__(self, decoder: Decoder) -> None:
            self.decoder = decoder
            super().__init__(dim=2, equip=False)

        def immersion(self, point: Tensor) -> Tensor:
            return self.decoder(point)

        def _define_embedding_space(self) -> Euclidean:
            return Euclidean(50)

    def solve(problem: Problem) -> Tensor:
        space = Surface(problem.decoder)
        space.equip_with_metric(PullbackMetric)
        space.metric.log_solver = LogODESolver(space, n_nodes=20, use_jac=False)
        lengths = []
        for a, b in zip(problem.a, problem.b, strict=True):
            try:
                start = gs.array(a.numpy())
                velocity = space.metric.log(gs.array(b.numpy()), start)
                lengths.append(float(space.metric.norm(velocity, start)))
            except Exception:  # a failed pair is a result of the peer, reported as such
                lengths.append(float("nan"))
        return torch.tensor(lengths, dtype=torch.float64)

    return solve
