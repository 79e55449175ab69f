import pytest
import torch
from timm.layers import resample_abs_pos_embed

from vitlab.attention import Grid, LearnedPosition, NoPosition, Position, SinCos2D

DIM = 28


class OnScores(Position):
    def on_scores(self, grid):
        return torch.zeros(grid.num_tokens, grid.num_tokens)


class OnQueriesAndKeys(Position):
    def on_queries_and_keys(self, queries, keys, grid):
        return queries, keys


def test_no_position_leaves_everything_as_it_is():
    position, grid = NoPosition(DIM, Grid(3, 5)), Grid(3, 5)
    tokens, queries, keys = torch.randn(2, 15, DIM), torch.randn(2, 7, 15, 4), torch.randn(2, 7, 15, 4)
    assert position.on_tokens(tokens, grid) is tokens
    assert position.on_queries_and_keys(queries, keys, grid) == (queries, keys)
    assert position.on_scores(grid) is None


def test_a_position_knows_whether_it_belongs_before_the_first_block():
    grid = Grid(3, 5)
    assert all(p.acts_on_tokens_only for p in (NoPosition(), LearnedPosition(DIM, grid), SinCos2D(DIM, grid)))
    assert not OnScores().acts_on_tokens_only
    assert not OnQueriesAndKeys().acts_on_tokens_only


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 3])
def test_learned_position_adds_each_token_its_row(prefix, num_prefix_tokens):
    grid = Grid(3, 5, num_prefix_tokens)
    position = LearnedPosition(DIM, grid, prefix=prefix)
    tokens = torch.randn(2, grid.num_tokens, DIM)
    added = position.on_tokens(tokens, grid) - tokens
    rows = position.table if prefix else torch.cat([torch.zeros(1, num_prefix_tokens, DIM), position.table], dim=1)
    torch.testing.assert_close(added, rows.expand(2, -1, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(3, 5), (5, 3), (7, 7), (2, 2), (11, 4)])
@pytest.mark.parametrize("num_prefix_tokens", [0, 2])
def test_learned_position_resamples_as_timm_does(size, num_prefix_tokens):
    position = LearnedPosition(DIM, Grid(3, 5, num_prefix_tokens))
    grid = Grid(*size, num_prefix_tokens)
    expected = resample_abs_pos_embed(position.table, list(size), [3, 5], num_prefix_tokens)
    torch.testing.assert_close(position.on_tokens(torch.zeros(1, grid.num_tokens, DIM), grid), expected)


def test_learned_position_passes_gradients_through_resampling():
    position = LearnedPosition(DIM, Grid(3, 5))
    position.on_tokens(torch.zeros(1, 77, DIM), Grid(7, 11)).square().sum().backward()
    assert (position.table.grad != 0).all()


def test_learned_position_refuses_tokens_with_other_prefixes():
    position = LearnedPosition(DIM, Grid(3, 5, 1))
    with pytest.raises(ValueError, match="made for 1 prefix tokens, the tokens have 0"):
        position.on_tokens(torch.zeros(1, 15, DIM), Grid(3, 5))


def test_sincos_is_its_formula():
    table = SinCos2D(8, Grid(3, 5)).table_for(Grid(3, 5))[0]
    row, column = torch.tensor(2.0), torch.tensor(4.0)
    slow = 10_000**-0.5  # the second of dim / 4 = 2 frequencies
    angles = [column, column * slow], [row, row * slow]
    expected = [f(angle) for axis in angles for f in (torch.sin, torch.cos) for angle in axis]
    torch.testing.assert_close(table[2 * 5 + 4], torch.stack(expected))


def test_sincos_gives_every_patch_a_place_of_its_own():
    table = SinCos2D(DIM, Grid(3, 5)).table[0]
    distances = torch.cdist(table, table) + 10 * torch.eye(15)
    assert distances.min() > 0.1


def test_sincos_depends_on_the_distance_alone_between_two_patches():
    table = SinCos2D(DIM, Grid(7, 11)).table.unflatten(1, (7, 11))[0]
    likeness = (table[:-2, :-3] * table[2:, 3:]).sum(-1)  # every pair 2 rows and 3 columns apart
    torch.testing.assert_close(likeness, likeness[:1, :1].expand_as(likeness), atol=1e-4, rtol=0)


def test_sincos_on_a_larger_grid_agrees_where_the_grids_overlap():
    position = SinCos2D(DIM, Grid(3, 5))
    large = position.on_tokens(torch.zeros(1, 77, DIM), Grid(7, 11)).unflatten(1, (7, 11))
    torch.testing.assert_close(large[:, :3, :5], position.table.unflatten(1, (3, 5)))


@pytest.mark.parametrize("grid", [Grid(3, 5, 2), Grid(7, 3, 2)])
def test_sincos_leaves_prefix_tokens_alone(grid):
    tokens = torch.randn(2, grid.num_tokens, DIM)
    placed = SinCos2D(DIM, Grid(3, 5, 2)).on_tokens(tokens, grid)
    assert torch.equal(placed[:, :2], tokens[:, :2])
    assert not torch.isclose(placed[:, 2:], tokens[:, 2:]).all(-1).any()


def test_sincos_has_nothing_to_learn_or_to_save():
    position = SinCos2D(DIM, Grid(3, 5))
    assert not list(position.parameters())
    assert not position.state_dict()


def test_sincos_refuses_a_dim_without_four_quarters_and_a_bad_temperature():
    with pytest.raises(ValueError, match=r"multiple of 4 .* got 30"):
        SinCos2D(30, Grid(3, 5))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        SinCos2D(DIM, Grid(3, 5), temperature=0)
