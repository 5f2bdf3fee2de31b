import itertools

import pytest
import torch

from neural_lam.mesh import lattice_edges, merge_levels, rectangular_levels


def lattice(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2).double()


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 5), (7, 4)])
def test_lattice_edges_are_the_pairs_within_a_diagonal(rows, columns):
    points = lattice(rows, columns)
    distance = torch.cdist(points, points)
    expected = ((distance > 0) & (distance < 1.5)).nonzero().T
    edges = lattice_edges((rows, columns))
    assert {tuple(e) for e in edges.T.tolist()} == {tuple(e) for e in expected.T.tolist()}
    assert edges.shape == expected.shape


@pytest.mark.parametrize("size", [(9, 9), (10, 17), (64, 64), (33, 49), (101, 100)])
@pytest.mark.parametrize("refinement", [2, 3, 4])
def test_every_grid_point_is_near_a_node(size, refinement):
    points = lattice(*size)
    level = rectangular_levels(points, size, refinement=refinement, num_levels=1)[0]
    nearest = (torch.cdist(points, level.positions, p=float("inf"))).min(1).values
    assert float(nearest.max()) <= refinement // 2 + (refinement % 2 == 0) * 0 + 0.5
    assert level.shape == (-(-size[0] // refinement), -(-size[1] // refinement))


def test_coarse_nodes_are_nodes_of_the_finer_level():
    levels = rectangular_levels(lattice(81, 60), (81, 60))
    assert [level.shape for level in levels] == [(27, 20), (9, 7), (3, 3)]
    for fine, coarse in itertools.pairwise(levels):
        assert torch.equal(coarse.positions, fine.positions[coarse.parents])


def test_a_multiscale_mesh_has_the_edges_of_all_levels():
    levels = rectangular_levels(lattice(27, 27), (27, 27), num_levels=2)
    merged = merge_levels(levels)
    assert len(merged.positions) == 81
    length = (merged.positions[merged.edge_index[0]] - merged.positions[merged.edge_index[1]]).norm(
        dim=1
    )
    counts = {round(float(l), 6): int((length == l).sum()) for l in length.unique()}
    # A lattice of n x n has 4 n (n - 1) straight edges and 4 (n - 1)^2 diagonal ones.
    assert counts == {3.0: 288, round(3 * 2**0.5, 6): 256, 9.0: 24, round(9 * 2**0.5, 6): 16}


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="level 3 needs at least two nodes"):
        rectangular_levels(lattice(12, 12), (12, 12), num_levels=3)
    with pytest.raises(ValueError, match="refinement must be at least 2, got 1"):
        rectangular_levels(lattice(9, 9), (9, 9), refinement=1)
