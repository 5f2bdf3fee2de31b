import math

import pytest
import torch
from geographiclib.geodesic import Geodesic

from latentgeom.immersions.immersion import Chart
from latentgeom.immersions.surfaces import Ellipsoid
from latentgeom.metrics.charts import half_plane
from latentgeom.metrics.explicit import ConstantCurvature, Product
from latentgeom.pairs.starts import bent_curves, graph_curves, spread
from latentgeom.pullback.numerical import TensorField
from latentgeom.pullback.pullback import Pullback
from latentgeom.solvers.boundary import geodesics


def hill(z):
    """A hill that geodesics pass on either side; off centre, so that one side is shorter."""
    square = z[..., :1].square() + (z[..., 1:] - 0.15).square()
    return torch.cat([z, 3 * (-square).exp()], -1)


HILL = Chart(hill, 2)
ENDS = torch.tensor([[[-2.0, 0.0], [-2.0, 2.5]], [[2.0, 0.0], [2.0, 2.5]]], dtype=torch.float64)


def test_several_starts_find_both_sides_of_a_hill(generator):
    best, width = spread(HILL, *ENDS, num_starts=6, amplitude=0.7, generator=generator)
    assert best.converged.all()
    assert width[0] > 1e-3
    assert (best.length <= geodesics(HILL, *ENDS).length + 1e-9).all()
    assert best.points[0, 16, 1] < 0


def test_bent_curves_keep_their_ends(generator):
    bent = bent_curves(HILL, *ENDS, amplitude=0.5, generator=generator)
    assert torch.equal(bent[:, 0], ENDS[0])
    assert torch.equal(bent[:, -1], ENDS[1])
    assert bent[:, 16].sub((ENDS[0] + ENDS[1]) / 2).norm(dim=-1).min() > 1e-3


def test_graph_paths_follow_the_data():
    angle = torch.linspace(0, torch.pi, 41)
    codes = torch.stack([angle.cos(), angle.sin()], -1)
    pairs = torch.tensor([[0, 40], [40, 3]])
    paths = graph_curves(Chart(lambda z: z, 2), codes, pairs, num_neighbors=3)
    assert torch.equal(paths[:, [0, -1]], codes[pairs])
    assert paths.norm(dim=-1).min() > 0.99


def test_parts_without_a_path_get_lines():
    codes = torch.tensor([[0.0, 0.0], [0.1, 0.0], [9.0, 0.0], [9.1, 0.0]])
    paths = graph_curves(Chart(lambda z: z, 2), codes, torch.tensor([[0, 3]]), num_neighbors=1)
    expected = torch.linspace(0, 9.1, 33)
    torch.testing.assert_close(paths[0, :, 0], expected)


def test_beyond_the_cut_locus_the_shorter_way_is_found(generator):
    flattening = 0.2
    # The equator is shortest up to 144 degrees.
    earth = Ellipsoid(torch.tensor([1.0, 1.0, 1 - flattening], dtype=torch.float64))
    angle = torch.tensor([2.0, 2.9], dtype=torch.float64)
    a = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(2, 3)
    b = torch.stack([angle.cos(), angle.sin(), 0 * angle], -1)
    exact = [Geodesic(1.0, flattening).Inverse(0, 0, 0, math.degrees(x))["s12"] for x in angle]
    exact = torch.tensor(exact, dtype=torch.float64)
    alone = geodesics(earth, a, b)
    assert alone.converged.tolist() == [True, False]  # along the equator: no minimum
    best, width = spread(earth, a, b, num_starts=6, generator=generator)
    assert best.converged.all()
    torch.testing.assert_close(best.length, exact, rtol=1e-8, atol=0)
    assert width[0] < 1e-8
    with pytest.raises(ValueError, match="num_starts must be at least 1, got 0"):
        spread(earth, a, b, num_starts=0, generator=generator)


CHOSEN = {
    "sphere": lambda: ConstantCurvature(2, 1.0),
    "half plane": lambda: half_plane(),
    "product": lambda: Product([ConstantCurvature(1, 1.0), ConstantCurvature(1, -1.0)]),
    "pullback": lambda: Pullback(hill, 2),
    "tensors": lambda: TensorField(ConstantCurvature(2, -1.0).metric_tensor, 2),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_starts_take_any_metric(generator, name):
    metric = CHOSEN[name]()
    codes = metric.projx(torch.randn(12, 2, generator=generator) / 2)
    a, b = codes[:3], codes[3:6]
    bent = bent_curves(metric, a, b, amplitude=0.3, generator=generator, num_segments=16)
    torch.testing.assert_close(bent[:, [0, -1]], torch.stack([a, b], 1))
    metric.check(bent)
    best, width = spread(metric, a, b, num_starts=3, generator=generator, num_segments=16)
    torch.testing.assert_close(best.length, metric.connect(a, b, 16).length, rtol=1e-4, atol=0)
    assert (width[best.converged] < 1e-3 * best.length[best.converged]).all()
    paths = graph_curves(metric, codes, torch.tensor([[0, 7], [3, 2]]), num_neighbors=4)
    torch.testing.assert_close(paths[:, [0, -1]], codes[torch.tensor([[0, 7], [3, 2]])])


def test_edges_of_a_graph_are_as_long_as_the_metric_says():
    # Two ways from left to right: the upper one is longer in the plane, shorter where it is flat.
    codes = torch.tensor([[-1.0, 0.0], [0.0, 0.1], [0.0, 0.9], [1.0, 0.0]])
    wall = TensorField(lambda z: (1 + 99 * (z[..., 1] < 0.3).to(z))[..., None, None]
                       * torch.eye(2), 2)  # fmt: skip
    pair = torch.tensor([[0, 3]])
    through = graph_curves(Chart(lambda z: z, 2), codes, pair, num_neighbors=2)
    around = graph_curves(wall, codes, pair, num_neighbors=2)
    assert through[0, :, 1].max() < around[0, :, 1].max()
