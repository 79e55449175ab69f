"""`vitlab bench`: speed as ratios, side by side in one run."""

import argparse
import json
from pathlib import Path
from typing import Any

from vitlab.atomic_file import atomic_file

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"
Rows = list[dict[str, Any]]


def add_bench(commands: Commands) -> None:
    """Add `vitlab bench`."""
    parser = commands.add_parser("bench", help="training speed beside timm's and others', as ratios from one run")
    parser.add_argument(
        "what",
        nargs="?",
        choices=list(_KINDS),
        default="models",
        help="models: beside timm's, torchvision's and a plain ViT of the same shape, with memory and the machine's "
        "limit; variants: bf16 and the settings of --speed beside none; loop: epochs of `vitlab fit` beside a bare "
        "PyTorch loop; input: augmentation beside torchvision's; attention: windows and linear attention beside full "
        "attention as tokens grow; sequence: a ViT beside recurrent nets over the same tokens (default: models)",
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="interleaved repeats of each (default: 7)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="models: both sides compiled (torch.compile); variants: compiled beside not; compiling takes minutes on a "
        "CPU and is not part of the times",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too, to track them")
    parser.set_defaults(function=_bench)


def _bench(options: argparse.Namespace) -> int:
    settings = {"rounds": options.rounds, "num_threads": options.threads, "device": options.device}
    if options.compile and options.what not in _COMPILABLE:
        raise ValueError(f"--compile is for bench {' and '.join(_COMPILABLE)}, and this is bench {options.what}")
    rows, table = _KINDS[options.what](settings, **({"compiled": True} if options.compile else {}))
    if options.json:
        from vitlab.training.limits import describe_machine

        document = {"bench": options.what, **settings, "compile": options.compile, **describe_machine(), "rows": rows}
        with atomic_file(options.json, "w") as file:
            json.dump(document, file, indent=1)
    print(table)
    return 0


def _models(settings: dict[str, Any], compiled: bool = False) -> tuple[Rows, str]:
    from vitlab.training.throughput import PAIRS, bench, format_table
    from vitlab.training.variants import both_compiled

    rows = bench(**settings, pairs=both_compiled(PAIRS) if compiled else PAIRS)
    return rows, format_table(rows)


def _variants(settings: dict[str, Any], compiled: bool = False) -> tuple[Rows, str]:
    from vitlab.training.throughput import bench, format_table
    from vitlab.training.variants import COMPILED, VARIANTS

    rows = bench(**settings, pairs=COMPILED if compiled else VARIANTS)
    return rows, format_table(rows, ("with", "without"))


def _loop(settings: dict[str, Any]) -> tuple[Rows, str]:
    from vitlab.training.loop_cost import bench_loop, format_loop_table

    rows = bench_loop(**settings)
    return rows, format_loop_table(rows)


def _input(settings: dict[str, Any]) -> tuple[Rows, str]:
    from vitlab.training.input_cost import bench_input, format_input_table

    rows = bench_input(**settings)
    return rows, format_input_table(rows)


def _attention(settings: dict[str, Any]) -> tuple[Rows, str]:
    from vitlab.training.attention_cost import bench_attention, bench_pixel_tokens, format_attention_table

    rows, pixel_rows = bench_attention(**settings), bench_pixel_tokens(**settings)
    return [*rows, *pixel_rows], format_attention_table(rows, pixel_rows)


def _sequence(settings: dict[str, Any]) -> tuple[Rows, str]:
    from vitlab.training.sequence_cost import bench_sequence, format_sequence_table

    rows = bench_sequence(**settings)
    return rows, format_sequence_table(rows)


_KINDS = {
    "models": _models,
    "variants": _variants,
    "loop": _loop,
    "input": _input,
    "attention": _attention,
    "sequence": _sequence,
}
_COMPILABLE = ("models", "variants")
