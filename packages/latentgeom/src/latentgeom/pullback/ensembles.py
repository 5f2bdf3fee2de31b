r"""Geodesics of an ensemble of decoders, by expectations in closed form.

With members :math:`f_1, \dots, f_L`, mean :math:`\bar f` and covariance :math:`C(z)` over
members, two metrics are in use:

- the **expected metric** :math:`\frac1L \sum_l J_l^\top J_l` is the pullback of the map
  :math:`z \mapsto (f_1, \dots, f_L) / \sqrt L`: any solver takes :class:`Ensemble` as it is;
- the **expected energy** draws a member anew at each node of a curve,

  .. math::

      \frac T2 \sum_i \mathbb{E}_{l,k} |f_l(z_{i+1}) - f_k(z_i)|^2
      = \frac T2 \sum_i \bigl( |\bar f(z_{i+1}) - \bar f(z_i)|^2
      + \mathrm{tr}\, C(z_i) + \mathrm{tr}\, C(z_{i+1}) \bigr) ,

  a sum of squares, of mean and of deviations :math:`(f_l - \bar f) / \sqrt L`: no draws, one
  deterministic least-squares problem for the batched solver.  It depends on the number
  of nodes: each pays for the disagreement where it stands.

References:
    Syrota, Moreno-Muñoz & Hauberg (2024), Decoder Ensembling for Learned Latent Geometries;
    Detlefsen, Hauberg & Boomsma (2022), Learning Meaningful Representations of Proteins.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentgeom.immersions.immersion import Chart, jacobian
from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.metric import Metric, check_points
from latentgeom.pullback.numerical import NumericalMetric
from latentgeom.relaxation import curves
from latentgeom.relaxation.elements import chords
from latentgeom.relaxation.newton import relax, verified
from latentgeom.shell.showing import in_a_line
from latentgeom.solvers.boundary import check_segments
from latentgeom.solvers.memory import pairs_at_once
from latentgeom.solvers.reader import Reader
from latentgeom.solvers.solver import DEFAULT, Solver

__all__ = ["Ensemble", "ExpectedMetric", "ensemble_geodesics", "expected_energy"]

_REGULAR = 1e-6
_PATIENCE = 0.1  # relative difference between the nodes above which nothing is settled


class Ensemble(nn.Module):
    """Decoders side by side, over the root of their number.

    Arguments:
        members: Maps ``(..., d) -> (..., D)``.
    """

    __str__ = in_a_line

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member, got none")
        self.members = nn.ModuleList(members)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., d)`` to ``(..., L D)``: the map whose pullback is the expected metric."""
        values = [member(z) for member in self.members]
        stacked: Tensor = torch.cat(values, -1) / float(len(values)) ** 0.5
        return stacked

    def mean_and_deviations(self, z: Tensor) -> Tensor:
        """Mean, then all deviations over the root of their number, ``(..., (1 + L) D)``."""
        values = torch.stack([member(z) for member in self.members], -2)
        mean = values.mean(-2, keepdim=True)
        deviations = (values - mean) / len(self.members) ** 0.5
        return torch.cat([mean, deviations], -2).flatten(-2)


class ExpectedMetric(NumericalMetric):
    r"""Mean of several metrics of one space, :math:`\frac1L \sum_l G_l`, each of any kind.

    Arguments:
        members: Metrics of one dimension.
        solver: How geodesics are solved.
    """

    def __init__(self, members: Sequence[Metric], solver: Solver = DEFAULT) -> None:
        dims = {member.dim for member in members}
        if len(dims) != 1:
            raise ValueError(f"members need one dimension, got {sorted(dims)}")
        super().__init__(dims.pop(), solver)
        self.members = nn.ModuleList(members)

    @override
    def metric_tensor(self, z: Tensor) -> Tensor:
        tensors = [member.metric_tensor(z) for member in self.members]  # type: ignore[operator]
        return torch.stack(tensors).mean(0)

    @override
    def lower(self, z: Tensor, vectors: Tensor) -> Tensor:
        lowered = [member.lower(z, vectors) for member in self.members]  # type: ignore[operator]
        return torch.stack(lowered).mean(0)


def expected_energy(ensemble: Ensemble, nodes: Tensor) -> Tensor:
    """Expected energy of curves ``(B, T + 1, d)`` when each node draws its member, ``(B,)``."""
    both = ensemble.mean_and_deviations(nodes)
    features = both.shape[-1] // (1 + len(ensemble.members))
    mean, trace = both[..., :features], both[..., features:].square().sum(-1)
    steps = mean.diff(dim=-2).square().sum(-1) + trace[..., 1:] + trace[..., :-1]
    return steps.sum(-1) * (nodes.shape[-2] - 1) / 2


@torch.no_grad()
def ensemble_geodesics(
    ensemble: Ensemble,
    a: Tensor,
    b: Tensor,
    *,
    num_segments: int = 16,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
    initial: Tensor | None = None,
    memory_gb: float = 1.0,
) -> GeodesicBatch:
    """Curves of least expected energy between given points.

    Arguments:
        ensemble: Decoders.
        a: Start points, ``(B, d)``.
        b: End points, ``(B, d)``.
        num_segments: Segments ``T``, a multiple of 4 and at least 8; the answer depends on them.
        tolerance: Largest relative decrease of the energy still to be expected.
        max_iterations: Steps of each of the two stages.
        initial: Curves to start from, ``(B, S + 1, d)``; straight lines if none.
        memory_gb: Memory that the solver may take, in gigabytes; many pairs are solved in parts.

    Returns:
        Curves; ``length`` is the root of twice the expected energy, and ``error_estimate`` how
        far it may be from that of the discrete minimum.

    References:
        Syrota, Moreno-Muñoz & Hauberg (2024), Decoder Ensembling for Learned Latent Geometries,
        arXiv:2408.07507.
    """
    check_segments(a, b, num_segments)
    for name, points in (("a", a), ("b", b)):
        check_points(points, a.shape[-1], name)
    chart = Chart(ensemble.mean_and_deviations, a.shape[-1])
    count = pairs_at_once(chart, partial(jacobian, chart), a, num_segments, memory_gb)
    line = curves.straight(a, b, num_segments) if initial is None else initial
    parts = zip(a.split(count), b.split(count), line.split(count), strict=True)  # type: ignore[no-untyped-call]
    options = {"tolerance": tolerance, "max_iterations": max_iterations}
    batches = [_solved(ensemble, chart, *part, num_segments, **options) for part in parts]  # type: ignore[arg-type]
    return GeodesicBatch(*(torch.cat(column) for column in zip(*batches, strict=True)))


def _solved(
    ensemble: Ensemble,
    chart: Chart,
    a: Tensor,
    b: Tensor,
    line: Tensor,
    num_segments: int,
    *,
    tolerance: float,
    max_iterations: int,
) -> GeodesicBatch:
    features = chart.embed(a[:1]).shape[-1] // (1 + len(ensemble.members))
    grid = chords(num_segments, 1).to(a).anchored(features)
    inner = curves.resample(line, num_segments)[:, 1:-1]
    nodes = torch.cat([a.unsqueeze(1), inner, b.unsqueeze(1)], 1)
    options = {"tolerance": tolerance, "max_iterations": max_iterations}
    first = relax(chart, grid, nodes, tolerance=1e-3, max_iterations=max_iterations, newton=False)
    nodes = torch.cat([nodes[:, :1], first.inner, nodes[:, -1:]], 1)
    found = relax(chart, grid, nodes, **options)  # type: ignore[arg-type]
    length = (2 * found.energy).sqrt()
    found = verified(chart, grid, found)
    settled = (found.decrement <= tolerance) & (found.pivot > _REGULAR)
    whole = torch.cat([nodes[:, :1], found.inner, nodes[:, -1:]], 1)
    # The mean's curve and the spread, between the nodes too, are to be what was supposed.
    gap = Reader(chart, grid._replace(free=None), whole, found.image, length).gap
    settled = settled & (gap <= _PATIENCE * length + _rounding(found.image))
    resting = length <= _rounding(found.image)
    return GeodesicBatch(
        torch.cat([nodes[:, :1], found.inner, nodes[:, -1:]], 1),
        length,
        torch.where(resting, 0.0, length * found.decrement / 4 + 2 * gap),
        (settled & torch.isfinite(length)) | resting,
        first.iterations + found.iterations,
    )


def _rounding(image: Tensor) -> Tensor:
    """What the images' rounding makes of a length, ``(B,)``."""
    size: Tensor = torch.linalg.vector_norm(image, dim=-1).amax(-1)
    return torch.finfo(image.dtype).eps * image.shape[1] ** 2 * size
