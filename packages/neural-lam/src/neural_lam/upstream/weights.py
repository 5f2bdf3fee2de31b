"""Weights of the upstream project: read and translated by name.

Weights of a concatenation are kept whole by both, in the same order, so they translate by
name alone. Nothing in a file is executed.
"""

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_lam.graphs.graph import Graph
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.networks.hi_lam import HiLAM
from neural_lam.networks.hi_lam_parallel import HiLAMParallel
from neural_lam.shell.checkpoints import CheckpointError
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "UpstreamCheckpoint",
    "forcing_steps",
    "read_upstream_checkpoint",
    "translate_weights",
    "upstream_network",
]


class UpstreamCheckpoint(NamedTuple):
    """What an upstream checkpoint holds.

    Arguments:
        weights: By upstream's names within the predictor.
        settings: Upstream's command-line arguments, as far as it stored them.
    """

    weights: dict[str, Tensor]
    settings: dict[str, Any]

    def __str__(self) -> str:
        return in_a_line(self)


class _Inert:
    """Stands for any class of a pickle, and does nothing."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_upstream_checkpoint(path: str | os.PathLike[str]) -> UpstreamCheckpoint:
    """Read a checkpoint of upstream's Lightning module; nothing in it is executed.

    Objects that it holds beside tensors are read as their plain attributes.

    Raises:
        CheckpointError: The file is missing, damaged, or no upstream checkpoint.
    """
    if not Path(path).is_file():
        raise CheckpointError(path, "no such checkpoint")
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        inert: list[Any] = [(type("Inert", (_Inert,), {}), name) for name in names]
        with warnings.catch_warnings(), torch.serialization.safe_globals(inert):
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise CheckpointError(path, f"empty or damaged ({reason})") from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(path, "not a training checkpoint: it has no 'state_dict'")
    weights = {
        _predictor_name(name): value
        for name, value in content["state_dict"].items()
        if name.endswith((".weight", ".bias"))
    }
    if "grid_embedder.0.weight" not in weights:
        raise CheckpointError(path, "not an upstream checkpoint: it has no 'grid_embedder'")
    arguments = content.get("hyper_parameters", {}).get("args")
    return UpstreamCheckpoint(weights, dict(getattr(arguments, "__dict__", {})))


def _predictor_name(name: str) -> str:
    return name.removeprefix("forecaster.predictor.").replace(
        "g2m_gnn.grid_mlp", "encoding_grid_mlp"
    )


# Upstream's name of a network, and ours.
_NETWORKS = (
    (r"(grid|g2m|m2g)_embedder", r"codec.\1_embedder"),
    (r"encoding_grid_mlp", r"codec.grid_mlp"),
    (r"output_map", r"codec.output_map"),
    (r"mesh_embedder", r"levels.mesh_embedders.0"),
    (r"m2m_embedder", r"levels.m2m_embedders.0"),
    (r"mesh_embedders\.(\d+)", r"levels.mesh_embedders.\1"),
    (r"mesh_same_embedders\.(\d+)", r"levels.m2m_embedders.\1"),
    (r"mesh_(up|down)_embedders\.(\d+)", r"levels.\1_embedders.\2"),
    (r"processor\.module_(\d+)\.edge_mlp\.mlps\.(\d+)", r"processor.\1.messages.\2.mlp"),
    (r"processor\.module_(\d+)\.aggr_mlp\.mlps\.(\d+)", r"processor.\1.node_mlps.\2"),
    (r"(.*)\.edge_mlp", r"\1.messages.mlp"),
    (r"(.*)\.aggr_mlp", r"\1.node_mlp"),
)
_NETS = (
    (r"g2m_gnn\.", r"codec.encoder."),
    (r"m2g_gnn\.", r"codec.decoder."),
    (r"mesh_init_gnns\.", r"hierarchy.initial."),
    (r"mesh_read_gnns\.", r"hierarchy.read_out."),
    (r"mesh_(up|down)_same_gnns\.(\d+)\.", r"processor.\2.within_\1."),
    (r"mesh_(up|down)_gnns\.(\d+)\.", r"processor.\2.\1."),
    (r"processor\.module_(\d+)\.", r"processor.\1."),
)


def _translate(name: str) -> str:
    network, position, kind = name.rsplit(".", 2)
    for pattern, ours in _NETWORKS:
        if re.fullmatch(pattern, network):
            network = re.sub(pattern, ours, network)
            break
    for pattern, ours in _NETS:
        network = re.sub(f"^{pattern}", ours, network)
    # Linear maps and activations alternate; a layer normalisation comes last, in odd place.
    number = int(position)
    part = "norm" if number % 2 else f"linear.{number // 2}"
    return f"{network}.{part}.{kind}"


def translate_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Upstream's weights by our names."""
    return {_translate(name): value for name, value in weights.items()}


def forcing_steps(checkpoint: UpstreamCheckpoint) -> dict[str, int]:
    """Times around a forecast state whose forcing the model saw, by upstream's options."""
    names = ("num_past_forcing_steps", "num_future_forcing_steps")
    return {name: int(checkpoint.settings.get(name, 1)) for name in names}


_KINDS: dict[str, Any] = {
    "graph_lam": GraphLAM,
    "hi_lam": HiLAM,
    "hi_lam_parallel": HiLAMParallel,
}


_FLAT = {"g2m": "g2m", "m2g": "m2g"}
_LEVELS = {**_FLAT, "mesh_up": "up", "mesh_down": "down"}
# Whether a setting of upstream's asks for it.
_PROPAGATES = {"InteractionNet": False, "PropagationNet": True}
_AVERAGES = {"sum": False, "mean": True}


def _propagate(settings: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
    """Our names of the edges with propagation networks."""
    kinds = {ours: settings.get(f"{theirs}_gnn_type") for theirs, ours in places.items()}
    return [ours for ours, kind in kinds.items() if _PROPAGATES.get(str(kind), False)]


def _options(settings: Mapping[str, Any], network: Any) -> dict[str, Any]:
    if network is not GraphLAM:
        return {"propagate": _propagate(settings, _LEVELS)}
    average = _AVERAGES.get(str(settings.get("mesh_aggr")), False)
    return {"propagate": _propagate(settings, _FLAT), "average": average}


def upstream_network(checkpoint: UpstreamCheckpoint, graph: Graph, **options: Any) -> GridNetwork:
    """The network of an upstream checkpoint, with its weights.

    Sizes follow from the weights; the rest from the stored settings.

    Arguments:
        checkpoint: As `read_upstream_checkpoint` returns it.
        graph: As `read_upstream_graph` returns it.
        options: ``fused`` and ``save`` of the network.

    Raises:
        ValueError: A model or a setting that we don't have, or a graph of other levels.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """
    weights, settings = checkpoint
    parallel = "processor.module_0.edge_mlp.mlps.0.0.weight" in weights
    guess = "hi_lam_parallel" if parallel else "graph_lam" if len(graph.m2m) == 1 else "hi_lam"
    kind = str(settings.get("model", guess))
    if kind not in _KINDS:
        raise InputError(f"model must be one of {', '.join(_KINDS)}, got {kind!r}")
    hidden_size, num_inputs = weights["grid_embedder.0.weight"].shape
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("output_map."))
    layers = [
        int(found[1])
        for name in weights
        if (found := re.match(r"(?:processor\.module_|mesh_down_gnns\.)(\d+)\.", name))
    ]
    if settings.get("output_std"):
        # The upper half of the outputs are standard deviations, which aren't forecast.
        for part in ("weight", "bias"):
            name = f"output_map.{last}.{part}"
            weights = {**weights, name: weights[name][: len(weights[name]) // 2]}
    network: GridNetwork = _KINDS[kind](
        graph,
        num_inputs,
        len(weights[f"output_map.{last}.bias"]),
        hidden_size=hidden_size,
        num_layers=max(layers, default=-1) + 1,
        hidden_layers=last // 2,
        **_options(settings, _KINDS[kind]),
        **options,
    )
    try:
        network.load_state_dict(translate_weights(weights))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"the checkpoint doesn't fit the graph: {reason}") from None
    return network
