r"""First curves for a geodesic solver where the straight line is not enough.

Beyond the cut locus several geodesics join the same points and a solver finds the one its
first curve leads to.  :func:`bent_curves` tries several, by random sines that vanish at the
ends, and :func:`spread` tells how far apart their lengths are; :func:`graph_curves` follows
the data, by shortest paths in the graph of nearest neighbours.

References:
    Arvanitidis, Hauberg, Hennig & Schober (2019), Fast and Robust Shortest Paths on
    Manifolds Learned from Data, for the graph.
"""

import math

import torch
from torch import Tensor

from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.pairs.spaces import Space, bent, connected, edge_lengths, first_curves
from latentgeom.relaxation import curves

__all__ = ["bent_curves", "graph_curves", "spread"]


def bent_curves(
    space: Space,
    a: Tensor,
    b: Tensor,
    *,
    amplitude: float,
    generator: torch.Generator,
    num_segments: int = 32,
) -> Tensor:
    """Lines bent by a random sine of one half wave, ``(B, T + 1, n)``.

    Arguments:
        space: Metric or immersion in which curves are bent.
        a: Start points, ``(B, n)``.
        b: End points, ``(B, n)``.
        amplitude: Standard deviation of the bend, relative to the distance of the ends.
        generator: Source of the bends.
        num_segments: Segments.
    """
    line = first_curves(space, a, b, num_segments)
    shape = (len(a), 1, space.dim)
    draw = torch.randn(shape, generator=generator, dtype=a.dtype, device=generator.device).to(a)
    size = amplitude * torch.linalg.vector_norm(b - a, dim=-1)[:, None, None]
    wave = torch.linspace(0, math.pi, num_segments + 1, dtype=a.dtype, device=a.device)
    wave = wave[1:-1, None].sin()
    inner = bent(space, line[:, 1:-1], size * wave * draw)
    return torch.cat([line[:, :1], inner, line[:, -1:]], 1)


def spread(
    space: Space,
    a: Tensor,
    b: Tensor,
    *,
    num_starts: int = 4,
    amplitude: float = 0.5,
    generator: torch.Generator,
    num_segments: int = 32,
) -> tuple[GeodesicBatch, Tensor]:
    """The shortest geodesics of several starts, and the spread of the lengths found.

    The first start is the straight line, the others are bent; all are solved together.

    Arguments:
        space: Any metric, or an immersion.
        a: Start points, ``(B, n)``.
        b: End points, ``(B, n)``.
        num_starts: First curves of each pair, at least 1.
        amplitude: Standard deviation of the bends, relative to the distance of the ends.
        generator: Source of the bends.
        num_segments: Segments.

    Returns:
        The best curve of each pair, and the largest less the smallest converged length,
        ``(B,)``: zero where all starts agree, NaN where none converged.
    """
    if num_starts < 1:
        raise ValueError(f"num_starts must be at least 1, got {num_starts}")
    first = [first_curves(space, a, b, num_segments)]
    for _ in range(num_starts - 1):
        first.append(
            bent_curves(
                space, a, b, amplitude=amplitude, generator=generator, num_segments=num_segments
            )
        )
    many = [x.repeat(num_starts, 1) for x in (a, b)]
    found = connected(space, many[0], many[1], num_segments, torch.cat(first))
    stacked = GeodesicBatch(*(x.reshape(num_starts, len(a), *x.shape[1:]) for x in found))
    lengths = torch.where(stacked.converged, stacked.length, torch.inf)
    best = lengths.argmin(0)
    rows = torch.arange(len(a), device=a.device)
    longest = torch.where(stacked.converged, stacked.length, -torch.inf).amax(0)
    width = (longest - lengths.amin(0)).clamp(min=0)
    width = torch.where(stacked.converged.any(0), width, torch.nan)
    return GeodesicBatch(*(column[best, rows] for column in stacked)), width


def graph_curves(
    space: Space,
    codes: Tensor,
    pairs: Tensor,
    *,
    num_neighbors: int = 8,
    num_segments: int = 32,
) -> Tensor:
    """Shortest paths between codes in their graph of nearest neighbours, ``(P, T + 1, n)``.

    Edges join neighbours in the coordinates and are as long as the chords of their images, or in
    closed form.
    Pairs in different parts of the graph get straight lines.

    Arguments:
        space: Metric or immersion that measures the edges.
        codes: Codes, ``(N, n)``.
        pairs: Indices of the end points, ``(P, 2)``.
        num_neighbors: Neighbours of each code.
        num_segments: Segments of the curves.

    References:
        Tenenbaum, de Silva & Langford (2000), A Global Geometric Framework for Nonlinear
        Dimensionality Reduction.
    """
    from scipy.sparse.csgraph import dijkstra
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(codes.cpu().numpy(), min(num_neighbors, len(codes) - 1)).tocoo()
    row, col = (torch.from_numpy(x).long().to(codes.device) for x in (graph.row, graph.col))
    graph.data = edge_lengths(space, codes[row], codes[col]).double().cpu().numpy()
    sources, place = torch.unique(pairs[:, 0].cpu(), return_inverse=True)
    previous = dijkstra(
        graph.tocsr(), directed=False, indices=sources.numpy(), return_predecessors=True
    )[1]
    lines = []
    for row, (start, end) in zip(place.tolist(), pairs.tolist(), strict=True):
        path = [end]
        while previous[row, path[-1]] >= 0:
            path.append(int(previous[row, path[-1]]))
        nodes = codes[path[::-1]] if path[-1] == start else codes[[start, end]]
        nodes = nodes if len(nodes) > 1 else codes[[start, end]]
        lines.append(curves.resample(nodes, num_segments))
    return torch.stack(lines)
