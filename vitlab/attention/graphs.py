"""Graphs: self-attention along edges, which is a layer of a graph neural network (Velickovic et al., GAT).

A graph of nodes is a grid of one row, `Grid(1, num_nodes)`; the same edges for every sample are a pattern, each
sample's own edges are a mask beside the tokens. Source: arXiv 1710.10903, section 2.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitlab.attention.grid import Grid
from vitlab.attention.patterns import Pattern


class GraphEdges(Pattern):
    """A node looks along the edges that start at it, and at itself.

    Args:
        num_nodes: Nodes of the graph, 1 or more.
        edges: Pairs (from, to): node `from` looks at node `to`; numbers from 0 to num_nodes - 1.
        undirected: Whether each edge is looked along in both directions.
        self_loops: Whether every node looks at itself too; without, a node with no edge gathers zeros.

    Shape: mask (tokens, tokens); tokens without a place look at all nodes and are seen by all.

    Raises:
        ValueError: An edge names a node that is not there, or the grid has another number of nodes.

    Source: Velickovic et al. (GAT), arXiv 1710.10903, section 2.1.
    """

    is_same_on_canvas = False  # nodes are numbered by their place in the row
    adjacency: Tensor

    def __init__(
        self, num_nodes: int, edges: Sequence[tuple[int, int]], undirected: bool = True, self_loops: bool = True
    ) -> None:
        super().__init__()
        adjacency = _adjacency(num_nodes, edges)
        if undirected:
            adjacency |= adjacency.T.clone()
        if self_loops:
            adjacency |= torch.eye(num_nodes, dtype=torch.bool)
        # Not a weight: it follows from the arguments, so checkpoints need not carry it.
        self.register_buffer("adjacency", adjacency, persistent=False)

    @classmethod
    def from_adjacency(cls, adjacency: Tensor) -> "GraphEdges":
        """Return the pattern of an adjacency matrix, taken as it is.

        Args:
            adjacency: Row i holds True (or not 0) where node i looks, (nodes, nodes).

        Raises:
            ValueError: The matrix is not square.
        """
        if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
            raise ValueError(f"an adjacency matrix is square, got {tuple(adjacency.shape)}; see graph_mask for batches")
        pattern = cls(len(adjacency), [], self_loops=False)
        pattern.adjacency = adjacency.bool().clone()
        return pattern

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return who may look at whom.

        Shape: (tokens, tokens) of bool.
        """
        if grid.num_patches != len(self.adjacency):
            raise ValueError(
                f"this graph has {len(self.adjacency)} nodes, the tokens have {grid.num_patches} places; use "
                f"Grid(1, {len(self.adjacency)})"
            )
        mask = torch.ones(grid.num_tokens, grid.num_tokens, dtype=torch.bool, device=device)
        mask[grid.num_prefix_tokens :, grid.num_prefix_tokens :] = self.adjacency
        return mask


def graph_mask(graphs: Tensor | Sequence[Sequence[tuple[int, int]]], num_nodes: int | None = None) -> Tensor:
    """Return a mask for SelfAttention in which each sample has a graph of its own.

    Args:
        graphs: Adjacency matrices (batch, nodes, nodes), row i True where node i looks; or one list of (from, to) pairs
            for each sample, looked along from `from` to `to` alone.
        num_nodes: Nodes of the largest graph; needed with lists of edges.

    Shape: (batch, 1, nodes, nodes) of bool.

    Raises:
        ValueError: The matrices are not square, num_nodes is missing, or an edge names a node that is not there.
    """
    if isinstance(graphs, Tensor):
        if graphs.ndim != 3 or graphs.shape[1] != graphs.shape[2]:
            raise ValueError(f"adjacency matrices are (batch, nodes, nodes), got {tuple(graphs.shape)}")
        return graphs.bool()[:, None]
    if num_nodes is None:
        raise ValueError("lists of edges do not tell how many nodes there are; give num_nodes")
    return torch.stack([_adjacency(num_nodes, edges) for edges in graphs])[:, None]


def _adjacency(num_nodes: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    adjacency = torch.zeros(num_nodes, num_nodes, dtype=torch.bool)
    for start, end in edges:
        if not (0 <= start < num_nodes and 0 <= end < num_nodes):
            raise ValueError(f"edge ({start}, {end}) names a node that is not there; nodes are 0 to {num_nodes - 1}")
        adjacency[start, end] = True
    return adjacency
