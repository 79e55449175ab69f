import pytest
import torch
from timm.layers import RelPosBias, resize_rel_pos_bias_table_levit
from timm.models.swin_transformer import WindowAttention

from vitlab.attention import (
    ALiBi2D,
    BlockedWindows,
    Grid,
    QuadraticRelative,
    RelativeBias2D,
    SelfAttention,
    Window2D,
)

HEADS, HEAD_DIM = 3, 7
OFFSETS = torch.cartesian_prod(torch.arange(-4, 5), torch.arange(-6, 7)).unflatten(0, (9, 13))


def offsets_of(grid):
    places = grid.coordinates()
    return places[None] - places[:, None]


def as_timm_orders(table):
    """timm's table: query minus key, offsets flattened, heads last."""
    return table.flip(1, 2).flatten(1).T


@pytest.mark.parametrize("num_prefix_tokens", [0, 1])
def test_relative_bias_equals_timms_with_copied_numbers(num_prefix_tokens):
    ours = RelativeBias2D(HEADS, HEAD_DIM, grid=Grid(3, 5, num_prefix_tokens))
    theirs = RelPosBias((3, 5), HEADS, prefix_tokens=num_prefix_tokens)
    rows = [as_timm_orders(ours.table)]
    if num_prefix_tokens:
        to_prefix, from_prefix, within = ours.prefix
        rows.append(torch.stack([from_prefix, to_prefix, within]))
    theirs.relative_position_bias_table.data.copy_(torch.cat(rows))
    torch.testing.assert_close(ours.on_scores(Grid(3, 5, num_prefix_tokens)), theirs.get_bias()[0])


def test_a_layer_with_relative_bias_equals_swins_window_attention_with_copied_weights():
    ours = SelfAttention(HEADS * HEAD_DIM, HEADS, position=RelativeBias2D(HEADS, HEAD_DIM, grid=Grid(5, 5)))
    theirs = WindowAttention(HEADS * HEAD_DIM, HEADS, window_size=(5, 5))
    theirs.qkv.load_state_dict(ours.qkv.state_dict())
    theirs.proj.load_state_dict(ours.projection.state_dict())
    ours.position.table.data.normal_()
    theirs.relative_position_bias_table.data.copy_(as_timm_orders(ours.position.table))
    tokens = torch.randn(2, 25, HEADS * HEAD_DIM)
    torch.testing.assert_close(ours(tokens, Grid(5, 5)), theirs(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [3, 7, 11])
def test_relative_bias_on_another_grid_is_resampled_as_timm_does(side):
    position = RelativeBias2D(HEADS, HEAD_DIM, grid=Grid(5, 5))
    expected = resize_rel_pos_bias_table_levit(position.table.flatten(1).T, ((2 * side - 1) ** 2, HEADS))
    grid = Grid(side, side)
    index = (offsets_of(grid) + side - 1) @ torch.tensor([2 * side - 1, 1])
    torch.testing.assert_close(position.on_scores(grid), expected[index].permute(2, 0, 1))


@pytest.mark.parametrize("size", [(7, 2), (2, 11), (1, 1)])
def test_resampling_keeps_offset_zero_in_the_middle_and_directions_apart(size):
    grid = Grid(3, 5)
    position = RelativeBias2D(1, HEAD_DIM, grid=grid)
    rows, columns = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-4.0, 5), indexing="ij")
    position.table.data.copy_((rows + 10 * columns)[None])  # odd in both directions
    bias = position.on_scores(Grid(*size))[0]
    torch.testing.assert_close(bias, -bias.T, atol=1e-4, rtol=0)


def test_a_table_with_reach_serves_every_grid_as_it_is_and_repeats_its_border():
    position = RelativeBias2D(HEADS, HEAD_DIM, reach=(2, 3))
    assert position.table.shape == (HEADS, 5, 7)
    bias = position.bias(OFFSETS)
    torch.testing.assert_close(bias[:, 2:7, 3:10], position.table)
    assert torch.equal(bias[:, :2], bias[:, 2:3].expand(-1, 2, -1))
    assert torch.equal(bias[:, :, 10:], bias[:, :, 9:10].expand(-1, -1, 3))
    near = position.bias_on(torch.tensor([[1, -3]]), Grid(11, 13))
    torch.testing.assert_close(near[:, 0], position.table[:, 3, 0])


def test_the_model_tells_a_relative_bias_its_grid_once():
    position = RelativeBias2D(HEADS, HEAD_DIM)
    with pytest.raises(ValueError, match="no table yet; give it a grid or a reach, or call set_grid"):
        position.on_scores(Grid(3, 5))
    position.set_grid(Grid(3, 5))
    table = position.table
    position.set_grid(Grid(7, 2, num_prefix_tokens=1))
    assert position.table is table
    assert table.shape == (HEADS, 5, 9)
    assert position.prefix.shape == (3, HEADS)


def test_only_a_table_that_is_resampled_minds_a_larger_canvas():
    assert not RelativeBias2D(HEADS, HEAD_DIM).is_same_on_canvas
    assert RelativeBias2D(HEADS, HEAD_DIM, reach=2).is_same_on_canvas


@pytest.mark.parametrize("options", [{"grid": Grid(3, 5)}, {"reach": 1}], ids=["resampled", "as it is"])
@pytest.mark.parametrize("pattern", [Window2D(3), BlockedWindows(3)], ids=["window", "blocks"])
def test_windows_see_the_same_bias_whether_computed_in_tiles_or_as_a_whole(options, pattern):
    attention = SelfAttention(
        HEADS * HEAD_DIM, HEADS, pattern=pattern, position=RelativeBias2D(HEADS, HEAD_DIM, **options)
    )
    attention.position.table.data.normal_()
    grid = Grid(11, 13)
    tokens = torch.randn(2, grid.num_tokens, HEADS * HEAD_DIM)
    in_tiles = attention(tokens, grid)
    attention._force_plain = True
    torch.testing.assert_close(in_tiles, attention(tokens, grid), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reach", [0, (2, 0), (1, 2, 3)])
def test_a_reach_of_nothing_is_refused(reach):
    with pytest.raises(ValueError, match="reach must be 1 or more patches"):
        RelativeBias2D(HEADS, HEAD_DIM, reach=reach)


def test_quadratic_is_its_formula():
    centers = [(0.0, 1.0), (-2.0, 0.5), (3.0, -1.5)]
    bias = QuadraticRelative(HEADS, HEAD_DIM, centers=centers, alpha=0.7).bias(OFFSETS)
    assert bias.shape == (HEADS, 9, 13)
    for head, (row, column) in enumerate(centers):
        expected = -0.7 * ((OFFSETS[..., 0] - row) ** 2 + (OFFSETS[..., 1] - column) ** 2)
        torch.testing.assert_close(bias[head], expected)


def test_quadratic_equals_the_papers_product_form_up_to_what_softmax_does_not_see():
    position = QuadraticRelative(HEADS, HEAD_DIM)
    offsets, alpha = OFFSETS.flatten(0, 1).float(), position.log_alpha.exp()
    relative = torch.cat([offsets.square().sum(1, keepdim=True), offsets], dim=1)  # r = (|d|^2, d1, d2)
    values = -alpha[:, None] * torch.cat([torch.ones(HEADS, 1), -2 * position.centers], dim=1)  # v
    torch.testing.assert_close(position.bias(offsets).softmax(-1), (values @ relative.T).softmax(-1))


def test_a_large_alpha_makes_attention_take_the_one_token_at_its_center():
    position = QuadraticRelative(2, HEAD_DIM, centers=[(0, 1), (-1, 0)], alpha=50.0)
    weights = position.on_scores(Grid(3, 5)).softmax(-1)
    assert weights[0, 6, 7] > 1 - 1e-6  # one column to the right
    assert weights[1, 6, 1] > 1 - 1e-6  # one row up


def test_quadratic_centers_start_where_told_or_anew():
    told = QuadraticRelative(2, HEAD_DIM, centers=[(0, 1), (-1, 0)])
    told.centers.data.zero_()
    told.reset_parameters()
    assert told.centers.tolist() == [[0, 1], [-1, 0]]
    drawn = QuadraticRelative(2, HEAD_DIM)
    before = drawn.centers.clone()
    drawn.reset_parameters()
    assert (drawn.centers != before).all()


def test_quadratic_refuses_what_is_no_center_or_no_width():
    with pytest.raises(ValueError, match=r"centers must be 3 pairs \[rows, columns\], one for each head"):
        QuadraticRelative(HEADS, HEAD_DIM, centers=[(0, 0)])
    with pytest.raises(ValueError, match="alpha must be positive, got 0"):
        QuadraticRelative(HEADS, HEAD_DIM, alpha=0)


def test_alibi_falls_with_the_distance_at_a_slope_for_each_head():
    bias = ALiBi2D(8, HEAD_DIM).bias(OFFSETS)
    distances = OFFSETS.double().square().sum(-1).sqrt().float()
    for head in range(8):
        torch.testing.assert_close(bias[head], -distances * 2.0 ** -(head + 1))


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 6, 7, 12])
def test_alibi_has_a_slope_of_its_own_for_each_of_any_number_of_heads(num_heads):
    slopes = ALiBi2D(num_heads, HEAD_DIM).slopes
    assert len(slopes.unique()) == num_heads
    power = max(power for power in (1, 2, 4, 8) if power <= num_heads)
    torch.testing.assert_close(slopes[:power], ALiBi2D(power, HEAD_DIM).slopes)
    torch.testing.assert_close(slopes[power:], ALiBi2D(2 * power, HEAD_DIM).slopes[0::2][: num_heads - power])


@pytest.mark.parametrize("position", [QuadraticRelative, ALiBi2D])
def test_formulas_go_on_beyond_any_grid(position):
    made = position(HEADS, HEAD_DIM)
    small, large = made.on_scores(Grid(3, 5)), made.on_scores(Grid(7, 11))
    inside = [row * 11 + column for row in range(3) for column in range(5)]
    torch.testing.assert_close(large[:, inside][:, :, inside], small)


def test_alibi_has_nothing_to_learn_or_to_save():
    assert not list(ALiBi2D(HEADS, HEAD_DIM).parameters())
    assert not ALiBi2D(HEADS, HEAD_DIM).state_dict()
