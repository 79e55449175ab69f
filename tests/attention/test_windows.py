import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn

from vitlab.attention import (
    BlockedWindows,
    Causal,
    Grid,
    RelativeBias2D,
    SelfAttention,
    Window1D,
    Window2D,
    windows,
)

GRID = Grid(5, 7, 2)


def pairs(pattern, grid=GRID):
    """Which patches may look at which, as a function of two places."""
    mask = pattern.mask(grid)[grid.num_prefix_tokens :, grid.num_prefix_tokens :]
    return mask.reshape(grid.height, grid.width, grid.height, grid.width)


def test_a_row_window_counts_patches_in_reading_order():
    mask = pairs(Window1D(5))
    assert mask[2, 3].flatten().nonzero().flatten().tolist() == [15, 16, 17, 18, 19]
    assert mask[1, 0, 0, 5:].all()  # the end of the row above


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_a_square_window_is_what_a_kernel_covers(size, dilation):
    reach = size // 2 * dilation
    kernel = torch.ones(1, 1, size, size)
    for row in range(GRID.height):
        for column in range(GRID.width):
            image = torch.zeros(1, 1, GRID.height, GRID.width)
            image[0, 0, row, column] = 1
            covered = nn.functional.conv2d(image, kernel, padding=reach, dilation=dilation)[0, 0] > 0
            assert torch.equal(pairs(Window2D(size, dilation))[row, column], covered)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_blocks_are_disjoint_squares_from_the_shift_on(shift):
    mask = pairs(BlockedWindows(3, shift))
    for row in range(GRID.height):
        for column in range(GRID.width):
            rows = {r for r in range(GRID.height) if (r - shift) // 3 == (row - shift) // 3}
            columns = {c for c in range(GRID.width) if (c - shift) // 3 == (column - shift) // 3}
            assert {tuple(pair) for pair in mask[row, column].nonzero().tolist()} == {
                (r, c) for r in rows for c in columns
            }


@pytest.mark.parametrize("pattern", [Window1D(3), Window2D(3), BlockedWindows(2, 1)])
def test_tokens_without_a_place_see_all_and_are_seen_by_all(pattern):
    mask = pattern.mask(GRID)
    assert mask[:2].all()
    assert mask[:, :2].all()


def test_a_window_over_everything_is_full_attention():
    tokens = torch.randn(3, GRID.num_tokens, 11)
    window, full = SelfAttention(11, 1, pattern=Window2D(13)), SelfAttention(11, 1)
    full.load_state_dict(window.state_dict())
    torch.testing.assert_close(window(tokens, GRID), full(tokens, GRID), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "pattern", [Window1D(5), Window2D(3), Window2D(3, 2), BlockedWindows(3, 1), Window2D(3) & Causal()]
)
@pytest.mark.parametrize("tile", [2, 8])
def test_what_may_not_be_seen_has_a_gradient_of_exactly_zero(pattern, tile, monkeypatch):
    monkeypatch.setattr(windows, "TILE_2D", tile)
    monkeypatch.setattr(windows, "TILE_1D", tile)
    grid = Grid(7, 11, 1)
    attention = SelfAttention(10, 2, pattern=pattern)
    assert pattern.tiling(grid) is not None or tile == 8
    tokens, may = torch.randn(1, grid.num_tokens, 10, requires_grad=True), pattern.mask(grid)
    outputs = attention(tokens, grid)
    for looker in (0, 1, 40, 77):
        (gradient,) = torch.autograd.grad(outputs[0, looker].sum(), tokens, retain_graph=True)
        assert torch.equal(gradient[0].abs().sum(-1) > 0, may[looker])


@pytest.mark.parametrize("shift", [0, 2])
def test_blocked_windows_equal_timms_swin_attention_with_copied_weights(shift):
    size, heads, dim, grid = 5, 3, 21, Grid(10, 15)
    theirs = SwinTransformerBlock(dim, (10, 15), num_heads=heads, window_size=size, shift_size=shift).eval()
    nn.init.normal_(theirs.attn.relative_position_bias_table)
    ours = SelfAttention(
        dim, heads, pattern=BlockedWindows(size, shift), position=RelativeBias2D(heads, dim // heads, reach=size - 1)
    )
    ours.qkv.load_state_dict(theirs.attn.qkv.state_dict())
    ours.projection.load_state_dict(theirs.attn.proj.state_dict())
    # timm's table is by query minus key, ours by key minus query.
    table = theirs.attn.relative_position_bias_table.data.flip(0).T.unflatten(1, (2 * size - 1, 2 * size - 1))
    ours.position.table.data.copy_(table.reshape(ours.position.table.shape))
    tokens = torch.randn(2, grid.num_tokens, dim)
    expected = theirs._attn(tokens.unflatten(1, (10, 15))).flatten(1, 2)
    torch.testing.assert_close(ours(tokens, grid), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window1D(4), "Window1D .* size must be odd, got 4; use 3 or 5"),
        (lambda: Window2D(0), "size must be odd, got 0; use 1 or 3"),
        (lambda: Window2D(3, 0), "dilation must be 1 or more, got 0"),
        (lambda: BlockedWindows(3, 3), "shift from 0 to size - 1, got 3 and 3"),
    ],
)
def test_bad_sizes_are_refused_with_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
