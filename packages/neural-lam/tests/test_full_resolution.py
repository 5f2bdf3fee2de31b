"""Same-grid edges: the same function as convolutions and as edges, and around any mesh."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from neural_lam import ConvLAM, Forecaster, FullResolution, GraphLAM, GriddedData, HiLAM
from neural_lam.graphs.construction import Grid, Icosahedral, Rectangular, Triangular
from neural_lam.graphs.mesh import sphere_points
from neural_lam.networks.convolutional import Padding
from neural_lam.networks.point_stencil import PointStencil, offsets_within, spacing_of

SHAPE = (12, 18)


def lattice(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2).double()


def graph(*, hierarchical=False):
    return Rectangular(hierarchical=hierarchical).build(Grid(lattice(*SHAPE), SHAPE))


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def wake(network):
    """Weights of a trained network's size, none of them zero."""
    for number, parameter in enumerate(network.parameters()):
        parameter.data.copy_(0.1 * normal(*parameter.shape, seed=number))
    return network


def make(over, network=GraphLAM, **options):
    inner = partial(network, hidden_size=8, num_layers=2)
    return FullResolution(over, 3, 2, network=inner, hidden_size=6, **options).double()


@pytest.mark.parametrize(("scale", "angle"), [(1.0, 0.0), (2.5e4, 0.0), (0.01, 90.0)])
def test_on_rows_and_columns_edges_are_the_convolution(scale, angle):
    turn = torch.tensor(angle).double().deg2rad()
    rotation = torch.stack((turn.cos(), -turn.sin(), turn.sin(), turn.cos())).reshape(2, 2)
    points = PointStencil(scale * lattice(*SHAPE) @ rotation.T + 17 * scale)
    image, weight, bias = normal(2, 3, *SHAPE), normal(4, 3, 3, 3, seed=1), normal(4, seed=2)
    along = points.convolve(image.reshape(2, 3, -1, 1), weight, bias).reshape(2, 4, *SHAPE)
    # Points turned by 90 degrees have taps turned back.
    turned = torch.rot90(weight, round(angle / 90), (2, 3))
    torch.testing.assert_close(along, F.conv2d(image, turned, bias, padding=1))
    if not angle:
        torch.testing.assert_close(along, Padding(False).convolve(image, weight, bias))


def test_gradients_of_both_forms_agree():
    points, image = PointStencil(lattice(*SHAPE)), normal(2, 3, *SHAPE).requires_grad_()
    weight, bias = normal(4, 3, 3, 3, seed=1).requires_grad_(), normal(4, seed=2).requires_grad_()
    outer = normal(2, 4, *SHAPE, seed=3)
    column = points.convolve(image.reshape(2, 3, -1, 1), weight, bias).reshape(2, 4, *SHAPE)
    for ours, theirs in zip(
        torch.autograd.grad((column * outer).sum(), (image, weight, bias)),
        torch.autograd.grad(
            (F.conv2d(image, weight, bias, padding=1) * outer).sum(), (image, weight, bias)
        ),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("network", [GraphLAM, HiLAM])
def test_the_whole_network_is_the_same_on_rows_and_on_points(network):
    over = graph(hierarchical=network is HiLAM)
    regular = wake(make(over._replace(shape=SHAPE), network))
    points = make(over._replace(shape=None), network)
    points.load_state_dict(regular.state_dict())
    x = normal(len(over.grid), 2, 3)
    torch.testing.assert_close(points(x, points.embed()), regular(x, regular.embed()))


def test_the_order_of_points_changes_nothing():
    scattered = lattice(*SHAPE) + 0.3 * (2 * torch.rand(216, 2, dtype=torch.float64) - 1)
    order = torch.randperm(216)
    image, weight, bias = normal(1, 3, 216, 1), normal(4, 3, 3, 3, seed=1), normal(4, seed=2)
    found = PointStencil(scattered).convolve(image, weight, bias)
    shuffled = PointStencil(scattered[order]).convolve(image[:, :, order], weight, bias)
    torch.testing.assert_close(shuffled, found[:, :, order])


def test_on_scattered_points_a_gradient_is_felt():
    """A linear field's slope along x, by the taps of a centred difference."""
    generator = torch.Generator().manual_seed(0)
    scattered = lattice(20, 20) + 0.2 * torch.rand(400, 2, generator=generator).double()
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[..., 1, 0], weight[..., 1, 2] = -0.5, 0.5
    inner = ((scattered > 2) & (scattered < 18)).all(1)
    along, across = (
        PointStencil(scattered).convolve(
            scattered[:, axis].reshape(1, 1, -1, 1), weight, torch.zeros(1).double()
        )[0, 0, inner, 0]
        for axis in (0, 1)
    )
    assert abs(float(along.mean()) - 1) < 0.2
    assert abs(float(across.mean())) < 0.05


def test_offsets_point_from_the_receiver_to_the_sender_in_spacings():
    spacing = spacing_of(1000 * lattice(6, 6))
    assert spacing == pytest.approx(1000)
    senders, receivers, offsets = offsets_within(1000 * lattice(6, 6), spacing)
    torch.testing.assert_close(
        offsets, lattice(6, 6)[senders] - lattice(6, 6)[receivers], atol=1e-12, rtol=0
    )
    # On the sphere x is east and y is north, at any longitude.
    place = sphere_points(torch.tensor([40.0, 40.5, 40.0]), torch.tensor([200.0, 200.0, 200.7]))
    senders, receivers, offsets = offsets_within(place.double(), 0.01)
    north = offsets[(senders == 1) & (receivers == 0)][0]
    east = offsets[(senders == 2) & (receivers == 0)][0]
    assert north[1] > 0.8
    assert abs(north[0]) < 1e-6
    assert east[0] > 0.9
    assert abs(east[1]) < 0.01


def test_same_grid_edges_lie_in_the_plane_on_the_globe_and_around_it():
    generator = torch.Generator().manual_seed(0)
    latitude = torch.rad2deg(torch.asin(2 * torch.rand(300, generator=generator) - 1)).double()
    longitude = 360 * torch.rand(300, generator=generator).double()
    globe = Icosahedral(splits=1).build(
        Grid(torch.stack((longitude, latitude), 1), None, latitude, longitude)
    )
    scattered = 10 * torch.rand(200, 2, generator=generator).double()
    plane = Triangular(spacing=2.0).build(Grid(scattered))
    wrapped = graph()._replace(shape=SHAPE, wraps=True)
    for over in (globe, plane, wrapped):
        network = wake(make(over))
        x = (0.01 * normal(len(over.grid), 1, 3)).requires_grad_()
        output = network(x, network.embed())
        assert output.isfinite().all()
        gradient = torch.autograd.grad(output[7].square().sum(), x)[0]
        assert gradient[7].abs().min() > 0


def test_it_starts_as_the_first_guess_and_the_mesh_starts_silent():
    network = make(graph()._replace(shape=SHAPE))
    torch.nn.init.zeros_(network.output_layer.weight)
    torch.nn.init.zeros_(network.output_layer.bias)
    x = normal(216, 2, 3)
    assert (network(x, network.embed()) == 0).all()
    assert (network.mesh(normal(216, 2, 6), network.embed()) == 0).all()


def test_outputs_are_bounded_and_too_few_blocks_refused():
    network = wake(make(graph()._replace(shape=SHAPE)))
    assert network(1e3 * normal(216, 2, 3), network.embed()).abs().max() <= 10
    with pytest.raises(ValueError, match="num_blocks must be at least 1"):
        make(graph(), num_blocks=0)
    with pytest.raises(ValueError, match="at least 2 points"):
        spacing_of(torch.zeros(1, 2))


def test_it_sees_neighbours_that_a_mesh_network_of_its_guess_does_not(wave_store):
    """In few steps it learns more of a travelling wave than its mesh network alone."""
    data = GriddedData(
        wave_store, ["height"], boundary_width=3, lead_steps=2, validation_from=0.9, test_from=0.95
    )
    losses = {}
    mesh = partial(GraphLAM, hidden_size=8, num_layers=2)
    for kind in (mesh, partial(FullResolution, network=mesh, hidden_size=8)):
        torch.manual_seed(0)
        model = Forecaster(kind)
        model.adopt(data.domain)
        batch = next(iter(data.train_dataloader()))
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(40):
            optimizer.zero_grad()
            loss = model.training_loss(batch)
            loss.backward()
            optimizer.step()
        losses[kind] = loss.item()
    alone, full = losses.values()
    assert full < alone


def test_a_convolutional_network_still_wants_rows_and_columns():
    with pytest.raises(ValueError, match="rows and columns"):
        ConvLAM(graph()._replace(shape=None), 3, 2)
