import argparse
import itertools

import numpy as np
import pytest
import torch
import xarray as xr

from neural_lam.__main__ import main
from neural_lam.data.upstream import UpstreamData
from neural_lam.graphs.construction import Grid, Icosahedral, Rectangular
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.networks.hi_lam import HiLAM
from neural_lam.networks.hi_lam_parallel import HiLAMParallel
from neural_lam.predictors.rollout import rollout
from neural_lam.shell.checkpoints import CheckpointError
from neural_lam.training.building import build_predictor
from neural_lam.upstream.graphs import read_upstream_graph, write_upstream_graph
from neural_lam.upstream.weights import (
    read_upstream_checkpoint,
    translate_weights,
    upstream_network,
)

SHAPE = (20, 31)


def grid():
    y, x = torch.meshgrid(torch.arange(SHAPE[0]), torch.arange(SHAPE[1]), indexing="ij")
    return Grid(torch.stack((x, y), -1).reshape(-1, 2).double() * 2500, SHAPE)


def some_graph(*, hierarchical=False):
    return Rectangular(hierarchical=hierarchical).build(grid())


def all_edges(graph):
    return (graph.g2m, *graph.m2m, *graph.up, *graph.down, graph.m2g)


@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_graph_survives_the_upstream_format(tmp_path, hierarchical):
    graph = some_graph(hierarchical=hierarchical)
    write_upstream_graph(graph, tmp_path / "graph")
    again = read_upstream_graph(tmp_path / "graph", grid().positions)
    for one, other in zip(all_edges(again), all_edges(graph), strict=True):
        assert torch.equal(one.edge_index, other.edge_index)
        torch.testing.assert_close(one.edge_features, other.edge_features, rtol=1e-5, atol=2e-6)
        assert one[4:] == other[4:]
    for one, other, features in zip(again.mesh, graph.mesh, again.mesh_features, strict=True):
        torch.testing.assert_close(one, other)
        # Upstream divides positions by the larger extent of the grid.
        torch.testing.assert_close(features, (other / (30 * 2500)).float())


@pytest.mark.parametrize("hierarchical", [False, True])
def test_files_are_those_of_the_specification(tmp_path, hierarchical):
    graph = some_graph(hierarchical=hierarchical)
    write_upstream_graph(graph, tmp_path / "graph")
    # Written twice: the second takes the place of the first.
    write_upstream_graph(graph, tmp_path / "graph")
    names = {"g2m", "m2m", "m2g"} | ({"mesh_up", "mesh_down"} if hierarchical else set())
    expected = {
        f"{n}_{kind}.pt" for n, kind in itertools.product(names, ("edge_index", "features"))
    }
    found = {path.name for path in (tmp_path / "graph").iterdir()}
    assert found == expected | {"mesh_features.pt", "metainfo.yaml"}
    load = lambda name: torch.load(tmp_path / "graph" / name, weights_only=True)  # noqa: E731
    assert (tmp_path / "graph/metainfo.yaml").read_text() == "spec_version: 0.1.0\n"
    features, edges = load("g2m_features.pt"), load("g2m_edge_index.pt")
    assert features.dtype == torch.float32
    assert edges.dtype == torch.int64
    positions = load("mesh_features.pt")
    difference = grid().positions[edges[0]] - positions[0][edges[1]]
    torch.testing.assert_close(features[:, 1:], difference.float(), rtol=1e-4, atol=0.1)
    torch.testing.assert_close(features[:, 0], difference.norm(dim=1).float(), rtol=1e-4, atol=0.1)
    assert isinstance(load("m2m_edge_index.pt"), list)


@pytest.mark.parametrize("mesh_first", [True, False])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_older_folders_count_all_nodes_through(tmp_path, hierarchical, mesh_first):
    graph = some_graph(hierarchical=hierarchical)
    folder = tmp_path / "graph"
    write_upstream_graph(graph, folder)
    (folder / "metainfo.yaml").unlink()
    sizes = [len(level) for level in graph.mesh]
    start = 0 if mesh_first else len(graph.grid)
    grid_start = sum(sizes) if mesh_first else 0
    first = [start + sum(sizes[:level]) for level in range(len(sizes))]

    def shift(name, offsets):
        path = folder / f"{name}_edge_index.pt"
        content = torch.load(path, weights_only=True)
        if isinstance(content, list):
            moved = [e + torch.tensor(o)[:, None] for e, o in zip(content, offsets, strict=True)]
        else:
            moved = content + torch.tensor(offsets)[:, None]
        torch.save(moved, path)

    shift("g2m", (grid_start, start))
    shift("m2g", (start, grid_start))
    shift("m2m", [(o, o) for o in first])
    if hierarchical:
        pairs = list(itertools.pairwise(first))
        shift("mesh_up", pairs)
        shift("mesh_down", [pair[::-1] for pair in pairs])
    scaled = [level / 7 for level in torch.load(folder / "mesh_features.pt", weights_only=True)]
    torch.save(scaled, folder / "mesh_features.pt")
    again = read_upstream_graph(folder, grid().positions)
    for one, other in zip(all_edges(again), all_edges(graph), strict=True):
        assert torch.equal(one.edge_index, other.edge_index)
    for one, other in zip(again.mesh_features, scaled, strict=True):
        assert torch.equal(one, other)


def test_a_broken_folder_is_refused_in_a_line(tmp_path):
    folder = tmp_path / "graph"
    with pytest.raises(ValueError, match=r"graph: no such folder"):
        read_upstream_graph(folder, grid().positions)
    write_upstream_graph(some_graph(), folder)
    with pytest.raises(ValueError, match=r"g2m_edge_index.pt: senders must be 0 to 99, got 0 to"):
        read_upstream_graph(folder, grid().positions[:100])
    (folder / "metainfo.yaml").write_text("spec_version: 9\n")
    with pytest.raises(ValueError, match=r"metainfo.yaml: spec_version must be '0.1.0', got 9"):
        read_upstream_graph(folder, grid().positions)
    (folder / "metainfo.yaml").write_text("spec_version: 0.1.0\n")
    (folder / "m2g_features.pt").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"m2g_features.pt: not a file of tensors"):
        read_upstream_graph(folder, grid().positions)
    (folder / "m2g_features.pt").unlink()
    with pytest.raises(ValueError, match=r"m2g_features.pt: no such file"):
        read_upstream_graph(folder, grid().positions)


def test_a_graph_on_the_sphere_has_no_upstream_format(tmp_path):
    latitude, longitude = torch.rand(2, 40, dtype=torch.float64) * 50
    graph = Icosahedral(3).build(
        Grid(torch.stack((longitude, latitude), 1), None, latitude, longitude)
    )
    with pytest.raises(ValueError, match="only graphs in the plane"):
        write_upstream_graph(graph, tmp_path / "graph")


def upstream_names(network):
    """Names that upstream gives the weights of a network, written out independently."""

    def block(ours, theirs):
        for number in range(2):
            for kind in ("weight", "bias"):
                yield f"{ours}.linear.{number}.{kind}", f"{theirs}.{2 * number}.{kind}"
        if ours != "codec.output_map":
            for kind in ("weight", "bias"):
                yield f"{ours}.norm.{kind}", f"{theirs}.3.{kind}"

    def net(ours, theirs):
        yield from block(f"{ours}.messages.mlp", f"{theirs}.edge_mlp")
        yield from block(f"{ours}.node_mlp", f"{theirs}.aggr_mlp")

    levels = len(network.levels.m2m)
    for name in ("grid_embedder", "g2m_embedder", "m2g_embedder", "output_map"):
        yield from block(f"codec.{name}", name)
    yield from block("codec.grid_mlp", "encoding_grid_mlp")
    yield from net("codec.encoder", "g2m_gnn")
    yield from net("codec.decoder", "m2g_gnn")
    if levels == 1:
        yield from block("levels.mesh_embedders.0", "mesh_embedder")
        yield from block("levels.m2m_embedders.0", "m2m_embedder")
        for layer in range(2):
            yield from net(f"processor.{layer}", f"processor.module_{layer}")
        return
    for level in range(levels):
        yield from block(f"levels.mesh_embedders.{level}", f"mesh_embedders.{level}")
        yield from block(f"levels.m2m_embedders.{level}", f"mesh_same_embedders.{level}")
    for low in range(levels - 1):
        yield from block(f"levels.up_embedders.{low}", f"mesh_up_embedders.{low}")
        yield from block(f"levels.down_embedders.{low}", f"mesh_down_embedders.{low}")
        yield from net(f"hierarchy.initial.{low}", f"mesh_init_gnns.{low}")
        yield from net(f"hierarchy.read_out.{low}", f"mesh_read_gnns.{low}")
    for layer in range(2):
        mine = f"processor.{layer}"
        if isinstance(network, HiLAMParallel):
            place = f"processor.module_{layer}"
            for group in range(3 * levels - 2):
                ours = f"{mine}.messages.{group}.mlp"
                yield from block(ours, f"{place}.edge_mlp.mlps.{group}")
            for level in range(levels):
                yield from block(
                    f"processor.{layer}.node_mlps.{level}", f"{place}.aggr_mlp.mlps.{level}"
                )
            continue
        for level in range(levels):
            yield from net(f"{mine}.within_up.{level}", f"mesh_up_same_gnns.{layer}.{level}")
            yield from net(f"{mine}.within_down.{level}", f"mesh_down_same_gnns.{layer}.{level}")
        for low in range(levels - 1):
            yield from net(f"{mine}.up.{low}", f"mesh_up_gnns.{layer}.{low}")
            yield from net(f"{mine}.down.{low}", f"mesh_down_gnns.{layer}.{low}")


KINDS = {"graph_lam": GraphLAM, "hi_lam": HiLAM, "hi_lam_parallel": HiLAMParallel}


def checkpoint(
    path,
    name,
    *,
    prefix="forecaster.predictor.",
    settings=None,
    graph=None,
    sizes=(7, 3),
    **options,
):
    kind = KINDS[name]
    graph = some_graph(hierarchical=kind is not GraphLAM) if graph is None else graph
    torch.manual_seed(0)
    network = kind(graph, *sizes, hidden_size=6, num_layers=2, **options)
    ours = network.state_dict()
    weights = {f"{prefix}{theirs}": ours[name] for name, theirs in upstream_names(network)}
    assert len(weights) == len(ours)
    weights[f"{prefix}sigmoid_lower_lims"] = torch.zeros(0)
    arguments = argparse.Namespace(model=name, **(settings or {}))
    hyper = {"args": arguments, "config": Unknown()}
    torch.save({"state_dict": weights, "hyper_parameters": hyper}, path)
    return network, graph


class Unknown:
    """A class that a reader doesn't know; loading it for real would leave a mark."""

    loaded = False

    def __setstate__(self, state):
        Unknown.loaded = True

    def __getstate__(self):
        return {"lr": 1e-3}


@pytest.mark.parametrize("prefix", ["forecaster.predictor.", ""])
@pytest.mark.parametrize("name", KINDS)
def test_an_upstream_checkpoint_gives_its_network(tmp_path, name, prefix):
    network, graph = checkpoint(tmp_path / "model.ckpt", name, prefix=prefix)
    found = read_upstream_checkpoint(tmp_path / "model.ckpt")
    assert found.settings == {"model": name}
    again = upstream_network(found, graph, save="nothing")
    assert type(again) is type(network)
    x = torch.randn(len(graph.grid), 2, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x, again.embed()), network(x, network.embed()))
    # The kind can be told from the weights too.
    bare = upstream_network(found._replace(settings={}), graph)
    assert type(bare) is type(network)
    assert not Unknown.loaded


@pytest.mark.parametrize(("name", "settings", "options"), [
    ("graph_lam", {"g2m_gnn_type": "PropagationNet", "m2g_gnn_type": "PropagationNet",
                   "mesh_aggr": "mean"}, {"propagate": ["g2m", "m2g"], "average": True}),
    ("graph_lam", {"m2g_gnn_type": "PropagationNet"}, {"propagate": ["m2g"]}),
    ("hi_lam_parallel", {"g2m_gnn_type": "PropagationNet"}, {"propagate": ["g2m"]}),
    ("hi_lam", {"mesh_up_gnn_type": "PropagationNet", "mesh_down_gnn_type": "PropagationNet"},
     {"propagate": ["up", "down"]}),
])  # fmt: skip
def test_settings_of_a_checkpoint_are_kept(tmp_path, name, settings, options):
    network, graph = checkpoint(tmp_path / "model.ckpt", name, settings=settings, **options)
    again = upstream_network(read_upstream_checkpoint(tmp_path / "model.ckpt"), graph)
    x = torch.randn(len(graph.grid), 2, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x, again.embed()), network(x, network.embed()))


def test_of_a_checkpoint_with_standard_deviations_the_mean_is_forecast(tmp_path):
    network, graph = checkpoint(
        tmp_path / "model.ckpt", "graph_lam", settings={"output_std": True}, sizes=(7, 6)
    )
    again = upstream_network(read_upstream_checkpoint(tmp_path / "model.ckpt"), graph)
    x = torch.randn(len(graph.grid), 2, 7, generator=torch.Generator().manual_seed(0))
    mean = network(x, network.embed())[..., :3]
    torch.testing.assert_close(again(x, again.embed()), mean)


def test_checkpoints_that_cannot_be_used_are_refused(tmp_path):
    path = tmp_path / "model.ckpt"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_upstream_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="empty or damaged"):
        read_upstream_checkpoint(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(CheckpointError, match="it has no 'state_dict'"):
        read_upstream_checkpoint(path)
    torch.save({"state_dict": {"a.weight": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="it has no 'grid_embedder'"):
        read_upstream_checkpoint(path)
    checkpoint(path, "hi_lam", settings={})
    found = read_upstream_checkpoint(path)
    with pytest.raises(ValueError, match="HiLAM needs a mesh of at least 2 levels"):
        upstream_network(found, some_graph())
    with pytest.raises(ValueError, match=r"model must be one of graph_lam, .*, got 'graph_efm'"):
        upstream_network(found._replace(settings={"model": "graph_efm"}), some_graph())
    del found.weights["mesh_init_gnns.0.edge_mlp.0.weight"]
    with pytest.raises(ValueError, match="doesn't fit the graph: Missing key"):
        upstream_network(found, some_graph(hierarchical=True))


def test_older_names_are_understood():
    weights = {"processor.module_11.edge_mlp.mlps.12.3.bias": torch.zeros(1)}
    assert list(translate_weights(weights)) == ["processor.11.messages.12.mlp.norm.bias"]


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize(
    ("name", "around"), [*((name, (1, 1)) for name in KINDS), ("graph_lam", (3, 0))]
)
def test_a_converted_model_forecasts_as_its_weights_do(
    tmp_path, prepared, monkeypatch, name, around
):
    # The verb leaves the configuration of its run where it is run.
    monkeypatch.chdir(tmp_path)
    shape = (14, 13)
    prepared(tmp_path, shape=shape)
    config, folder = str(tmp_path / "config.yaml"), tmp_path / "graph"
    store = UpstreamData(config, boundary_width=2).store
    positions = torch.from_numpy(store.positions)
    built = Rectangular(hierarchical=name != "graph_lam").build(Grid(positions, shape))
    write_upstream_graph(built, folder)
    graph = read_upstream_graph(folder, positions)
    # Two states, three forcings at the times of the window and two static fields.
    steps = dict(zip(("num_past_forcing_steps", "num_future_forcing_steps"), around, strict=True))
    sizes = (2 * 2 + 3 * (1 + sum(around)) + 2, 2)
    network, _ = checkpoint(tmp_path / "up.ckpt", name, graph=graph, sizes=sizes, settings=steps)
    ours = tmp_path / "ours"
    arguments = ["--upstream", config, "--checkpoint", str(tmp_path / "up.ckpt")]
    arguments += ["--graph", str(folder), "--boundary_width", "2", "--lead_steps", "3"]
    assert main(["convert", *arguments, "--output", str(ours)]) == 0
    options = ["--config", str(ours / "forecast.yaml"), "--ckpt_path", str(ours / "model.ckpt")]
    assert main(["forecast", *options, "--output", str(tmp_path / "f.zarr")]) == 0
    data = UpstreamData(config, graph=str(folder), boundary_width=2, lead_steps=3, **steps)
    predictor = build_predictor(data.domain, lambda *_: network)
    with torch.no_grad():
        batch = data.windows(2, 3)[torch.arange(2)]
        expected = rollout(predictor, batch.initial, batch.forcing, batch.target)
    found = xr.open_zarr(tmp_path / "f.zarr", consolidated=False, chunks=None)
    for position, variable in enumerate(("t2m", "u10")):
        field = found[variable].isel(time=slice(2)).transpose("time", ..., "x", "y").values
        wanted = expected[..., position].numpy().reshape(2, 3, *shape)
        np.testing.assert_allclose(field, wanted, rtol=1e-5, atol=1e-5)
    assert abs(wanted - batch.initial[:, -1:, :, 1].numpy().reshape(2, 1, *shape)).max() > 0.1
