import pytest
import torch
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed

from vitlab.attention import Grid, LearnedFactorized2D, LearnedPosition, OneHot, SinCos1D, SinCos2D

DIM = 28


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


def test_one_hot_marks_the_row_from_the_front_and_the_column_from_the_back():
    grid = Grid(3, 5)
    table = OneHot(11, grid).table_for(grid)[0]
    for patch, (row, column) in enumerate(grid.coordinates().tolist()):
        expected = torch.zeros(11)
        expected[row] = expected[10 - column] = 1
        assert torch.equal(table[patch], expected)


def test_one_hot_of_the_index_is_the_identity():
    grid = Grid(3, 5)
    assert torch.equal(OneHot(17, grid, of="index").table_for(grid)[0], torch.eye(17)[:15])


@pytest.mark.parametrize(("of", "dim"), [("row_and_column", 8), ("index", 15)])
def test_one_hot_vectors_are_unique_at_the_smallest_dim_and_one_less_is_refused(of, dim):
    grid = Grid(3, 5, num_prefix_tokens=2)
    assert len(OneHot(dim, grid, of=of).table_for(grid)[0].unique(dim=0)) == 15
    with pytest.raises(
        ValueError, match=rf"one-hot vectors of {of} for 3 x 5 patches need a dim of {dim}, got {dim - 1}"
    ):
        OneHot(dim - 1, grid, of=of)


def test_one_hot_keeps_rows_and_columns_on_a_larger_grid_until_dim_is_full():
    position = OneHot(13, Grid(3, 5))
    large = position.table_for(Grid(5, 7)).unflatten(1, (5, 7))
    assert torch.equal(large[:, :3, :5], position.table_for(Grid(3, 5)).unflatten(1, (3, 5)))
    with pytest.raises(ValueError, match=r"5 x 11 patches need a dim of 16, got 13; use a larger dim"):
        position.on_tokens(torch.zeros(1, 55, 13), Grid(5, 11))


def test_one_hot_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="OneHot marks row_and_column or index, got of='row'"):
        OneHot(DIM, Grid(3, 5), of="row")


def test_sincos_1d_is_its_formula():
    table = SinCos1D(6, Grid(3, 5)).table_for(Grid(3, 5))[0]
    for number in range(15):
        angles = torch.tensor([number * 10_000 ** -(exponent / 3) for exponent in range(3)])
        torch.testing.assert_close(table[number], torch.cat([angles.sin(), angles.cos()]))


def test_sincos_1d_runs_on_to_any_number_of_patches_in_reading_order():
    position = SinCos1D(DIM, Grid(3, 5))
    torch.testing.assert_close(position.table_for(Grid(7, 11))[:, :15], position.table)
    assert torch.equal(position.table_for(Grid(5, 3)), position.table)  # it knows no rows


def test_sincos_1d_refuses_an_odd_dim_and_a_bad_temperature():
    with pytest.raises(ValueError, match=r"SinCos1D needs a dim that is a multiple of 2 .* got 7"):
        SinCos1D(7, Grid(3, 5))
    with pytest.raises(ValueError, match="temperature must be positive, got -1"):
        SinCos1D(DIM, Grid(3, 5), temperature=-1)


def test_sincos_equals_timms_up_to_the_order_of_its_quarters():
    ours = SinCos2D(DIM, Grid(3, 5)).table[0].unflatten(1, (4, 7))
    theirs = build_sincos2d_pos_embed([3, 5], dim=DIM, interleave_sin_cos=False).unflatten(1, (4, 7))
    torch.testing.assert_close(ours.sort(dim=1).values, theirs.sort(dim=1).values)


def test_factorized_is_a_sum_or_a_pair_of_row_and_column_vectors():
    grid = Grid(3, 5)
    added, paired = LearnedFactorized2D(DIM, grid), LearnedFactorized2D(DIM, grid, join="concatenate")
    for patch, (row, column) in enumerate(grid.coordinates().tolist()):
        torch.testing.assert_close(added.table_for(grid)[0, patch], added.rows[row] + added.columns[column])
        expected = torch.cat([paired.rows[row], paired.columns[column]])
        torch.testing.assert_close(paired.table_for(grid)[0, patch], expected)


@pytest.mark.parametrize("size", [(3, 5), (5, 3), (7, 7), (2, 2), (11, 5)])
@pytest.mark.parametrize("join", ["sum", "concatenate"])
def test_factorized_resamples_as_timm_resamples_the_whole_table(size, join):
    position = LearnedFactorized2D(DIM, Grid(3, 5), join=join)
    expected = resample_abs_pos_embed(position.table_for(Grid(3, 5)), list(size), [3, 5], num_prefix_tokens=0)
    torch.testing.assert_close(position.table_for(Grid(*size)), expected)


def test_factorized_learns_through_resampling():
    position = LearnedFactorized2D(DIM, Grid(3, 5))
    position.on_tokens(torch.zeros(1, 77, DIM), Grid(7, 11)).square().sum().backward()
    assert (position.rows.grad != 0).all()
    assert (position.columns.grad != 0).all()


def test_factorized_refuses_what_it_cannot_join():
    with pytest.raises(ValueError, match="half of dim each, got the odd dim 7; or use sum"):
        LearnedFactorized2D(7, Grid(3, 5), join="concatenate")
    with pytest.raises(ValueError, match="joins by sum or concatenate, got join='stack'"):
        LearnedFactorized2D(DIM, Grid(3, 5), join="stack")


@pytest.mark.parametrize("position", [LearnedPosition, LearnedFactorized2D])
def test_learned_vectors_can_be_drawn_anew(position):
    made = position(DIM, Grid(3, 5))
    before = made.table_for(Grid(3, 5)).clone()
    made.reset_parameters()
    assert not torch.isclose(made.table_for(Grid(3, 5)), before).all(-1).any()


@pytest.mark.parametrize("position", [LearnedPosition, LearnedFactorized2D])
def test_a_single_column_is_resampled_as_a_single_row_is(position):
    tall, wide = position(DIM, Grid(3, 1)), position(DIM, Grid(1, 3))
    for ours, theirs in zip(tall.parameters(), reversed(list(wide.parameters())), strict=True):
        theirs.data.copy_(ours)  # one table, or those of rows and columns exchanged
    torch.testing.assert_close(tall.table_for(Grid(7, 1)), wide.table_for(Grid(1, 7)))
