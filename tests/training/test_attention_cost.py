import pytest
import torch
from torch import nn

from vitlab.attention import Grid, SelfAttention, Window2D, windows
from vitlab.training import attention_cost
from vitlab.training.attention_cost import bench_attention, exponents, format_attention_table, kept_bytes


@pytest.fixture(scope="module")
def rows():
    return bench_attention(sides=(8, 16), rounds=1, num_threads=1, dim=12)


def test_every_layer_is_timed_on_every_grid_beside_full_attention(rows):
    layers = {row["layer"] for row in rows}
    assert {"full, fused", "window 7x7", "blocks 8x8", "linear", "linear, causal", "timm Attention"} <= layers
    assert [row["tokens"] for row in rows] == [64] * len(layers) + [256] * len(layers)
    by_layer = {row["layer"]: row for row in rows if row["tokens"] == 256}
    for row in by_layer.values():
        assert row["ratio"] == pytest.approx(by_layer["full, fused"]["seconds"] / row["seconds"])


def test_full_attention_is_left_out_where_it_takes_minutes(monkeypatch):
    monkeypatch.setattr(attention_cost, "MAX_QUADRATIC_TOKENS", 100)
    rows = bench_attention(sides=(16,), rounds=1, dim=12)
    assert {row["layer"] for row in rows} == {"window 7x7", "blocks 8x8", "linear", "linear, causal"}
    assert all(row["ratio"] is None for row in rows)


def test_kept_bytes_grow_with_the_tokens_in_windows_and_with_their_square_in_masked_attention():
    kept = {}
    for side in (32, 64):
        grid = Grid(side, side)
        tokens = torch.randn(1, grid.num_tokens, 12, requires_grad=True)
        window = SelfAttention(12, 3, pattern=Window2D(7))
        dense = SelfAttention(12, 3)
        mask = Window2D(7).mask(grid)[None, None]
        kept[side] = [
            kept_bytes(lambda tokens, layer=window, grid=grid: layer(tokens, grid), tokens),
            kept_bytes(lambda tokens, layer=dense, grid=grid, mask=mask: layer(tokens, grid, mask), tokens),
        ]
    window_growth, dense_growth = (kept[64][i] / kept[32][i] for i in (0, 1))
    assert window_growth == pytest.approx(4, rel=0.01)
    assert dense_growth > 10


def test_kept_bytes_counts_a_storage_once_and_no_weights():
    layer = nn.Linear(7, 5)
    assert kept_bytes(layer, torch.randn(2, 3, 7)) == 2 * 3 * 7 * 4
    assert kept_bytes(lambda tokens: tokens * tokens.transpose(0, 1), torch.randn(3, 3, 7, requires_grad=True)) == 252


def test_the_exponent_is_that_of_the_times():
    rows = [{"layer": "square", "tokens": n, "seconds": 3e-6 * n**2} for n in (256, 1024, 4096)]
    rows += [{"layer": "once", "tokens": 1024, "seconds": 1.0}]
    assert exponents(rows) == pytest.approx({"square": 2.0})


def test_a_window_looks_at_a_bounded_number_of_keys_per_query_on_every_grid():
    per_query = {side: Window2D(7).tiling(Grid(side, side)).keys_per_query for side in (24, 64, 128)}
    assert set(per_query.values()) == {(windows.TILE_2D + 6) ** 2}


def test_the_table_has_a_line_for_every_row_and_the_exponents(rows):
    pixel_rows = [{"pixels": "a", "patches": "b", "slowdown": 4.0, "low": 3.9, "high": 4.1}]
    table = format_attention_table(rows, pixel_rows).splitlines()
    assert sum(line.startswith("| window 7x7 |") for line in table) == 2
    assert table[-1] == "| a | b | 4.00 | 3.90 to 4.10 |"
    for block in "\n".join(table).split("\n\n"):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_pixel_tokens_are_timed_beside_patches(monkeypatch):
    monkeypatch.setattr(attention_cost, "_PIXEL_PAIRS", attention_cost._PIXEL_PAIRS[:1])
    (row,) = attention_cost.bench_pixel_tokens(rounds=1, batch_size=1)
    assert row["pixels"] == row["patches"] == "window 7x7"
    assert row["slowdown"] > 1


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="one round at least and ascending grid sides, got 0"):
        bench_attention(rounds=0)
    with pytest.raises(ValueError, match=r"ascending grid sides, got 1 and \[32, 32\]"):
        bench_attention(sides=(32, 32), rounds=1)
