import pytest
import torch
from timm.layers import RotaryEmbeddingCat, RotaryEmbeddingMixed, apply_rot_embed_cat

from vitlab.attention import Grid, RoPE2D, RoPE2DMixed

HEADS, HEAD_DIM, GRID = 3, 20, Grid(5, 7, num_prefix_tokens=2)
BOTH = [RoPE2D, RoPE2DMixed]


def heads_of(grid, batch=2):
    return torch.randn(batch, HEADS, grid.num_tokens, HEAD_DIM)


def test_axial_equals_timms():
    queries, keys = heads_of(GRID), heads_of(GRID)
    embedding = RotaryEmbeddingCat(HEAD_DIM, in_pixels=False, temperature=100.0, feat_shape=[5, 7]).get_embed()
    for ours, given in zip(
        RoPE2D(HEADS, HEAD_DIM).on_queries_and_keys(queries, keys, GRID), (queries, keys), strict=True
    ):
        torch.testing.assert_close(ours[:, :, 2:], apply_rot_embed_cat(given[:, :, 2:], embedding))


def test_mixed_equals_timms_with_copied_frequencies():
    queries, keys = heads_of(GRID), heads_of(GRID)
    theirs = RotaryEmbeddingMixed(HEADS * HEAD_DIM, depth=1, num_heads=HEADS, feat_shape=[5, 7], grid_indexing="ij")
    position = RoPE2DMixed(HEADS, HEAD_DIM)
    theirs.freqs.data[:, 0] = position.frequencies
    embedding = theirs.get_embed([5, 7])[0]
    for ours, given in zip(position.on_queries_and_keys(queries, keys, GRID), (queries, keys), strict=True):
        torch.testing.assert_close(ours[:, :, 2:], apply_rot_embed_cat(given[:, :, 2:], embedding))


def test_mixed_starts_with_the_same_speeds_as_timms_in_a_random_direction_for_each_head():
    ours = RoPE2DMixed(HEADS, HEAD_DIM).frequencies
    theirs = RotaryEmbeddingMixed(HEADS * HEAD_DIM, depth=1, num_heads=HEADS).freqs[:, 0]
    torch.testing.assert_close(ours.norm(dim=0), theirs.norm(dim=0))
    directions = torch.atan2(ours[0], ours[1])
    assert len(directions[:, 0].unique()) == HEADS
    turn = ours[:, :, :5] * ours[:, :, 5:]  # the second half of the pairs at a right angle to the first
    torch.testing.assert_close(turn.sum(0), torch.zeros(HEADS, 5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("rope", BOTH)
def test_a_score_depends_on_the_offset_alone(rope):
    grid = Grid(5, 7)
    query, key = torch.randn(2, 1, HEADS, 1, HEAD_DIM).expand(-1, -1, -1, grid.num_tokens, -1)
    queries, keys = rope(HEADS, HEAD_DIM).on_queries_and_keys(query, key, grid)
    scores = (queries @ keys.transpose(-2, -1)).unflatten(-1, (5, 7)).unflatten(2, (5, 7))[0]
    for row, column in [(0, 1), (2, 0), (1, 3)]:
        same = scores[:, range(5 - row)][:, :, range(7 - column)]
        pairs = torch.stack(
            [same[:, r, c, r + row, c + column] for r in range(5 - row) for c in range(7 - column)], dim=1
        )
        torch.testing.assert_close(pairs, pairs[:, :1].expand_as(pairs), atol=1e-4, rtol=1e-4)
    assert not torch.isclose(scores[:, 0, 0, 0, 1], scores[:, 0, 0, 1, 0], atol=1e-3).any()


@pytest.mark.parametrize("rope", BOTH)
def test_turning_keeps_lengths_and_leaves_prefix_tokens_exactly_alone(rope):
    queries, keys = heads_of(GRID), heads_of(GRID)
    turned = rope(HEADS, HEAD_DIM).on_queries_and_keys(queries, keys, GRID)
    for before, after in zip((queries, keys), turned, strict=True):
        assert torch.equal(after[:, :, :2], before[:, :, :2])
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
        assert not torch.isclose(after[:, :, 3:], before[:, :, 3:], atol=1e-3).all(-1).any()


@pytest.mark.parametrize("rope", BOTH)
def test_a_place_keeps_its_angles_on_a_larger_grid(rope):
    position = rope(HEADS, HEAD_DIM)
    large = position.angles(Grid(11, 13)).unflatten(1, (11, 13))[:, :5, :7]
    torch.testing.assert_close(large, position.angles(Grid(5, 7)).unflatten(1, (5, 7)))


@pytest.mark.parametrize("rope", BOTH)
def test_low_precision_is_rounded_once(rope):
    position, queries = rope(HEADS, HEAD_DIM), heads_of(GRID).bfloat16()
    turned, _ = position.on_queries_and_keys(queries, queries, GRID)
    exact, _ = position.on_queries_and_keys(queries.float(), queries.float(), GRID)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, exact.bfloat16())


def test_axial_turns_by_row_and_by_column_at_falling_speeds():
    angles = RoPE2D(HEADS, 12, temperature=8.0).angles(Grid(3, 5))[0]
    speeds = torch.tensor([1.0, 0.5, 0.25])
    torch.testing.assert_close(angles[2 * 5 + 4], torch.cat([2 * speeds, 4 * speeds]))


def test_mixed_draws_new_directions_for_each_copy():
    position = RoPE2DMixed(HEADS, HEAD_DIM)
    before = position.frequencies.clone()
    position.reset_parameters()
    assert not torch.isclose(position.frequencies, before).all(-1).any()


@pytest.mark.parametrize("rope", BOTH)
def test_what_cannot_be_turned_is_refused(rope):
    with pytest.raises(ValueError, match="head_dim must be a multiple of 4, got 14; choose another dim or num_heads"):
        rope(HEADS, 14)
    with pytest.raises(ValueError, match="temperature must be above 1, got 1"):
        rope(HEADS, HEAD_DIM, temperature=1)
    with pytest.raises(ValueError, match="made for a head_dim of 8, the heads have 20"):
        rope(HEADS, 8).on_queries_and_keys(heads_of(GRID), heads_of(GRID), GRID)
