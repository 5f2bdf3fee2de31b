import geoopt
import pytest
import torch

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.conversion import curvature_of, from_geoopt, to_geoopt

MANIFOLDS = {
    "lorentz": lambda: geoopt.Lorentz(2.0),
    "ball": lambda: geoopt.PoincareBall(0.7),
    "stereographic": lambda: geoopt.Stereographic(0.5),
    "sphere": geoopt.Sphere,
    "euclidean": lambda: geoopt.Euclidean(1),
}


@pytest.mark.parametrize("name", MANIFOLDS)
def test_distances_survive_the_way_there_and_back(generator, name):
    manifold = MANIFOLDS[name]().double()
    u, v = torch.randn(2, 50, 3, generator=generator) * 0.5
    x, y = to_geoopt(u, manifold), to_geoopt(v, manifold)
    assert manifold.check_point_on_manifold(x)
    torch.testing.assert_close(from_geoopt(x, manifold), u, rtol=1e-6, atol=1e-6)
    ours = cc.dist(u, v, curvature_of(manifold))
    torch.testing.assert_close(manifold.dist(x, y), ours, rtol=1e-5, atol=1e-6)


def test_other_manifolds_are_refused():
    with pytest.raises(ValueError, match="no constant curvature known for BirkhoffPolytope"):
        curvature_of(geoopt.BirkhoffPolytope())
