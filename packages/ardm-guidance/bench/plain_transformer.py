"""A plain graph transformer of the same size: what one writes first.

Everything is dense: states of all ordered pairs, attention and softmax in the usual layout,
the default optimiser. It is trained on the same loss and sampled in the same orders.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PlainTransformer"]


class Layer(nn.Module):
    """Attention with a bias and values from the pairs, then both updates."""

    def __init__(self, width: int, pair_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.pair_norm = nn.LayerNorm(pair_width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Linear(pair_width, num_heads, bias=False)
        self.pair_value = nn.Linear(pair_width, width, bias=False)
        self.update = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.ends = nn.Linear(width, 2 * pair_width, bias=False)
        self.pair_in = nn.Linear(pair_width, 2 * pair_width)
        self.attention_in = nn.Linear(num_heads, 2 * pair_width, bias=False)
        self.pair_out = nn.Linear(2 * pair_width, pair_width)

    def forward(self, h: Tensor, e: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """States of nodes ``(B, n, w)`` and ordered pairs ``(B, n, n, p)``."""
        b, n, w = h.shape
        normed = self.pair_norm(e)
        q, k, v = (
            self.qkv(self.norms[0](h)).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        )
        attention = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        attention = attention + self.bias(normed).permute(0, 3, 1, 2)
        weights = attention.masked_fill(~present[:, None, None], -torch.inf).softmax(-1)
        values = self.pair_value(normed).view(b, n, n, self.num_heads, -1)
        message = weights @ v + torch.einsum("bhij,bijhd->bhid", weights, values)
        h = h + self.out(message.transpose(1, 2).reshape(b, n, w))
        h = h + self.update(self.norms[1](h))
        ends = self.ends(self.norms[2](h))
        hidden = self.pair_in(normed) + ends[:, :, None] + ends[:, None]
        hidden = hidden + self.attention_in(attention.permute(0, 2, 3, 1))
        e = e + self.pair_out(functional.gelu(hidden))
        return h, (e + e.transpose(1, 2)) / 2


class PlainTransformer(nn.Module):
    """Logits of nodes and of ordered pairs; classes count from 0, the last input is "masked"."""

    def __init__(
        self, num_nodes: int, width: int, pair_width: int, num_layers: int, num_heads: int
    ) -> None:
        super().__init__()
        self.node, self.pair = nn.Embedding(9, width), nn.Embedding(5, pair_width)
        self.size = nn.Embedding(num_nodes + 1, width)
        self.layers = nn.ModuleList(Layer(width, pair_width, num_heads) for _ in range(num_layers))
        self.node_logits, self.edge_logits = nn.Linear(width, 8), nn.Linear(pair_width, 4)

    def forward(self, nodes: Tensor, edges: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, n, 8)`` and ``(B, n, n, 4)``."""
        h = self.node(nodes) + self.size(present.sum(1))[:, None]
        e = self.pair(edges)
        for layer in self.layers:
            h, e = layer(h, e, present)
        return self.node_logits(h), self.edge_logits(e)

    def loss(
        self, nodes: Tensor, edges: Tensor, present: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Negative bound of complete graphs, a mean over the batch."""
        b, n = nodes.shape
        i, j = torch.triu_indices(n, n, 1)
        flat = torch.cat([nodes, edges[:, i, j]], 1)
        there = torch.cat([present, present[:, i] & present[:, j]], 1)
        count = there.sum(1)
        number = 1 + (torch.rand(b, generator=generator) * count).long()
        keys = torch.rand(there.shape, generator=generator).masked_fill(~there, 2.0)
        hidden = keys.argsort(1).argsort(1) < number[:, None]
        shown_edges = torch.zeros_like(edges)
        shown_edges[:, i, j] = torch.where(hidden[:, n:], 4, flat[:, n:])
        shown_edges = shown_edges + shown_edges.transpose(1, 2)
        node, edge = self(torch.where(hidden[:, :n], 8, nodes), shown_edges, present)
        losses = torch.cat([
            functional.cross_entropy(node.transpose(1, 2), nodes, reduction="none"),
            functional.cross_entropy(edge[:, i, j].transpose(1, 2), flat[:, n:], reduction="none"),
        ], 1)  # fmt: skip
        return ((losses * hidden).sum(1) * count / number).mean()

    def sample(
        self, number: int, num_nodes: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Graphs of one size, each in an order of its own."""
        i, j = torch.triu_indices(num_nodes, num_nodes, 1)
        nodes = torch.full((number, num_nodes), 8)
        edges = torch.full((number, num_nodes, num_nodes), 4)
        present = torch.ones(number, num_nodes, dtype=torch.bool)
        total, row = num_nodes + len(i), torch.arange(number)
        order = torch.rand(number, total, generator=generator).argsort(1)
        for t in range(total):
            node, edge = self(nodes, edges, present)
            at = order[:, t]
            is_node = at < num_nodes
            a, k = at.clamp(max=num_nodes - 1), (at - num_nodes).clamp(min=0)
            node_draw = torch.multinomial(node[row, a].softmax(-1), 1, generator=generator)[:, 0]
            edge_draw = torch.multinomial(edge[row, i[k], j[k]].softmax(-1), 1, generator=generator)
            nodes[row[is_node], a[is_node]] = node_draw[is_node]
            r, k = row[~is_node], k[~is_node]
            edges[r, i[k], j[k]] = edges[r, j[k], i[k]] = edge_draw[~is_node, 0]
        return nodes, edges
