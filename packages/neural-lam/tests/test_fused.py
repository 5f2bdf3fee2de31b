"""The fused layers on graphs of every kind: they must be the plain ones, without holes."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from neural_lam.graphs.graph import sorted_edges
from neural_lam.networks import layers
from neural_lam.networks.fused import Fusion
from neural_lam.networks.layers import MLP, Edges, InteractionNet, PropagationNet, fusion
from neural_lam.networks.plain import EdgeRule

D = 3
SAVES = ("nothing", "activations", "everything")


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(layers, "FEW_EDGES", 0)
    monkeypatch.setattr(layers, "FEW_ROWS", 0)


def random_edges(generator, *, shared):
    """Edges between few nodes; many receivers, and sometimes all, have none."""

    def draw(high, *size):
        return torch.randint(0, high, size, generator=generator)

    senders, receivers, count = (int(draw(n, 1)) + first for n, first in ((5, 1), (9, 1), (14, 0)))
    used = 1 + int(draw(receivers, 1))
    index = torch.stack((draw(senders, count), draw(used, count)))
    rows = draw(3, count, 2) if shared else torch.rand(count, 2, generator=generator)
    return Edges(sorted_edges(index, rows.double(), senders, receivers)).double()


def inputs_for(edges, generator, *, static):
    def states(count, *shape):
        return torch.randn(count, *shape, dtype=torch.float64, generator=generator)

    ends = [states(n, 2, D).requires_grad_() for n in (edges.num_senders, edges.num_receivers)]
    held = states(len(edges.features), D) if static else states(len(edges.senders), 2, D)
    return (*ends, held.requires_grad_())


def run(net, senders, receivers, held, *, static):
    found = net(senders, receivers, net.project(held) if static else held)
    return [part for part in found if part is not None]


def weighted(outputs):
    return sum((out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum() for out in outputs)


@pytest.mark.parametrize("save", SAVES)
def test_fused_layers_equal_plain_ones_on_500_random_graphs(save):
    for number in range(500):
        generator = torch.Generator().manual_seed(number)
        edges = random_edges(generator, shared=number % 2 == 0)
        kind = (InteractionNet, PropagationNet)[number // 2 % 2]
        static, update = number // 4 % 2 == 0, number // 8 % 2 == 0
        torch.manual_seed(number)
        how = fusion(save, chunk_rows=(2, 4, 1000)[number % 3])
        net = kind(edges, D, rule=EdgeRule(update=update), fusion=how).double()
        torch.manual_seed(number)
        plain = kind(edges, D, rule=EdgeRule(update=update)).double()
        inputs = inputs_for(edges, generator, static=static)
        both = [run(n, *inputs, static=static) for n in (net, plain)]
        for one, other in zip(*both, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
        found, expected = (
            torch.autograd.grad(weighted(out), (*inputs, *n.parameters()), allow_unused=True)
            for out, n in zip(both, (net, plain), strict=True)
        )
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [InteractionNet, PropagationNet])
@pytest.mark.parametrize("save", SAVES)
def test_checkpointing_gives_the_same_gradients(kind, save):
    generator = torch.Generator().manual_seed(3)
    edges = random_edges(generator, shared=True)
    net = kind(edges, D, fusion=fusion(save, chunk_rows=4)).double()
    inputs = inputs_for(edges, generator, static=False)
    over = (*inputs, *net.parameters())
    plain = torch.autograd.grad(weighted(net(*inputs)), over)
    again = torch.autograd.grad(weighted(checkpoint(net, *inputs, use_reentrant=False)), over)
    for one, other in zip(again, plain, strict=True):
        assert torch.equal(one, other)


def test_first_and_second_derivatives_pass_gradcheck():
    for number in (1, 6, 11, 14):
        generator = torch.Generator().manual_seed(number)
        edges = random_edges(generator, shared=False)
        net = InteractionNet(edges, D, fusion=fusion("nothing", chunk_rows=3)).double()
        inputs = inputs_for(edges, generator, static=False)
        assert torch.autograd.gradcheck(net, inputs)
        assert torch.autograd.gradgradcheck(net, inputs)


def test_forward_mode_differentiates_the_same_function():
    generator = torch.Generator().manual_seed(5)
    edges = random_edges(generator, shared=False)
    net = InteractionNet(edges, D, fusion=fusion(chunk_rows=3)).double()
    inputs = inputs_for(edges, generator, static=False)
    direction = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in inputs]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, d) for x, d in zip(inputs, direction, strict=True)]
        found = forward_ad.unpack_dual(net(*duals)[0]).tangent
    step = 1e-6
    moved = [
        net(*[x + sign * step * d for x, d in zip(inputs, direction, strict=True)])[0]
        for sign in (1, -1)
    ]
    torch.testing.assert_close(found, (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_rows_of_a_network_are_checkpointed_too():
    net = MLP(D, D, D, fusion=fusion("nothing", chunk_rows=4)).double()
    x = torch.randn(9, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    plain = torch.autograd.grad(net(x).square().sum(), x)[0]
    again = torch.autograd.grad(checkpoint(net, x, use_reentrant=False).square().sum(), x)[0]
    assert torch.equal(plain, again)


def test_an_accelerator_works_on_everything_at_once():
    assert Fusion().chunk_rows(torch.zeros(1)) == 8192
    assert Fusion().chunk_rows(torch.zeros(1, device="meta")) > 2**60
    assert Fusion(rows=5).chunk_rows(torch.zeros(1, device="meta")) == 5
