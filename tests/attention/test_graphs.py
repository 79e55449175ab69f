import pytest
import torch

from vitlab.attention import GraphEdges, Grid, SelfAttention, Window2D, graph_mask

NODES, DIM, HEADS = 11, 21, 3
GRID = Grid(1, NODES)
EDGES = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (7, 8), (8, 4), (9, 0)]


def random_adjacency(batch=None):
    shape = (NODES, NODES) if batch is None else (batch, NODES, NODES)
    adjacency = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.7
    adjacency[..., 3, :] = False  # a node without neighbors
    return adjacency


def test_edges_go_both_ways_unless_directed():
    mask = GraphEdges(NODES, EDGES).mask(GRID)
    assert torch.equal(mask, mask.T)
    assert mask.diagonal().all()
    assert mask.sum() == 2 * len(EDGES) + NODES
    directed = GraphEdges(NODES, EDGES, undirected=False, self_loops=False).mask(GRID)
    assert {tuple(edge) for edge in directed.nonzero().tolist()} == set(EDGES)


@pytest.mark.parametrize("plain", [False, True])
def test_permuting_nodes_permutes_outputs(plain):
    adjacency, order = random_adjacency(), torch.randperm(NODES)
    before = SelfAttention(DIM, HEADS, pattern=GraphEdges.from_adjacency(adjacency))
    after = SelfAttention(DIM, HEADS, pattern=GraphEdges.from_adjacency(adjacency[order][:, order]))
    after.load_state_dict(before.state_dict())
    before._force_plain = after._force_plain = plain
    nodes = torch.randn(2, NODES, DIM)
    torch.testing.assert_close(after(nodes[:, order], GRID), before(nodes, GRID)[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("plain", [False, True])
def test_a_node_never_depends_on_a_node_that_is_no_neighbor(plain):
    adjacency = random_adjacency() | torch.eye(NODES, dtype=torch.bool)
    attention = SelfAttention(DIM, HEADS, pattern=GraphEdges.from_adjacency(adjacency))
    attention._force_plain = plain
    nodes = torch.randn(1, NODES, DIM, requires_grad=True)
    outputs = attention(nodes, GRID)
    for node in range(NODES):
        (gradient,) = torch.autograd.grad(outputs[0, node].sum(), nodes, retain_graph=True)
        assert torch.equal(gradient[0].abs().sum(-1) > 0, adjacency[node])


def test_k_layers_reach_nodes_k_edges_away_and_no_further():
    line = GraphEdges(NODES, [(node, node + 1) for node in range(NODES - 1)])
    layers = [SelfAttention(DIM, HEADS, pattern=line) for _ in range(3)]
    nodes = torch.randn(1, NODES, DIM, requires_grad=True)
    outputs = nodes
    for layer in layers:
        outputs = layer(outputs, GRID)
    (gradient,) = torch.autograd.grad(outputs[0, 5].sum(), nodes)
    assert (gradient[0].abs().sum(-1) > 0).nonzero().flatten().tolist() == list(range(2, 9))


def test_a_graph_for_each_sample_gives_what_each_graph_alone_gives():
    adjacency, nodes = random_adjacency(batch=5), torch.randn(5, NODES, DIM)
    attention = SelfAttention(DIM, HEADS)
    together = attention(nodes, GRID, graph_mask(adjacency))
    for sample in range(5):
        alone = SelfAttention(DIM, HEADS, pattern=GraphEdges.from_adjacency(adjacency[sample]))
        alone.load_state_dict(attention.state_dict())
        expected = alone(nodes[sample : sample + 1], GRID)
        torch.testing.assert_close(together[sample : sample + 1], expected, atol=1e-6, rtol=1e-5)


def test_edge_lists_and_matrices_say_the_same():
    lists = [EDGES, EDGES[:3]]
    matrices = torch.stack([GraphEdges(NODES, edges, False, False).adjacency for edges in lists])
    assert torch.equal(graph_mask(lists, NODES), graph_mask(matrices))
    assert graph_mask(matrices.long()).dtype == torch.bool
    pattern = GraphEdges.from_adjacency(matrices[0])
    matrices[0, 3, 4] = ~matrices[0, 3, 4]
    assert pattern.adjacency[3, 4] != matrices[0, 3, 4], "the pattern changes with the caller's matrix"


def test_a_graph_and_a_window_combine():
    grid = Grid(3, 5)
    graph, window = GraphEdges(15, [(0, 14)], self_loops=False), Window2D(3)
    assert (graph | window).mask(grid).sum() == window.mask(grid).sum() + 2
    assert not (graph & window).mask(grid).any()
    tokens = torch.randn(2, 15, DIM)
    assert SelfAttention(DIM, HEADS, pattern=graph | window)(tokens, grid).shape == tokens.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GraphEdges(3, [(0, 3)]), r"edge \(0, 3\) names a node that is not there; nodes are 0 to 2"),
        (lambda: GraphEdges(3, []).mask(Grid(2, 2)), r"has 3 nodes, the tokens have 4 places; use Grid\(1, 3\)"),
        (lambda: GraphEdges.from_adjacency(torch.ones(2, 3)), r"square, got \(2, 3\)"),
        (lambda: graph_mask(torch.ones(3, 3)), r"\(batch, nodes, nodes\), got \(3, 3\)"),
        (lambda: graph_mask([[(0, 1)]]), "give num_nodes"),
    ],
)
def test_what_is_no_graph_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
