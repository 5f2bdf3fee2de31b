import math

import pytest
import torch
from geographiclib.geodesic import Geodesic

from latentgeom.immersions.immersion import Chart
from latentgeom.immersions.surfaces import Ellipsoid
from latentgeom.pairs.starts import bent_curves, graph_curves, spread
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
