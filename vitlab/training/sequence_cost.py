"""Parallel beside sequential: training throughput of a ViT and of recurrent nets over the same tokens.

A recurrent net takes as many steps one after the other as there are tokens, and operations that grow with the tokens;
attention takes one step, and operations that grow with their square (Vaswani et al., arXiv 1706.03762, table 1). Which
of the two counts depends on the device: work in parallel is free only where there are cores to do it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vitlab.attention import SinCos2D
from vitlab.models import RNN, RNNShape, ViT, ViTShape
from vitlab.training.throughput import compare_throughput, cpu_threads

NUM_TOKENS = (64, 256, 1024)
PATCH_SIZE = 2


@dataclass(frozen=True)
class Recurrent:
    """One recurrent net to be timed beside the ViT.

    Args:
        name: What tables call it.
        cell: lstm or gru.
        bidirectional: Whether it reads from both ends.
    """

    name: str
    cell: str
    bidirectional: bool = False


RECURRENT = (Recurrent("LSTM", "lstm"), Recurrent("GRU", "gru"), Recurrent("LSTM, both directions", "lstm", True))


def sequence_models(num_tokens: int, recurrent: Recurrent, dim: int = 64, depth: int = 2) -> tuple[ViT, RNN, int]:
    """Return a ViT and a recurrent net of equal width and depth over the same tokens, and the images' side in pixels.

    The ViT's MLPs are twice as wide as its tokens, which gives a block as many weights as an LSTM's layer. Its
    positions are computed (sin/cos), so that weights do not grow with tokens.

    Args:
        num_tokens: Tokens of an image, a square number.
        recurrent: Which recurrent net.
        dim: Width of a token, a multiple of 32.
        depth: Blocks and layers, 1 or more.

    Raises:
        ValueError: num_tokens is no square, or a number is out of range.
    """
    rows = round(num_tokens**0.5)
    if rows < 1 or rows * rows != num_tokens:
        raise ValueError(f"num_tokens must be a square number such as 64, 256 or 1024, got {num_tokens}")
    if dim < 32 or dim % 32:
        raise ValueError(f"dim must be a multiple of 32 (the width of a head), got {dim}")
    image_size = rows * PATCH_SIZE
    options = {"image_size": image_size, "num_classes": 10, "patch_size": PATCH_SIZE}
    vit = ViT(**options, size=ViTShape(dim, depth, num_heads=dim // 32, mlp_dim=2 * dim), position=SinCos2D)
    cell = {"cell": recurrent.cell, "bidirectional": recurrent.bidirectional}
    return vit, RNN(**options, size=RNNShape(dim, depth), **cell), image_size


def bench_sequence(
    rounds: int = 7,
    batch_size: int = 32,
    dim: int = 64,
    depth: int = 2,
    num_tokens: tuple[int, ...] = NUM_TOKENS,
    num_threads: int | None = None,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Time training steps of a ViT beside recurrent nets of the same width and depth.

    Args:
        rounds: Timed steps of each model, 1 or more.
        batch_size: Images in a step, 1 or more, whatever their size.
        dim: Width of a token, a multiple of 32.
        depth: Blocks and layers, 1 or more.
        num_tokens: Tokens of an image, square numbers.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where to run, such as cpu or cuda.

    Returns:
        One row a recurrent net and number of tokens: name, num_tokens, batch_size, device, vit_params and rnn_params,
        vit and rnn in images per second, and ratio, ratio_low and ratio_high (above 1: the ViT is faster) as
        compare_throughput gives them.

    Raises:
        ValueError: A number is out of range.
    """
    with cpu_threads(num_threads):
        return [
            _row(count, recurrent, dim, depth, rounds, batch_size, device)
            for count in num_tokens
            for recurrent in RECURRENT
        ]


def format_sequence_table(rows: list[dict[str, Any]]) -> str:
    """Return bench_sequence's rows as a table in Markdown.

    Args:
        rows: What bench_sequence gave.
    """
    lines = [
        "| tokens | RNN | batch | ViT parameters | RNN parameters | ViT img/s | RNN img/s | ratio | quartiles |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['num_tokens']:,} | {row['name']} | {row['batch_size']} | {row['vit_params']:,} | "
        f"{row['rnn_params']:,} | {row['vit']:.1f} | {row['rnn']:.1f} | {row['ratio']:.2f} | "
        f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _row(
    count: int, recurrent: Recurrent, dim: int, depth: int, rounds: int, batch_size: int, device: str
) -> dict[str, Any]:
    torch.manual_seed(0)
    vit, rnn, image_size = sequence_models(count, recurrent, dim, depth)
    measured = compare_throughput(vit, rnn, image_size, batch_size, rounds, device)
    return {
        "name": recurrent.name,
        "num_tokens": count,
        "batch_size": batch_size,
        "device": device,
        "vit_params": _num_parameters(vit),
        "rnn_params": _num_parameters(rnn),
        "vit": measured["ours"],
        "rnn": measured["theirs"],
        **{name: measured[name] for name in ("ratio", "ratio_low", "ratio_high")},
    }


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
