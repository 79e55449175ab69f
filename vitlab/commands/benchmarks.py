"""`vitlab bench`: speed as ratios, side by side in one run."""

import argparse

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_bench(commands: Commands) -> None:
    """Add `vitlab bench`."""
    parser = commands.add_parser("bench", help="training speed beside timm's and others', as ratios from one run")
    parser.add_argument(
        "what",
        nargs="?",
        choices=["models", "attention", "sequence"],
        default="models",
        help="models: beside timm's and torchvision's of the same shape; attention: windows and linear attention "
        "beside full attention as tokens grow; sequence: a ViT beside recurrent nets over the same tokens "
        "(default: models)",
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="interleaved repeats of each (default: 7)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.set_defaults(function=_bench)


def _bench(options: argparse.Namespace) -> int:
    settings = {"num_threads": options.threads, "device": options.device}
    if options.what == "attention":
        from vitlab.training.attention_cost import bench_attention, bench_pixel_tokens, format_attention_table

        rows = bench_attention(rounds=options.rounds, **settings)
        print(format_attention_table(rows, bench_pixel_tokens(options.rounds, **settings)))
        return 0
    if options.what == "sequence":
        from vitlab.training.sequence_cost import bench_sequence, format_sequence_table

        print(format_sequence_table(bench_sequence(options.rounds, **settings)))
        return 0
    from vitlab.training.throughput import bench, format_table

    print(format_table(bench(options.rounds, **settings)))
    return 0
