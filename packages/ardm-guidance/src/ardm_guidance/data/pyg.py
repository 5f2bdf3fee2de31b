"""Partial graphs as batches of PyTorch Geometric, and back.

Every unordered pair of nodes is an edge in both directions whose attribute is its class, "no
edge" and :data:`~ardm_guidance.sites.graphs.MASK` among them: a partial graph is more than its
bonds.
Needs ``torch-geometric``, which is imported only when a function here is called.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ardm_guidance.sites.graphs import PAD, Graphs, sizes, to_dense, to_sites

if TYPE_CHECKING:
    from torch_geometric.data import Batch

__all__ = ["from_pyg", "to_pyg"]


def to_pyg(sites: Tensor) -> "Batch":
    """A batch with ``x`` (node classes), ``edge_index`` and ``edge_attr`` (edge classes).

    Arguments:
        sites: Partial graphs, ``(B, D)``.

    Raises:
        ImportError: ``torch-geometric`` is not installed.
    """
    from torch_geometric.data import Batch, Data

    nodes, edges = to_dense(sites)
    graphs = []
    for x, table, size in zip(nodes, edges, sizes(sites).tolist(), strict=True):
        index = (~torch.eye(size, dtype=torch.bool, device=sites.device)).nonzero().T
        edge_attr = table[:size, :size][tuple(index)]
        graphs.append(Data(x=x[:size], edge_index=index, edge_attr=edge_attr))
    return Batch.from_data_list(graphs)


def from_pyg(batch: "Batch", max_nodes: int) -> Tensor:
    """Sites, ``(B, D)``, of a batch as :func:`to_pyg` makes it.

    Arguments:
        batch: Node classes and the classes of all pairs.
        max_nodes: Nodes of the padded graphs.
    """
    nodes = torch.full((batch.num_graphs, max_nodes), PAD, device=batch.x.device)
    edges = torch.full((batch.num_graphs, max_nodes, max_nodes), PAD, device=batch.x.device)
    place = torch.arange(len(batch.x), device=batch.x.device) - batch.ptr[batch.batch]
    nodes[batch.batch, place] = batch.x
    source, target = batch.edge_index
    edges[batch.batch[source], place[source], place[target]] = batch.edge_attr
    return to_sites(Graphs(nodes, edges))
