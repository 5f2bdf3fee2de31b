"""The convolutional network: where it starts, what it sees, and grids of any size."""

from functools import partial

import pytest
import torch

from neural_lam import ConvLAM, Forecaster, GriddedData
from neural_lam.graphs.construction import Grid, Rectangular
from neural_lam.networks.convolutional import (
    GatedBlock,
    Padding,
    from_image,
    to_image,
    wavelets,
)


def graph(shape, *, wraps=False):
    y, x = torch.meshgrid(*(torch.arange(n).double() for n in shape), indexing="ij")
    positions = torch.stack((x.flatten(), y.flatten()), 1)
    built = Rectangular(refinement=2, radius=0.75).build(Grid(positions, shape))
    return built._replace(shape=shape, wraps=wraps)


def network(shape, *, wraps=False, inputs=3, outputs=2):
    torch.manual_seed(0)
    made = ConvLAM(graph(shape, wraps=wraps), inputs, outputs, hidden_size=8, coarse_size=8)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made.double()


def features(shape, inputs=3, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape[0] * shape[1], batch, inputs, generator=generator, dtype=torch.float64)


def test_images_and_nodes_are_the_same_fields():
    x = features((5, 7))
    image = to_image(x, (5, 7))
    assert image.shape == (2, 3, 5, 7)
    assert image[1, 2, 3, 4] == x[3 * 7 + 4, 1, 2]
    assert torch.equal(from_image(image), x)


@pytest.mark.parametrize("shape", [(8, 12), (9, 13), (6, 7), (5, 16)])
def test_grids_of_any_size_have_an_output_at_every_node(shape):
    net = network(shape)
    x = (0.1 * features(shape)).requires_grad_()
    output = net(x, net.embed())
    assert output.shape == (shape[0] * shape[1], 2, 2)
    # Every output depends on what its own node sees.
    for node in (0, shape[1] - 1, shape[0] * shape[1] - 1):
        gradient = torch.autograd.grad(output[node].sum(), x, retain_graph=True)[0]
        assert gradient[node].abs().min() > 0
        assert gradient[:, 0].abs().sum() > 0


def test_members_of_a_batch_do_not_see_each_other():
    net, x = network((8, 8)), features((8, 8))
    alone = net(x[:, :1], None)
    torch.testing.assert_close(net(x, None)[:, :1], alone)


def test_a_new_network_says_nothing_and_a_new_block_passes_its_input_on():
    made = ConvLAM(graph((8, 8)), 3, 2, hidden_size=8)
    assert (made(features((8, 8)).float(), None) == 0).all()
    image = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GatedBlock(4, Padding(False))(image), image)


def test_a_block_multiplies_fields():
    block = GatedBlock(2, Padding(False)).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = block.inner(image).chunk(2, 1)
    expected = image + block.outer(torch.nn.functional.silu(p) * q)
    torch.testing.assert_close(block(image), expected)


@pytest.mark.parametrize("turned", [4, 8, 12])
def test_around_the_globe_turning_the_columns_turns_the_output(turned):
    shape = (8, 16)
    net, x = network(shape, wraps=True), features(shape)

    def turn(field):
        return field.reshape(*shape, *field.shape[1:]).roll(turned, 1).reshape(field.shape)

    torch.testing.assert_close(net(turn(x), None), turn(net(x, None)))
    limited = network(shape)
    assert (limited(turn(x), None) - turn(limited(x, None))).abs().max() > 1e-3


def test_outputs_are_bounded_smoothly():
    net, x = network((8, 8)), features((8, 8))
    torch.nn.init.normal_(net.head.convolution.weight, std=100.0)
    assert net(x, None).abs().max() <= 10.0
    # Small outputs are what they were: the bound is felt at its own size alone.
    small = network((8, 8))
    x = 0.01 * x
    unbounded = 10 * torch.atanh(small(0.1 * x, None) / 10)
    torch.testing.assert_close(small(0.1 * x, None), unbounded, rtol=0.01, atol=0)


def test_points_and_empty_networks_are_refused():
    with pytest.raises(ValueError, match="a grid of rows and columns"):
        ConvLAM(graph((8, 8))._replace(shape=None), 3, 2)
    with pytest.raises(ValueError, match="num_blocks must be at least 1, got 0"):
        ConvLAM(graph((8, 8)), 3, 2, num_blocks=0)


def test_it_trains_in_the_same_wrappers_as_graph_networks(wave_store):
    data = GriddedData(
        wave_store, ["height"], boundary_width=3, guess_reach=2, derived=["laplacian"],
        lead_steps=2, validation_from=0.9, test_from=0.95,
    )  # fmt: skip
    model = Forecaster(partial(ConvLAM, hidden_size=8, coarse_size=8), look_ahead=True)
    model.adopt(data.domain)
    batch = next(iter(data.train_dataloader()))
    # Before training it is the first guess, and its output layer learns first.
    guess = model.predictor.predictor.predictor
    assert torch.equal(
        guess(*[torch.zeros(238, 1, 2)] * 2, torch.zeros(238, 1, 0), torch.zeros(238, 1, 2), None),
        guess.guess(torch.zeros(238, 1, 2), torch.zeros(238, 1, 2)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model.training_loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_wavelets_keep_all_and_count_differences_by_their_gain():
    image = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)).double()
    found = wavelets(image, 8.0).unflatten(1, (4, 3))
    a, b, c, d = (image[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    torch.testing.assert_close(found[:, 0], (a + b + c + d) / 4)
    torch.testing.assert_close(found[:, 1], 8 * (a + b - c - d) / 4)
    torch.testing.assert_close(found[:, 2], 8 * (a - b + c - d) / 4)
    torch.testing.assert_close(found[:, 3], 64 * (a - b - c + d) / 4)
    assert wavelets(torch.ones(1, 1, 4, 4), 8.0)[:, 1:].abs().max() == 0


def test_the_gain_reaches_the_network_and_must_be_positive():
    one, eight = (
        ConvLAM(graph((8, 8)), 3, 2, hidden_size=8, coarse_size=8, gain=gain) for gain in (1.0, 8.0)
    )
    eight.load_state_dict(one.state_dict())
    for network in (one, eight):
        torch.nn.init.ones_(network.output_layer.weight)
    x = 0.01 * features((8, 8)).float()
    assert (one(x, None) - eight(x, None)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="gain"):
        ConvLAM(graph((8, 8)), 3, 2, gain=0.0)


def test_differences_that_run_away_are_bounded_where_they_count_more():
    shape, x = (8, 8), features((8, 8)).float()
    one, eight = (
        ConvLAM(graph(shape), 3, 2, hidden_size=8, coarse_size=8, gain=gain) for gain in (1.0, 8.0)
    )
    seen = []
    for network in (one, eight):
        network.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0].abs().max()))
        network(1e3 * x, None)
    assert seen[0] > 1e3
    assert seen[1] <= 10
    # Differences of a usual size are felt as they are.
    eight(1e-3 * x, None)
    image = to_image(1e-3 * x, shape)
    torch.testing.assert_close(seen[2], wavelets(image, 8.0).abs().max(), rtol=1e-3, atol=0)
