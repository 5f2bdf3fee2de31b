import math

import pytest
import torch

from neural_lam.graphs.construction import (
    Grid,
    Icosahedral,
    Rectangular,
    Triangular,
    sphere_edge_set,
)
from neural_lam.graphs.mesh import sphere_points
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.networks.hi_lam import HiLAM


def planar(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return Grid(torch.stack((x, y), -1).reshape(-1, 2).double(), (rows, columns))


def spherical(latitudes, longitudes):
    latitude, longitude = torch.meshgrid(latitudes.double(), longitudes.double(), indexing="ij")
    positions = torch.stack((longitude, latitude), -1).reshape(-1, 2)
    return Grid(positions, tuple(latitude.shape), latitude.flatten(), longitude.flatten())


GLOBE = spherical(torch.linspace(-90, 90, 19), torch.arange(0, 360, 10))
AREA = spherical(torch.linspace(48, 60, 25), torch.linspace(-10, 4, 29))
CASES = [
    (Rectangular(), planar(27, 27)),
    (Rectangular(num_nearest=0), planar(20, 31)),
    (Rectangular(refinement=4, num_levels=1, radius=0.75), planar(33, 49)),
    (Rectangular(hierarchical=True), planar(33, 49)),
    (Triangular(3.0), planar(20, 31)),
    (Triangular(3.0, num_levels=3), planar(20, 31)),
    (Triangular(2.5, num_levels=2, refinement=3, hierarchical=True), planar(20, 31)),
    (Icosahedral(2), GLOBE),
    (Icosahedral(3, num_levels=3, hierarchical=True), GLOBE),
    (Icosahedral(6, num_levels=3), AREA),
    (Icosahedral(6, num_levels=3, hierarchical=True), AREA),
]


@pytest.mark.parametrize(("mesh", "grid"), CASES)
def test_every_grid_node_is_encoded_and_decoded(mesh, grid):
    graph = mesh.build(grid)
    nodes = torch.arange(len(grid.positions))
    assert torch.equal(graph.g2m.senders.unique(), nodes)
    assert torch.equal(graph.m2g.receivers.unique(), nodes)
    assert len(graph.up) == len(graph.down) == len(graph.m2m) - 1 == len(graph.mesh) - 1
    assert (len(graph.m2m) > 1) == mesh.hierarchical
    ends = [len(level) for level in graph.mesh]
    for low, (up, down) in enumerate(zip(graph.up, graph.down, strict=True)):
        pairs = {(s, r) for s, r in up.edge_index.T.tolist()}
        assert {(r, s) for s, r in down.edge_index.T.tolist()} == pairs
        # Every node but those of the coarsest level has someone to tell.
        assert torch.equal(up.senders.unique(), torch.arange(ends[low]))
        assert torch.equal(up.receivers.unique(), torch.arange(ends[low + 1]))
    for edges in (graph.g2m, graph.m2g, *graph.m2m, *graph.up, *graph.down):
        assert int(edges.senders.max()) < edges.num_senders
        assert int(edges.receivers.max()) < edges.num_receivers
        assert bool((edges.receivers.diff() >= 0).all())


@pytest.mark.parametrize(("mesh", "grid"), [CASES[i] for i in (5, 6, 8, 9)])
def test_networks_run_on_every_mesh(mesh, grid):
    kind = HiLAM if mesh.hierarchical else GraphLAM
    network = kind(mesh.build(grid), 2, 1, hidden_size=4, num_layers=1)
    output = network(torch.ones(len(grid.positions), 1, 2), network.embed())
    assert torch.isfinite(output).all()


def test_a_radius_that_leaves_grid_nodes_out_is_refused():
    for mesh, grid in (
        (Rectangular(radius=0.4), planar(27, 27)),
        (Triangular(3.0, radius=0.3), planar(27, 27)),
        (Icosahedral(3, radius=0.3), GLOBE),
    ):
        with pytest.raises(ValueError, match="sender nodes have no edge"):
            mesh.build(grid)


def test_a_grid_without_what_a_mesh_needs_is_refused():
    points = torch.rand(30, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="needs a grid with rows and columns"):
        Rectangular().build(Grid(points))
    with pytest.raises(ValueError, match="needs a grid with latitudes and longitudes"):
        Icosahedral(2).build(Grid(points))
    with pytest.raises(ValueError, match="num_nearest must be at least 0, got -1"):
        Rectangular(num_nearest=-1).build(planar(9, 9))
    for mesh, grid in ((Triangular(3.0, hierarchical=True), planar(9, 9)),
                       (Rectangular(num_levels=1, hierarchical=True), planar(9, 9)),
                       (Icosahedral(2, num_levels=1, hierarchical=True), GLOBE)):  # fmt: skip
        with pytest.raises(ValueError, match="needs at least 2 levels, got 1"):
            mesh.build(grid)


def test_a_triangular_mesh_takes_points_in_any_order():
    points = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).double() * 10
    graph = Triangular(1.5, num_levels=2).build(Grid(points))
    assert torch.equal(graph.m2g.receivers, torch.arange(200).repeat_interleave(3))


def test_an_area_takes_its_part_of_the_icosahedron():
    whole = Icosahedral(2, num_levels=2).build(GLOBE)
    assert [len(level) for level in whole.mesh] == [10 * 4**2 + 2]
    part = Icosahedral(6, num_levels=3, hierarchical=True).build(AREA)
    assert len(part.mesh[0]) < (10 * 4**6 + 2) / 20
    centre = sphere_points(torch.tensor([54.0]), torch.tensor([-3.0]))
    for level in part.mesh:
        assert float((level @ centre.T).min()) > math.cos(math.radians(25))


def rotation(longitude):
    c, s = math.cos(longitude), math.sin(longitude)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]).double()


def test_features_on_the_sphere_are_local():
    """Turning everything about the axis changes no feature; a pole is no exception."""
    points = sphere_points(
        torch.tensor([50.0, 52.0, -10.0, 90.0, 85.0]), torch.tensor([3.0, 7.0, 100.0, 0.0, 20.0])
    )
    edges = torch.tensor([[0, 1, 4, 2, 3], [1, 0, 3, 2, 4]])
    here = sphere_edge_set(points, points, edges, 0.5)
    turned = points @ rotation(1.3).T
    there = sphere_edge_set(turned, turned, edges, 0.5)
    kept = here.receivers != 3
    torch.testing.assert_close(
        there.edge_features[kept], here.edge_features[kept], rtol=0, atol=2e-6
    )
    length = (points[here.senders] - points[here.receivers]).norm(dim=1) / 0.5
    torch.testing.assert_close(here.edge_features[:, 0], length.float())
    assert bool(torch.isfinite(here.edge_features).all())
    # The sender east of the receiver at nearly the same latitude lies in direction y.
    east = here.edge_features[(here.senders == 1) & (here.receivers == 0)][0]
    assert float(east[2]) > 0
    # The sender to the north lies in direction z.
    assert float(east[3]) > 0
