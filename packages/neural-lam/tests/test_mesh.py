import itertools
import math

import pytest
import torch

from neural_lam.graphs.connectivity import containing_triangle
from neural_lam.graphs.mesh import (
    containing_cell,
    icosahedral_levels,
    lattice_edges,
    merge_levels,
    rectangular_levels,
    sphere_points,
    triangular_levels,
)


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


def test_a_cell_holds_the_points_between_its_corners():
    shape, refinement = (20, 31), 3
    points = lattice(*shape)
    level = rectangular_levels(points, shape, refinement=refinement, num_levels=1)[0]
    corner, point = containing_cell(shape, refinement)
    assert torch.equal(point, torch.arange(len(points)).repeat_interleave(4))
    at = level.positions[corner].reshape(-1, 4, 2)
    low, high = at.amin(1), at.amax(1)
    assert bool(((high - low) == refinement).all())
    covered = (level.positions.amin(0) <= points) & (points <= level.positions.amax(0))
    inside = (low <= points) & (points <= high)
    assert torch.equal(inside[covered.all(1)], torch.ones_like(inside[covered.all(1)]))
    # Points beyond the outermost nodes take the nearest cell.
    assert float((low - points).clamp(min=0).max()) <= refinement / 2
    assert float((points - high).clamp(min=0).max()) <= refinement / 2


@pytest.mark.parametrize(("refinement", "num_levels"), [(2, 1), (2, 3), (3, 2)])
def test_a_triangular_mesh_is_one_of_equilateral_triangles(refinement, num_levels):
    points = lattice(23, 40)
    levels = triangular_levels(points, 2.5, refinement=refinement, num_levels=num_levels)
    assert len(levels) == num_levels
    for number, level in enumerate(levels):
        side = 2.5 * refinement**number
        torch.testing.assert_close(level.edge_lengths, torch.full_like(level.edge_lengths, side))
        corners = level.positions[level.triangles]
        sides = corners - corners.roll(1, 1)
        torch.testing.assert_close(sides.norm(dim=2), torch.full(corners.shape[:2], side).double())
        u, v = sides[:, 0], sides[:, 1]
        assert bool((u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] > 0).all())
        degree = torch.bincount(level.edge_index[1])
        assert int(degree.max()) == 6
        rows, columns = level.shape
        assert len(level.triangles) == 2 * (rows - 1) * (columns - 1)
        # Euler: of a disc, nodes - edges + faces = 1; every edge is listed in both directions.
        edges = level.edge_index.shape[1] // 2
        assert len(level.positions) - edges + len(level.triangles) == 1
        assert len(level.edge_index.unique(dim=1).T) == level.edge_index.shape[1]


def test_triangular_levels_are_nested_and_cover_the_points():
    points = lattice(23, 40)
    levels = triangular_levels(points, 2.0, num_levels=3)
    for fine, coarse in itertools.pairwise(levels):
        torch.testing.assert_close(coarse.positions, fine.positions[coarse.parents])
    assert len(merge_levels(levels).positions) == len(levels[0].positions)
    for level in levels:
        edges = containing_triangle(level.positions, level.triangles, points)
        assert torch.equal(edges[1].unique(), torch.arange(len(points)))


@pytest.mark.parametrize("splits", [0, 1, 2, 4])
def test_an_icosahedral_mesh_has_the_counts_of_euler(splits):
    level = icosahedral_levels(splits)[0]
    nodes, faces = 10 * 4**splits + 2, 20 * 4**splits
    assert level.positions.shape == (nodes, 3)
    assert level.triangles.shape == (faces, 3)
    assert level.edge_index.shape == (2, 3 * faces)
    assert len(level.edge_index.unique(dim=1).T) == 3 * faces
    degree = torch.bincount(level.edge_index[1])
    assert int((degree == 5).sum()) == 12
    assert int((degree == 6).sum()) == nodes - 12
    torch.testing.assert_close(level.positions.norm(dim=1), torch.ones(nodes).double())
    assert float(level.edge_lengths.max() / level.edge_lengths.min()) < 1.25
    # Volumes of the cones over the faces add up to nearly that of the ball.
    a, b, c = level.positions[level.triangles].unbind(1)
    volume = (a.cross(b, dim=1) * c).sum(1) / 6
    assert bool((volume > 0).all())
    missing = 1 - float(volume.sum()) / (4 * math.pi / 3)
    assert 0 < missing < 0.42 * 0.31**splits


def test_coarse_icosahedra_are_the_first_nodes_of_finer_ones():
    levels = icosahedral_levels(3)
    assert len(levels) == 4
    side = 1 / math.sin(2 * math.pi / 5)
    torch.testing.assert_close(levels[-1].edge_lengths, torch.full((60,), side).double())
    for fine, coarse in itertools.pairwise(levels):
        assert torch.equal(coarse.positions, fine.positions[: len(coarse.positions)])
        assert torch.equal(coarse.parents, torch.arange(len(coarse.positions)))
    merged = merge_levels(levels[:2])
    assert merged.edge_index.shape[1] == levels[0].edge_index.shape[1] * 5 // 4


def test_points_of_the_sphere_are_where_they_should_be():
    latitude, longitude = torch.tensor([[0, 0, 90, -30], [0, 90, 7, 180]]).double()
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-math.sqrt(0.75), 0, -0.5]]
    torch.testing.assert_close(
        sphere_points(latitude, longitude), torch.tensor(expected).double(), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: triangular_levels(lattice(3, 3), 0.0), "spacing must be positive, got 0.0"),
        (lambda: triangular_levels(lattice(3, 3), 1.0, refinement=1), "refinement must be at"),
        (lambda: triangular_levels(lattice(3, 3), 1.0, num_levels=0), "num_levels must be at"),
        (lambda: icosahedral_levels(-1), "splits must be at least 0, got -1"),
        (lambda: icosahedral_levels(2, num_levels=4), r"from 1 to splits \+ 1 = 3, got 4"),
    ],
)  # fmt: skip
def test_meshes_of_impossible_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
