r"""A dense graph transformer for partial graphs.

States live on nodes, :math:`h_i`, and on unordered pairs, :math:`e_{ij} = e_{ji}`.  Each
layer attends between nodes with a bias from the pair,

.. math::
    a_{ij} = \frac{q_i \cdot k_j}{\sqrt{d}} + b(e_{ij}), \qquad
    h_i \mathrel{+}= O \sum_j \mathrm{softmax}_j(a_{ij}) \, (v_j + V e_{ij}),

and then updates the pair from its ends and its attention,
:math:`e_{ij} \mathrel{+}= W_2 \, g(W_1 e_{ij} + u_i + u_j + A(a_{ij} + a_{ji}))`.
Nothing depends on the numbering of the nodes, so that the logits are equivariant.
Where one site of each graph is asked for, as in sampling, the last layer is evaluated at the ends
of that site alone, which saves a seventh of the time of four layers.

The network also sees what the shown part of the graph says exactly and what layers
would have to count: walks of lengths 2 to 5 along the bonds between the ends of a
pair (they close rings of 3 to 6 atoms), whether both are in one component, and at
each node the sum of its bond orders and its numbers of masked pairs and bonds.

References:
    Vignac et al., "DiGress: Discrete Denoising Diffusion for Graph Generation", ICLR 2023, for
    states of nodes and pairs and for features that layers would have to count.
"""

import math
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ardm_guidance.models.trunks import TrunkSettings
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.constraints import closure
from ardm_guidance.sites.graphs import MASK, PAD, node_count, pair_table, pairs, sizes, to_dense

__all__ = [
    "GraphTransformer",
    "check_network",
    "node_features",
    "pair_features",
    "pick",
    "widen",
]

_WALKS = 4


def node_features(sites: Tensor) -> Tensor:
    """Logarithms of the bond orders, masked pairs and bonds at each node, ``(B, n, 3)``."""
    edges = to_dense(sites).edges
    counts = [edges.clamp(min=0), edges == MASK, edges > 0]
    return torch.stack([count.sum(-1) for count in counts], -1).log1p()


def pair_features(sites: Tensor) -> Tensor:
    """Logarithms of walk counts, and one shared component, ``(B, n(n-1)/2, 5)``."""
    bonded = to_dense(sites).edges > 0
    i, j = pairs(bonded.shape[-1], sites.device)
    step = bonded.to(torch.get_default_dtype())
    walks, features = step, []
    for _ in range(_WALKS):
        walks = walks @ step
        features.append(walks[..., i, j].log1p())
    features.append(closure(bonded)[..., i, j].to(step.dtype))
    return torch.stack(features, -1)


def widen(nodes: Tensor, edges: Tensor) -> Tensor:
    """Values of node and edge classes as one table of sites, ``(B, D, K)``, filled by ``-inf``."""
    num_classes = max(nodes.shape[-1], edges.shape[-1])
    parts = [
        functional.pad(values, (0, num_classes - values.shape[-1]), value=-torch.inf)
        for values in (nodes, edges)
    ]
    return torch.cat(parts, 1)


def pick(nodes: Tensor, edges: Tensor, positions: Tensor, num_nodes: int) -> Tensor:
    """Values of one site of each graph, ``(B, K)``, filled by ``-inf``.

    Arguments:
        nodes: Values if the site is a node, ``(B, ...)``.
        edges: Values if it is a pair, ``(B, ...)``.
        positions: Sites, ``(B,)``.
        num_nodes: Node sites of a graph.
    """
    both = widen(nodes[:, None], edges[:, None])
    return torch.where((positions < num_nodes)[:, None], both[:, 0], both[:, 1])


class Alphabet(Protocol):
    """What a network must know of its objects: their classes and their largest size."""

    @property
    def max_atoms(self) -> int:
        """Nodes of the largest object."""
        ...

    @property
    def num_atom_classes(self) -> int:
        """Classes of a node."""
        ...

    @property
    def num_bond_classes(self) -> int:
        """Classes of a pair."""
        ...


class _Ends(NamedTuple):
    """Where one site of each graph is: its two nodes, the same one twice for a node site.

    Attributes:
        nodes: ``(B, 2)``.
        rows: Rows of the pairs that each of the two is in, the zeros' for itself, ``(B, 2, n)``.
        pair: Row of the site's own pair, or the zeros', ``(B,)``.
    """

    nodes: Tensor
    rows: Tensor
    pair: Tensor


def _ends(positions: Tensor, num_nodes: int) -> _Ends:
    first, second = pairs(num_nodes, positions.device)
    every = torch.arange(num_nodes, device=positions.device)
    ends = torch.stack([torch.cat([every, first]), torch.cat([every, second])], -1)[positions]
    table = _pair_rows(num_nodes, positions.device).view(num_nodes, num_nodes)
    return _Ends(ends, table[ends], table[ends[:, 0], ends[:, 1]])


def _select(values: Tensor, index: Tensor) -> Tensor:
    """Rows ``(B, ..., C)`` of each graph's values ``(B, R, C)``."""
    flat = index.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).view(*index.shape, values.shape[-1])


class _Layer(nn.Module):
    """One round of attention, of node and of pair updates."""

    def __init__(self, width: int, pair_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.node_norm, self.update_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.pair_norm = nn.LayerNorm(pair_width)
        self.qkv = nn.Linear(width, 3 * width)
        self.bias = nn.Linear(pair_width, num_heads, bias=False)
        self.pair_value = nn.Linear(pair_width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.update = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.end_norm = nn.LayerNorm(width)
        self.ends = nn.Linear(width, 2 * pair_width, bias=False)
        self.pair_in = nn.Linear(pair_width, 2 * pair_width)
        self.attention_in = nn.Linear(num_heads, 2 * pair_width, bias=False)
        self.pair_out = nn.Linear(2 * pair_width, pair_width)

    def forward(self, h: Tensor, e: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.pair_norm(e)
        attention, message = self._attend(self.node_norm(h), normed, absent)
        h = h + self.out(message)
        h = h + self.update(self.update_norm(h))
        return h, e + self._pair_update(h, normed, attention)

    def _attend(self, h: Tensor, e: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        batch, n, heads = len(h), h.shape[-2], self.num_heads
        q, k, v = self.qkv(h).view(batch, n, 3, heads, h.shape[-1] // heads).permute(2, 0, 3, 1, 4)
        rows = _pair_rows(n, e.device)
        # Attention is kept as (B, j, i, h): a softmax over the last, short axis is
        # fourteen times slower than one over an axis with contiguous rows behind it.
        attention = _dense(self.bias(e), rows).view(batch, n, n, heads)
        attention = attention + (k @ (q / math.sqrt(q.shape[-1])).mT).permute(0, 2, 3, 1)
        weights = (attention + absent).flatten(2).softmax(1).view_as(attention)
        # Weighing the pairs before V is applied keeps the large product at pair width.
        dense = _dense(e, rows).view(batch, n, n, e.shape[-1])
        seen = weights.permute(0, 2, 3, 1) @ dense
        values = self.pair_value.weight.view(heads, h.shape[-1] // heads, dense.shape[-1])
        message = (weights.permute(0, 3, 2, 1) @ v).transpose(1, 2)
        message = message + torch.einsum("bihc,hdc->bihd", seen, values)
        return attention.flatten(1, 2), message.flatten(-2)

    def at(self, h: Tensor, e: Tensor, absent: Tensor, ends: _Ends) -> tuple[Tensor, Tensor]:
        """The first end and the own pair after this layer, ``(B, width)``, ``(B, pair_width)``."""
        normed = functional.pad(self.pair_norm(e), (0, 0, 0, 1))
        attention, message = self._attend_at(self.node_norm(h), normed, absent, ends)
        h = _select(h, ends.nodes) + self.out(message)
        h = h + self.update(self.update_norm(h))
        before, seen = (
            _select(rows, ends.pair[:, None])[:, 0]
            for rows in (functional.pad(e, (0, 0, 0, 1)), normed)
        )
        across = ends.nodes.flip(-1)[:, None, :, None].expand(-1, self.num_heads, -1, -1)
        both = attention.gather(-1, across).flatten(2).sum(-1)
        met = self.ends(self.end_norm(h)).sum(1)
        hidden = self.pair_in(seen) + met + self.attention_in(both)
        return h[:, 0], before + self.pair_out(functional.gelu(hidden))

    def _attend_at(
        self, h: Tensor, e: Tensor, absent: Tensor, ends: _Ends
    ) -> tuple[Tensor, Tensor]:
        """Attention of the two ends, ``(B, heads, 2, n)``, and what they receive."""
        width, heads = h.shape[-1], self.num_heads
        weight, bias = self.qkv.weight, self.qkv.bias
        q = functional.linear(_select(h, ends.nodes), weight[:width], bias[:width])
        kv = functional.linear(h, weight[width:], bias[width:])
        q, k, v = (
            part.reshape(*part.shape[:2], heads, width // heads).transpose(1, 2)
            for part in (q, *kv.chunk(2, -1))
        )
        dense = _select(e, ends.rows)
        attention = q / math.sqrt(q.shape[-1]) @ k.mT + self.bias(dense).permute(0, 3, 1, 2)
        weights = (attention + absent.flatten(1)[:, None, None]).softmax(-1)
        values = self.pair_value.weight.view(heads, width // heads, dense.shape[-1])
        seen = weights.transpose(1, 2) @ dense
        message = (weights @ v).transpose(1, 2) + torch.einsum("bihc,hdc->bihd", seen, values)
        return attention, message.flatten(-2)

    def _pair_update(self, h: Tensor, e: Tensor, attention: Tensor) -> Tensor:
        n = h.shape[-2]
        i, j = pairs(n, h.device)
        both = attention.index_select(1, i * n + j) + attention.index_select(1, j * n + i)
        # A product with the incidence matrix adds the two ends, and is faster than gathering.
        ends = _incidence(n, h.device).to(h.dtype) @ self.ends(self.end_norm(h))
        hidden = self.pair_in(e) + ends + self.attention_in(both)
        update: Tensor = self.pair_out(functional.gelu(hidden))
        return update


def _dense(rows: Tensor, index: Tensor) -> Tensor:
    """Rows of ordered pairs from rows of pairs, zero on the diagonal, ``(B, n * n, C)``."""
    return functional.pad(rows, (0, 0, 0, 1)).index_select(1, index)


def _pair_rows(num_nodes: int, device: torch.device) -> Tensor:
    """Row of each ordered pair among the pair states; the diagonal takes the row of zeros."""
    return pair_table(num_nodes, device).flatten() - num_nodes


@lru_cache(maxsize=64)
def _incidence(num_nodes: int, device: torch.device) -> Tensor:
    """Ones where a node is an end of a pair, ``(n(n-1)/2, n)``."""
    i, j = pairs(num_nodes, device)
    with torch.inference_mode(False):
        eye = torch.eye(num_nodes, device=device)
        return eye[i] + eye[j]


class GraphTransformer(nn.Module):
    """Logits of every site of partial graphs.

    Arguments:
        num_node_classes: Node classes.
        num_edge_classes: Edge classes, "no edge" among them.
        max_nodes: Nodes of the largest graph.
        width: Features of a node.
        pair_width: Features of a pair.
        num_layers: Rounds.
        num_heads: Attention heads; must divide ``width``.
    """

    __str__ = in_a_line

    def __init__(
        self,
        num_node_classes: int,
        num_edge_classes: int,
        max_nodes: int,
        width: int = 96,
        pair_width: int = 48,
        num_layers: int = 4,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads must divide width, got {num_heads} and {width}")
        self.num_node_classes, self.num_edge_classes = num_node_classes, num_edge_classes
        self.width, self.pair_width, self.num_heads = width, pair_width, num_heads
        self.node = nn.Embedding(num_node_classes + 2, width)
        self.size = nn.Embedding(max_nodes + 1, width)
        self.node_counts = nn.Linear(3, width, bias=False)
        self.pair = nn.Embedding(num_edge_classes + 2, pair_width)
        self.pair_counts = nn.Linear(_WALKS + 1, pair_width, bias=False)
        self.layers = nn.ModuleList(_Layer(width, pair_width, num_heads) for _ in range(num_layers))
        self.node_logits = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_node_classes))
        self.edge_logits = nn.Sequential(
            nn.LayerNorm(pair_width), nn.Linear(pair_width, num_edge_classes)
        )

    @property
    def settings(self) -> TrunkSettings:
        """Widths and numbers of classes."""
        numbers = self.width, self.pair_width, self.num_node_classes, self.num_edge_classes
        return TrunkSettings(*numbers)

    @property
    def arguments(self) -> dict[str, int]:
        """What it was built with, plainly."""
        return {
            **self.settings._asdict(),
            "max_nodes": self.size.num_embeddings - 1,
            "num_layers": len(self.layers),
            "num_heads": self.num_heads,
        }

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        """Logits of nodes and of pairs."""
        return self.node_logits, self.edge_logits

    def forward(self, sites: Tensor) -> Tensor:
        """Logits, ``(B, D, K)``.

        Arguments:
            sites: Partial graphs, ``(B, D)``.
        """
        h, e = self.states(sites)
        return widen(self.node_logits(h), self.edge_logits(e))

    def states(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        """Last states of the nodes and of the pairs, ``(B, n, width)``, ``(B, E, pair_width)``."""
        h, e, absent = self._embed(sites)
        for layer in self.layers:
            h, e = layer(h, e, absent)
        return h, e

    def at(self, sites: Tensor, positions: Tensor) -> Tensor:
        """Logits of one site of each graph, ``(B, K)``.

        Arguments:
            sites: Partial graphs, ``(B, D)``.
            positions: Sites, ``(B,)``.
        """
        h, e = self.states_at(sites, positions)
        num_nodes = node_count(sites.shape[-1])
        return pick(self.node_logits(h), self.edge_logits(e), positions, num_nodes)

    def states_at(self, sites: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Last states of one site of each graph, as a node and as a pair.

        Returns:
            ``(B, width)``, of one end where the site is a pair, and ``(B, pair_width)``,
            meaningless where it is a node.
        """
        h, e, absent = self._embed(sites)
        *layers, last = self.layers
        for layer in layers:
            h, e = layer(h, e, absent)
        assert isinstance(last, _Layer)
        return last.at(h, e, absent, _ends(positions, h.shape[-2]))

    def _embed(self, sites: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = node_count(sites.shape[-1])
        nodes, edges = sites[:, :n], sites[:, n:]
        counts = node_features(sites).to(self.node_counts.weight.dtype)
        walks = pair_features(sites).to(counts.dtype)
        h = self.node(nodes - PAD) + self.size(sizes(sites))[:, None] + self.node_counts(counts)
        e = self.pair(edges - PAD) + self.pair_counts(walks)
        absent = torch.zeros_like(h[..., :1]).masked_fill(nodes[..., None] == PAD, -torch.inf)
        return h, e, absent[..., None]


def check_network(network: nn.Module, alphabet: Alphabet) -> None:
    """Refuse a graph transformer whose numbers don't follow from the alphabet.

    Arguments:
        network: Any network; one of another class is left alone.
        alphabet: The classes and sizes of the objects.

    Raises:
        ValueError: A number differs; the message has its name and what it must be.
    """
    if not isinstance(network, GraphTransformer):
        return
    largest = network.size.num_embeddings - 1
    for name, given, needed, fits in (
        ("num_node_classes", network.num_node_classes, alphabet.num_atom_classes, False),
        ("num_edge_classes", network.num_edge_classes, alphabet.num_bond_classes, False),
        ("max_nodes", largest, alphabet.max_atoms, largest > alphabet.max_atoms),
    ):
        if given != needed and not fits:
            raise ValueError(
                f"network.{name} must be {needed}, as atom_types and max_atoms say, got {given}"
            )
