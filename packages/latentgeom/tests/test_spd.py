import pytest
import torch

from latentgeom.metrics.spd import PositiveDefinite


@pytest.fixture
def metric():
    return PositiveDefinite(3)


def test_distance_is_affine_invariant(metric, generator):
    a, b = torch.randn(2, 20, 6, generator=generator) / 2
    change = torch.randn(3, 3, generator=generator)
    p, q = (torch.linalg.matrix_exp(metric.to_matrix(z)) for z in (a, b))
    ratio = torch.linalg.eigvals(torch.linalg.solve(p, q)).real
    torch.testing.assert_close(metric.dist(a, b), ratio.log().norm(dim=-1))
    moved = []
    for matrix in (p, q):
        values, basis = torch.linalg.eigh(change @ matrix @ change.mT)
        moved.append(metric.from_matrix(basis @ torch.diag_embed(values.log()) @ basis.mT))
    torch.testing.assert_close(metric.dist(*moved), metric.dist(a, b))


def test_coordinates_are_orthonormal(metric, generator):
    z = torch.randn(7, 6, generator=generator)
    torch.testing.assert_close(metric.from_matrix(metric.to_matrix(z)), z)
    torch.testing.assert_close(metric.to_matrix(z).norm(dim=(-2, -1)), z.norm(dim=-1))


def test_one_by_one_matrices_are_a_line(generator):
    a, b = torch.randn(2, 9, 1, generator=generator)
    torch.testing.assert_close(PositiveDefinite(1).dist(a, b), (a - b).abs().squeeze(-1))
