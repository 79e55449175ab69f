"""What attention costs as tokens grow: windows, blocks and sums of features beside full attention, ours and timm's.

All layers are timed in turns, so that a noisy machine slows all alike; the exponent of time in tokens tells what the
formula promises (1 for windows and linear attention, 2 for full attention) from what the machine makes of it.
"""

import math
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.attention import BlockedWindows, Causal, Grid, KernelFeatures, Proportional, SelfAttention, Window2D
from vitlab.models import ClassifierHead, PixelTokenizer, ViT, ViTShape
from vitlab.training.memory import kept_bytes
from vitlab.training.throughput import compare_throughput, cpu_threads, seconds_of

WINDOW, BLOCK = 7, 8
MAX_QUADRATIC_TOKENS = 4096  # full attention takes minutes beyond
REFERENCE = "full, fused"


def bench_attention(
    sides: Sequence[int] = (16, 32, 64, 128),
    rounds: int = 5,
    num_threads: int | None = None,
    device: str = "cpu",
    dim: int = 192,
    num_heads: int = 3,
) -> list[dict[str, Any]]:
    """Time one layer of each kind of attention, forward and backward, on square grids of growing size.

    Args:
        sides: Rows (and columns) of patches of each grid, ascending.
        rounds: Timed steps of each layer, 1 or more.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where to run, such as cpu or cuda.
        dim: Width of a token.
        num_heads: Heads, which must divide dim.

    Returns:
        One row a layer and grid: `layer`, `tokens`, `seconds` (median), `ratio` (of full fused attention's median to
        this one's; None where that was not run), and `kept_bytes`, what the forward pass keeps for the backward one.

    Raises:
        ValueError: No grids or no rounds.
    """
    if rounds < 1 or not sides or list(sides) != sorted(set(sides)):
        raise ValueError(
            f"bench_attention needs one round at least and ascending grid sides, got {rounds} and {list(sides)}"
        )
    with cpu_threads(num_threads):
        return [row for side in sides for row in _rows(Grid(side, side), rounds, device, dim, num_heads)]


def bench_pixel_tokens(
    rounds: int = 5, batch_size: int = 8, num_threads: int | None = None, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Time training steps of a ViT on the 1,024 pixels of a 32x32 image beside one on its 256 patches of 2x2 pixels.

    Equal width and depth; four times as many tokens cost four times as much in the linear layers.

    Args:
        rounds: Timed steps of each model, 1 or more.
        batch_size: Images in a step, 1 or more.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where to run, such as cpu or cuda.

    Returns:
        One row a pair: `pixels` and `patches` (what attention either has), `slowdown` (time per image, pixels over
        patches; the median of the rounds), `low` and `high` (its quartiles).
    """
    with cpu_threads(num_threads):
        return [_pixel_row(kinds, rounds, batch_size, device) for kinds in _PIXEL_PAIRS]


def exponents(rows: Sequence[dict[str, Any]], least_tokens: int = 1024) -> dict[str, float]:
    """Return by which power of the tokens each layer's time grows, from least_tokens to the most that it was timed at.

    Args:
        rows: What bench_attention gave.
        least_tokens: Smaller grids are left out: there the cost of calling torch's functions rules.
    """
    growth = {}
    for layer in dict.fromkeys(row["layer"] for row in rows):
        timed = [row for row in rows if row["layer"] == layer and row["tokens"] >= least_tokens]
        if len(timed) > 1:
            times = timed[-1]["seconds"] / timed[0]["seconds"]
            growth[layer] = math.log(times) / math.log(timed[-1]["tokens"] / timed[0]["tokens"])
    return growth


def format_attention_table(rows: Sequence[dict[str, Any]], pixel_rows: Sequence[dict[str, Any]] = ()) -> str:
    """Return the rows as Markdown: milliseconds, memory, exponents, and pixel tokens beside patches.

    Args:
        rows: What bench_attention gave.
        pixel_rows: What bench_pixel_tokens gave.
    """
    lines = [
        f"| layer (forward + backward) | tokens | ms | times faster than {REFERENCE} | kept for backward, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        cells = [row["layer"], f"{row['tokens']:,}", f"{row['seconds'] * 1e3:.1f}", ratio]
        lines.append(f"| {' | '.join(cells)} | {row['kept_bytes'] / 1e6:.1f} |")
    lines += ["", "| layer | time grows with tokens to the power of |", "|---|---:|"]
    lines += [f"| {layer} | {exponent:.2f} |" for layer, exponent in exponents(rows).items()]
    if pixel_rows:
        lines += ["", "| 1,024 pixel tokens | 256 patch-2 tokens | time per image, pixels / patches | quartiles |"]
        lines += ["|---|---|---:|---|"]
        lines += [
            f"| {row['pixels']} | {row['patches']} | {row['slowdown']:.2f} | {row['low']:.2f} to {row['high']:.2f} |"
            for row in pixel_rows
        ]
    return "\n".join(lines)


class _OnGrid(nn.Module):
    """One layer on one grid, called with tokens alone."""

    def __init__(self, attention: nn.Module, **options: Any) -> None:
        super().__init__()
        self.attention = attention
        self.options = options

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attention(tokens, **self.options)


def _layers(grid: Grid, device: str, dim: int, num_heads: int) -> dict[str, nn.Module]:
    from timm.layers import Attention  # here, because importing timm takes seconds

    make = partial(SelfAttention, dim, num_heads)
    linear = {"score": KernelFeatures(), "normalizer": Proportional()}
    layers = {
        REFERENCE: _OnGrid(make(), grid=grid),
        f"window {WINDOW}x{WINDOW}": _OnGrid(make(pattern=Window2D(WINDOW)), grid=grid),
        f"blocks {BLOCK}x{BLOCK}": _OnGrid(make(pattern=BlockedWindows(BLOCK)), grid=grid),
        "linear": _OnGrid(make(**linear), grid=grid),
        "linear, causal": _OnGrid(make(**linear, pattern=Causal()), grid=grid),
    }
    if grid.num_tokens <= MAX_QUADRATIC_TOKENS:
        mask = Window2D(WINDOW).mask(grid, device)[None, None]
        layers["full, masked to the window"] = _OnGrid(make(), grid=grid, mask=mask)
        layers["timm Attention"] = _OnGrid(Attention(dim, num_heads, qkv_bias=True))
    else:
        del layers[REFERENCE]
    return {name: layer.to(device) for name, layer in layers.items()}


def _rows(grid: Grid, rounds: int, device: str, dim: int, num_heads: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    tokens = torch.randn(1, grid.num_tokens, dim, device=device, requires_grad=True)
    layers = _layers(grid, device, dim, num_heads)
    steps = {name: partial(_step, layer, tokens) for name, layer in layers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_index in range(rounds + 1):
        for name, step in steps.items():
            spent = seconds_of(step, device)
            if round_index:  # the first lays out tiles and allocates
                seconds[name].append(spent)
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    reference = medians.get(REFERENCE)
    return [
        {
            "layer": name,
            "tokens": grid.num_tokens,
            "seconds": median,
            "ratio": None if reference is None else reference / median,
            "kept_bytes": kept_bytes(layers[name], tokens),
        }
        for name, median in medians.items()
    ]


def _step(layer: nn.Module, tokens: Tensor) -> None:
    layer(tokens).sum().backward()


_WINDOWED = {"pattern": Window2D(WINDOW)}
_PIXEL_PAIRS = (
    (f"window {WINDOW}x{WINDOW}", _WINDOWED, f"window {WINDOW}x{WINDOW}", _WINDOWED),
    (f"window {WINDOW}x{WINDOW}", _WINDOWED, REFERENCE, {}),
    (REFERENCE, {}, REFERENCE, {}),
)


def _pixel_row(kinds: tuple[str, dict, str, dict], rounds: int, batch_size: int, device: str) -> dict[str, Any]:
    of_pixels, pixel_parts, of_patches, patch_parts = kinds
    torch.manual_seed(0)
    make = partial(
        ViT,
        image_size=32,
        num_classes=10,
        size=ViTShape(dim=192, depth=6, num_heads=3, mlp_dim=768),
        head=partial(ClassifierHead, pooling="mean"),
    )
    pixels = make(patch_size=1, tokenizer=PixelTokenizer, attention=partial(SelfAttention, **pixel_parts))
    patches = make(patch_size=2, attention=partial(SelfAttention, **patch_parts))
    measured = compare_throughput(patches, pixels, 32, batch_size, rounds, device)
    return {
        "pixels": of_pixels,
        "patches": of_patches,
        "slowdown": measured["ratio"],
        "low": measured["ratio_low"],
        "high": measured["ratio_high"],
    }
