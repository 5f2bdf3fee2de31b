import itertools

import pytest
import torch

from neural_lam.graphs.graph import edge_set
from neural_lam.networks import layers
from neural_lam.networks.layers import MLP, Edges, InteractionNet, PropagationNet, fusion
from neural_lam.networks.plain import EdgeRule

D = 5
NETS = (InteractionNet, PropagationNet)
FUSIONS = (
    None,
    fusion("nothing"),
    fusion("activations", chunk_rows=9),
    fusion("everything", chunk_rows=1),
)


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    """Fuse layers of few edges too."""
    monkeypatch.setattr(layers, "FEW_EDGES", 0)
    monkeypatch.setattr(layers, "FEW_ROWS", 0)


def some_edges(num_senders=7, num_receivers=6, count=20, *, on_lattice=True):
    generator = torch.Generator().manual_seed(1)
    draw = (
        (lambda n: torch.randint(0, 4, (n, 2), generator=generator))
        if on_lattice
        else (lambda n: torch.rand(n, 2, generator=generator))
    )
    senders, receivers = draw(num_senders).double(), draw(num_receivers).double()
    # Receiver 2 has no edges.
    ends = torch.tensor([r for r in range(num_receivers) if r != 2])
    index = torch.stack(
        (
            torch.randint(0, num_senders, (count,), generator=generator),
            ends[torch.randint(0, len(ends), (count,), generator=generator)],
        )
    )
    return Edges(edge_set(senders, receivers, index, 3.0))


@pytest.fixture
def edges():
    return some_edges()


def states(count, *, seed, batch=3):
    return torch.randn(
        count, batch, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def arguments(edges, batch=3):
    sizes = (edges.num_senders, edges.num_receivers, len(edges.senders))
    return tuple(states(n, seed=n, batch=batch).requires_grad_() for n in sizes)


def sequential(mlp):
    """An MLP from torch's own modules, on concatenated inputs."""
    parts = [mlp.linear[0]]
    for layer in mlp.linear[1:]:
        parts += [torch.nn.SiLU(), layer]
    return torch.nn.Sequential(*parts, *([] if mlp.norm is None else [mlp.norm]))


def by_definition(net, senders, receivers, edge_state):
    """The equations of the docstrings with concatenations, one edge at a time."""
    edges, propagate = net.messages.edges, isinstance(net, PropagationNet)
    edge_mlp, node_mlp = sequential(net.messages.mlp), sequential(net.node_mlp)
    inbox = [[torch.zeros_like(receivers[0])] for _ in receivers]
    new_edges = []
    for number, (s, r) in enumerate(
        zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True)
    ):
        message = edge_mlp(torch.cat((edge_state[number], senders[s], receivers[r]), -1))
        if propagate:
            message = senders[s] + message
        inbox[r].append(message)
        new_edges.append(edge_state[number] + message)
    total = torch.stack(
        [sum(box) / (max(1, len(box) - 1) if net.messages.rule.average else 1) for box in inbox]
    )
    base = total if propagate else receivers
    return base + node_mlp(torch.cat((receivers, total), -1)), torch.stack(new_edges)


def gradients(outputs, inputs):
    """Of a function that weighs all outputs differently."""
    loss = sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outputs)
    return torch.autograd.grad(loss, inputs, retain_graph=True)


def assert_all_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("how", FUSIONS)
@pytest.mark.parametrize("kind", NETS)
def test_a_net_and_its_gradients_are_its_definition(edges, kind, how):
    net = kind(edges, D, fusion=how).double()
    inputs = arguments(edges)
    found, expected = net(*inputs), by_definition(net, *inputs)
    assert_all_close(found, expected)
    over = (*inputs, *net.parameters())
    assert_all_close(gradients(found, over), gradients(expected, over))


@pytest.mark.parametrize("how", FUSIONS)
@pytest.mark.parametrize(("kind", "on_lattice"), [*itertools.product(NETS, (True, False))])
def test_static_rows_give_what_whole_edges_give(kind, on_lattice, how):
    edges = some_edges(on_lattice=on_lattice)
    assert (len(edges.features) < len(edges.senders)) == on_lattice
    net = kind(edges, D, fusion=how).double()
    table = states(len(edges.features), seed=3)[:, 0].requires_grad_()
    senders, receivers, _ = arguments(edges)
    whole = table[edges.row].unsqueeze(1).expand(-1, 3, -1)
    found = net(senders, receivers, net.project(table))
    expected = by_definition(net, senders, receivers, whole)
    assert_all_close(found, expected)
    over = (senders, receivers, table, *net.parameters())
    assert_all_close(gradients(found, over), gradients(expected, over))


@pytest.mark.parametrize("how", FUSIONS)
@pytest.mark.parametrize("average", [True, False])
def test_only_the_receivers_may_be_wanted(edges, how, average):
    net = InteractionNet(
        edges, D, rule=EdgeRule(update=False, average=average), fusion=how
    ).double()
    inputs = arguments(edges)
    found, none = net(*inputs)
    expected = by_definition(net, *inputs)[:1]
    assert none is None
    assert_all_close([found], expected)
    over = (*inputs, *net.parameters())
    assert_all_close(gradients([found], over), gradients(expected, over))


def test_only_the_edges_may_be_differentiated(edges):
    inputs = arguments(edges)
    net = InteractionNet(edges, D, fusion=fusion()).double()
    found = gradients(net(*inputs)[1:], inputs)
    assert_all_close(found, gradients(by_definition(net, *inputs)[1:], inputs))


def test_a_net_may_act_within_one_set_of_nodes():
    edges = some_edges(6, 6)
    net = InteractionNet(edges, D, fusion=fusion()).double()
    nodes, _, edge_state = arguments(edges)
    found, expected = net(nodes, nodes, edge_state), by_definition(net, nodes, nodes, edge_state)
    assert_all_close(gradients(found, (nodes,)), gradients(expected, (nodes,)))


def test_the_order_of_senders_does_not_matter(edges):
    net = InteractionNet(edges, D, fusion=fusion()).double()
    args = states(7, seed=0), states(6, seed=1), states(20, seed=2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    expected, _ = net(*args)
    edges.senders = torch.argsort(order)[edges.senders]
    edges._plans.clear()
    found, _ = net(args[0][order], *args[1:])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", NETS)
def test_gradients_and_their_gradients_are_finite_differences(edges, kind):
    net = kind(edges, D, fusion=fusion()).double()
    table = states(len(edges.features), seed=3, batch=1)[:, 0].requires_grad_()
    inputs = (*arguments(edges, batch=1)[:2], table)

    def function(senders, receivers, rows):
        return net(senders, receivers, net.project(rows))

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_second_derivatives_reach_the_weights(edges):
    inputs = arguments(edges)
    found = []
    for how in (None, fusion()):
        torch.manual_seed(0)
        net = InteractionNet(edges, D, fusion=how).double()
        slope = torch.autograd.grad(net(*inputs)[0].square().sum(), inputs[0], create_graph=True)[0]
        found.append(torch.autograd.grad(slope.square().sum(), [*net.parameters()]))
    assert_all_close(*found)


def test_gradients_can_be_taken_twice_from_one_graph(edges):
    net = InteractionNet(edges, D, fusion=fusion()).double()
    inputs = arguments(edges)
    loss = net(*inputs)[0].square().sum()
    first = torch.autograd.grad(loss, inputs[:1], retain_graph=True)
    assert_all_close(first, torch.autograd.grad(loss, inputs[:1]))


def test_autocast_takes_the_reference(edges):
    inputs = tuple(x.detach().float() for x in arguments(edges))
    outs = []
    for how in (None, fusion()):
        torch.manual_seed(0)
        net = InteractionNet(edges, D, fusion=how)
        with torch.autocast("cpu", torch.bfloat16):
            outs.append(net(*inputs)[0])
    assert torch.equal(*outs)


def test_functional_transforms_take_the_reference(edges):
    net = InteractionNet(edges, D, fusion=fusion()).double()
    senders, receivers, edge_state = (x.detach() for x in arguments(edges))

    def loss(x):
        return net(x, receivers, edge_state)[0].square().sum()

    x = senders.clone().requires_grad_()
    assert_all_close([torch.func.grad(loss)(senders)], torch.autograd.grad(loss(x), x))


def test_more_layers_run_in_plain_autograd(edges):
    net = InteractionNet(edges, D, hidden_layers=3, fusion=fusion()).double()
    inputs = arguments(edges)
    assert net.node_mlp.fusion is None
    assert_all_close(net(*inputs), by_definition(net, *inputs))


@pytest.mark.parametrize("how", [None, fusion("nothing", 7), fusion("everything")])
@pytest.mark.parametrize(("extra", "residual"), [*itertools.product((True, False), (True, False))])
def test_a_row_network_is_its_definition(how, extra, residual):
    inputs = [states(8, seed=0).requires_grad_()]
    if extra:
        inputs.append(states(8, seed=1)[..., :3].requires_grad_())
    net = MLP(D + 3 * extra, 7, D, fusion=how).double()
    expected = sequential(net)(torch.cat(inputs, -1)) + (inputs[0] if residual else 0)
    found = net(inputs[0], inputs[1] if extra else None, inputs[0] if residual else None)
    assert_all_close([found], [expected])
    over = (*inputs, *net.parameters())
    assert_all_close(gradients([found], over), gradients([expected], over))
    slopes = [
        torch.autograd.grad(out.pow(3).sum(), over, create_graph=True) for out in (found, expected)
    ]
    assert_all_close(*(torch.autograd.grad(s[0].square().sum(), over) for s in slopes))


def test_inputs_without_gradients_cost_none():
    net = MLP(D, 7, 2, norm=None, fusion=fusion()).double()
    x = states(8, seed=0)
    weights = [*net.parameters()]
    assert_all_close(gradients([net(x)], weights), gradients([sequential(net)(x)], weights))


def test_an_mlp_ends_normalised():
    output = MLP(4, 8, 16, fusion=fusion()).double()(
        torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    torch.testing.assert_close(
        output.mean(-1), torch.zeros(10, dtype=torch.float64), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        output.var(-1, unbiased=False), torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [(("some",), "save must be one of nothing, activations, everything, got 'some'"),
     (("nothing", 0), "chunk_rows must be at least 1, got 0")],
)  # fmt: skip
def test_wrong_ways_to_fuse_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        fusion(*values)
    with pytest.raises(ValueError, match="hidden_layers must be at least 1, got 0"):
        MLP(1, 1, 1, hidden_layers=0)


def test_few_edges_take_the_reference(edges, monkeypatch):
    net = InteractionNet(edges, D, fusion=fusion()).double()
    inputs = arguments(edges)
    fused_name = type(net(*inputs)[0].grad_fn).__name__
    monkeypatch.setattr(layers, "FEW_EDGES", 61)
    monkeypatch.setattr(layers, "FEW_ROWS", 19)
    found = net(*inputs)
    assert type(found[0].grad_fn).__name__ != fused_name
    assert_all_close(found, by_definition(net, *inputs))
