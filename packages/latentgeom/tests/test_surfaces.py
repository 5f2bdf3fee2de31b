import math

import pytest
import torch
from geographiclib.geodesic import Geodesic
from scipy.integrate import quad

from latentgeom.immersions.surfaces import Ellipsoid, Torus
from latentgeom.solvers.boundary import geodesics

FLATTENING = 1 / 298.257223563


def unit_vectors(generator, *shape):
    x = torch.randn(*shape, 3, generator=generator)
    return x / x.norm(dim=-1, keepdim=True)


def sphere_dist(a, b):
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def far_pairs(generator, count):
    """Pairs of unit vectors closer than 0.9 of the half circumference."""
    a, b = unit_vectors(generator, 2, 2 * count)
    below = sphere_dist(a, b) < 0.9 * math.pi
    return a[below][:count], b[below][:count]


def test_sphere_distances_are_exact_through_the_poles(generator):
    a, b = far_pairs(generator, 200)
    _close_enough(Ellipsoid(torch.ones(3)), a, b, sphere_dist(a, b))


def _close_enough(surface, a, b, exact, oracle=0.0):
    """Errors within the bounds of both precisions, and estimated up to the oracle's own."""
    batch = geodesics(surface, a, b, num_segments=32)
    error = (batch.length - exact).abs() / exact
    assert batch.converged.all()
    assert error.median() < 1e-8
    assert error.max() < 1e-6
    slack = batch.error_estimate + oracle * exact
    assert ((batch.length - exact).abs() <= slack).double().mean() > 0.99
    single = geodesics(surface, a.float(), b.float(), tolerance=1e-6)
    error = (single.length - exact).abs() / exact
    assert single.converged.all()
    assert error.max() < 1e-4


@pytest.mark.parametrize("flattening", [FLATTENING, 0.2])
def test_ellipsoid_distances_are_those_of_geographiclib(generator, flattening):
    a, b = far_pairs(generator, 1000)
    axes = torch.tensor([1.0, 1.0, 1 - flattening])
    x, y = a * axes, b * axes
    earth = Geodesic(1.0, flattening)

    def latitude_longitude(p):
        slope = torch.atan2(p[:, 2], p[:, :2].norm(dim=-1) * (1 - flattening) ** 2)
        return torch.rad2deg(slope).tolist(), torch.rad2deg(torch.atan2(p[:, 1], p[:, 0])).tolist()

    ends = zip(*latitude_longitude(x), *latitude_longitude(y), strict=True)
    exact = torch.tensor([earth.Inverse(*end)["s12"] for end in ends])
    # The series of geographiclib is for small flattening.
    _close_enough(Ellipsoid(axes), x, y, exact, oracle=0.0 if flattening < 0.01 else 1e-7)


def clairaut(torus, psi_0, psi_1, momentum):
    """Azimuth and length of a geodesic of the torus between two tube angles."""
    rho = lambda psi: torus.major + torus.minor * math.cos(psi)  # noqa: E731
    root = lambda psi: math.sqrt(rho(psi) ** 2 - momentum**2)  # noqa: E731
    azimuth = quad(
        lambda p: torus.minor * momentum / (rho(p) * root(p)), psi_0, psi_1, epsabs=1e-13
    )
    length = quad(lambda p: torus.minor * rho(p) / root(p), psi_0, psi_1, epsabs=1e-13)
    return azimuth[0], length[0]


def on_torus(torus, psi, phi):
    psi, phi = torch.as_tensor(psi), torch.as_tensor(phi)
    rho = torus.major + torus.minor * psi.cos()
    return torch.stack([rho * phi.cos(), rho * phi.sin(), torus.minor * psi.sin()], -1)


def test_torus_distances_obey_clairaut(generator):
    torus = Torus(2.0, 0.7)
    draw = torch.rand(3, 100, generator=generator)
    psi_0 = 0.2 + 0.5 * draw[0]
    psi_1 = psi_0 + 0.3 + 1.2 * draw[1]
    momentum = 1.2 * draw[2]
    values = zip(psi_0.tolist(), psi_1.tolist(), momentum.tolist(), strict=True)
    exact = torch.tensor([clairaut(torus, *value) for value in values])
    a, b = on_torus(torus, psi_0, torch.zeros(100)), on_torus(torus, psi_1, exact[:, 0])
    _close_enough(torus, a, b, exact[:, 1])


def test_retraction_is_the_identity_to_first_order(generator):
    for surface in (Ellipsoid(torch.tensor([1.0, 2.0, 0.5])), Torus(2.0, 0.5)):
        x = surface.projx(torch.randn(50, 3, generator=generator))
        delta = torch.randn(50, 2, generator=generator)
        moved = surface.retract(x, 1e-6 * delta) - x
        torch.testing.assert_close(moved.norm(dim=-1), 1e-6 * delta.norm(dim=-1), rtol=1e-4, atol=0)
        assert (moved * surface.normal(x)).sum(-1).abs().max() < 1e-10
        surface.check(x, "x")


def test_points_off_the_surface_are_refused(generator):
    a, b = unit_vectors(generator, 2, 5)
    with pytest.raises(ValueError, match="a must lie on the Ellipsoid, got a point off by"):
        geodesics(Ellipsoid(torch.ones(3)), 1.01 * a, b)
    with pytest.raises(ValueError, match="radii must be"):
        Torus(1.0, 2.0)
    with pytest.raises(ValueError, match="axes must be"):
        Ellipsoid(torch.tensor([1.0, -1.0]))


def test_antipodes_of_a_sphere_are_flagged(generator):
    a = unit_vectors(generator, 5)
    b = -a
    b[1:] = unit_vectors(generator, 4)
    batch = geodesics(Ellipsoid(torch.ones(3)), a, b)
    assert batch.converged.tolist() == [False, True, True, True, True]
