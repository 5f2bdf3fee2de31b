import pytest
import torch

from neural_lam.graphs.construction import Grid, Rectangular
from neural_lam.networks import layers
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.networks.hi_lam import HiLAM
from neural_lam.networks.hi_lam_parallel import HiLAMParallel

SHAPE = (12, 18)


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    """Fuse layers of few edges too."""
    monkeypatch.setattr(layers, "FEW_EDGES", 0)
    monkeypatch.setattr(layers, "FEW_ROWS", 0)


def lattice(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2).double()


def graph_over(*shape, **options):
    return Rectangular(**options).build(Grid(lattice(*shape), shape))


def make(kind, **options):
    torch.manual_seed(0)
    graph = graph_over(*SHAPE, hierarchical=kind is not GraphLAM)
    return kind(graph, 3, 2, hidden_size=8, num_layers=2, **options).double()


KINDS = (GraphLAM, HiLAM, HiLAMParallel)


@pytest.fixture(params=KINDS)
def network(request):
    return make(request.param)


def features(batch):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE[0] * SHAPE[1], batch, 3, generator=generator, dtype=torch.float64)


def test_members_of_a_batch_do_not_see_each_other(network):
    whole = features(4)
    expected = network(whole[:, 2:3], network.embed())
    torch.testing.assert_close(
        network(whole, network.embed())[:, 2:3], expected, rtol=1e-12, atol=1e-12
    )


def test_information_travels_no_further_than_the_edges_carry_it():
    graph = graph_over(6, 60, num_levels=1)
    network = GraphLAM(graph, 3, 1, hidden_size=8, num_layers=2).double()
    x = torch.zeros(360, 1, 3, dtype=torch.float64)
    changed = x.clone()
    changed[0] = 1.0
    embedded = network.embed()
    change = (network(changed, embedded) - network(x, embedded)).detach()
    difference = change.abs().reshape(6, 60)
    # Encoded within one mesh node, two layers of neighbours, decoded from the nearest four nodes.
    assert difference[:, :8].max() > 0
    assert float(difference[:, 3 * (1 + 2 + 2) :].max()) == 0


def test_every_weight_takes_part(network):
    network(features(2), network.embed()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_coarse_level_shortens_the_way():
    x = torch.zeros(60 * 60, 1, 3, dtype=torch.float64)
    changed = x.clone()
    changed[0] = 1.0
    reached = []
    for num_levels in (1, 3):
        torch.manual_seed(0)
        graph = graph_over(60, 60, num_levels=num_levels)
        network = GraphLAM(graph, 3, 1, hidden_size=8, num_layers=3).double()
        embedded = network.embed()
        reached.append(int(((network(changed, embedded) - network(x, embedded)).abs() > 0).sum()))
    assert reached[1] > 2 * reached[0]


@pytest.mark.parametrize("kind", KINDS)
def test_no_layers_are_refused(kind):
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        kind(graph_over(*SHAPE, hierarchical=kind is not GraphLAM), 3, 2, num_layers=0)


def test_a_mesh_of_the_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="GraphLAM needs a flat mesh, got one of 2 levels"):
        GraphLAM(graph_over(*SHAPE, hierarchical=True), 3, 2)
    for kind in (HiLAM, HiLAMParallel):
        with pytest.raises(ValueError, match=f"{kind.__name__} needs a mesh of at least 2 levels"):
            kind(graph_over(*SHAPE), 3, 2)


def slopes(network, x):
    x = x.clone().requires_grad_()
    output = network(x, network.embed())
    loss = (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
    return [output.detach(), *torch.autograd.grad(loss, [x, *network.parameters()])]


@pytest.mark.parametrize(
    "options", [{}, {"propagate": ["g2m"]}, {"propagate": ["m2g"]}, {"hidden_layers": 2}]
)
@pytest.mark.parametrize("save", ["nothing", "activations", "everything"])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_and_plain_networks_are_one_function(kind, save, options):
    found = slopes(make(kind, save=save, **options), features(3))
    expected = slopes(make(kind, fused=False, **options), features(3))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_in_single_precision_they_agree_to_its_rounding(kind):
    graph = graph_over(*SHAPE, hierarchical=kind is not GraphLAM)
    found = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = kind(graph, 3, 2, hidden_size=32, num_layers=2, fused=fused)
        output, *gradients = slopes(network, features(3).float())
        found.append((output, torch.cat([g.flatten() for g in gradients])))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-6


def plain(mlp, *parts, residual=0):
    x = torch.cat(parts, -1)
    for number, layer in enumerate(mlp.linear):
        x = layer(torch.nn.functional.silu(x) if number else x)
    return residual + (x if mlp.norm is None else mlp.norm(x))


def message(mlp, edges, senders, receivers, state):
    """Messages and their sums, from whole concatenations, batch first."""
    new = plain(mlp, state, senders[:, edges.senders], receivers[:, edges.receivers])
    total = torch.zeros_like(receivers)
    for number, receiver in enumerate(edges.receivers.tolist()):
        total[:, receiver] = total[:, receiver] + new[:, number]
    return total, state + new


def interact(net, senders, receivers, state):
    total, state = message(net.messages.mlp, net.messages.edges, senders, receivers, state)
    return plain(net.node_mlp, receivers, total, residual=receivers), state


def embedded(network, batch):
    wide = lambda x: x.expand(batch, -1, -1)  # noqa: E731
    levels, codec = network.levels, network.codec
    mesh = [
        wide(plain(mlp, getattr(levels, f"features_{level}")))
        for level, mlp in enumerate(levels.mesh_embedders)
    ]
    sets = [
        [
            wide(plain(mlp, edges.features[edges.row]))
            for mlp, edges in zip(mlps, group, strict=True)
        ]
        for mlps, group in (
            (levels.m2m_embedders, levels.m2m),
            (levels.up_embedders, levels.up),
            (levels.down_embedders, levels.down),
            ([codec.g2m_embedder, codec.m2g_embedder], [codec.g2m, codec.m2g]),
        )
    ]
    return mesh, *sets


def sequence(network, v, same, up, down):
    """The order of message passing in Hi-LAM: down and up again, level by level."""
    top = len(v) - 1
    for layer in network.processor:
        downward, within_down = layer.down, layer.within_down
        upward, within_up = layer.up, layer.within_up
        v[top], same[top] = interact(within_down[top], v[top], v[top], same[top])
        for low in range(top - 1, -1, -1):
            v[low], down[low] = interact(downward[low], v[low + 1], v[low], down[low])
            v[low], same[low] = interact(within_down[low], v[low], v[low], same[low])
        v[0], same[0] = interact(within_up[0], v[0], v[0], same[0])
        for high in range(1, top + 1):
            v[high], up[high - 1] = interact(upward[high - 1], v[high - 1], v[high], up[high - 1])
            v[high], same[high] = interact(within_up[high], v[high], v[high], same[high])


def at_once(network, v, same, up, down):
    """The layers of Hi-LAM-Parallel: all sets of edges see the same node states."""
    for layer in network.processor:
        nets = iter(layer.messages)
        totals = [torch.zeros_like(x) for x in v]
        for states, shift in ((same, (0, 0)), (up, (0, 1)), (down, (1, 0))):
            for low in range(len(states)):
                net, (sender, receiver) = next(nets), (low + shift[0], low + shift[1])
                total, states[low] = message(
                    net.mlp, net.edges, v[sender], v[receiver], states[low]
                )
                totals[receiver] = totals[receiver] + total
        v[:] = [
            plain(mlp, x, total, residual=x)
            for mlp, x, total in zip(layer.node_mlps, v, totals, strict=True)
        ]


def by_definition(network, x):
    """The model from the equations, batch first, with nothing shared, split or sorted."""
    batch, codec = x.shape[1], network.codec
    mesh, same, up, down, (g2m, m2g) = embedded(network, batch)
    grid = plain(codec.grid_embedder, x.transpose(0, 1))
    mesh[0], _ = interact(codec.encoder, grid, mesh[0], g2m)
    grid = plain(codec.grid_mlp, grid, residual=grid)
    if isinstance(network, GraphLAM):
        for net in network.processor:
            mesh[0], same[0] = interact(net, mesh[0], mesh[0], same[0])
    else:
        for low, net in enumerate(network.hierarchy.initial):
            mesh[low + 1], up[low] = interact(net, mesh[low], mesh[low + 1], up[low])
        process = sequence if isinstance(network, HiLAM) else at_once
        process(network, mesh, same, up, down)
        for low in range(len(mesh) - 2, -1, -1):
            mesh[low], _ = interact(
                network.hierarchy.read_out[low], mesh[low + 1], mesh[low], down[low]
            )
    grid, _ = interact(codec.decoder, mesh[0], grid, m2g)
    return plain(codec.output_map, grid).transpose(0, 1)


def test_a_network_is_its_definition(network):
    x = features(2)
    torch.testing.assert_close(
        network(x, network.embed()), by_definition(network, x), rtol=1e-10, atol=1e-11
    )


def test_a_rollout_shares_its_embeddings(network):
    x, kept = features(2), network.embed()
    first = network(x, kept)
    assert torch.equal(network(x, kept), first)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GraphLAM, HiLAM])
def test_a_network_compiles_in_one_piece(kind):
    """Under compilation the plain path is traced, with no break, forward and backward."""
    network, x = make(kind), features(2)

    def forward(x):
        return network(x, network.embed())

    found = []
    for function in (forward, torch.compile(forward, backend="aot_eager", fullgraph=True)):
        output = function(x)
        found.append([output, *torch.autograd.grad(output.square().sum(), network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_autocast_runs_in_low_precision():
    network = make(GraphLAM).float()
    x = features(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, network.embed())
    assert low.dtype == torch.bfloat16
    exact = network(x, network.embed())
    assert float(((low - exact).norm() / exact.norm()).detach()) < 0.05
