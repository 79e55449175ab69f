"""The `vitlab` command. It looks at its first word and imports only what that word needs.

LightningCLI takes ten seconds to print its help; `vitlab --help`, `status` and `report` must not wait for torch.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import vitlab

if TYPE_CHECKING:
    from vitlab.inspection import AttentionPage

_LIGHTNING = {
    "fit": "train one model and measure it on validation data",
    "validate": "measure a checkpoint on validation data",
    "test": "measure a checkpoint on test data",
    "predict": "write a checkpoint's predictions for the test images",
}
MAX_PAGE_IMAGES = 12  # of inspect: each costs up to 5 MB, and measures want hundreds
_EPILOG = """\
commands that take YAML configs (each has its own --help):
{lightning}

start here:
  vitlab sweep configs/sweeps/glyphs_both.yaml --out runs/both --workers 2
  vitlab report runs/both
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 (trials failed), 2 (bad input) or 130 (stopped by the user).

    The environment variable VITLAB_DEBUG=1 shows where an error comes from.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments and arguments[0] in _LIGHTNING:
            from vitlab.training import run

            run.main(arguments[0], arguments[1:])
            return 0
        options = _parser().parse_args(arguments)
        return options.function(options)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("VITLAB_DEBUG"):
            raise
        print(f"vitlab: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nvitlab: stopped; the same command goes on where this one was", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    lightning = "\n".join(f"  {name:<10} {summary}" for name, summary in _LIGHTNING.items())
    parser = argparse.ArgumentParser(
        prog="vitlab",
        description="For this task and this much data: a ViT or a CNN, and from how many images on does that change?",
        epilog=_EPILOG.format(lightning=lightning),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vitlab {vitlab.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    _add_sweep(commands)
    _add_status(commands)
    _add_report(commands)
    _add_inspect(commands)
    _add_bench(commands)
    return parser


def _add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "sweep",
        help="train models x data sizes x seeds x learning rates; go on where it was",
        description="Train every model at every data size, seed and learning rate of a YAML file. Runs what is missing "
        "in the folder and skips what is there: after a crash or Ctrl-C, type the same command again.",
    )
    parser.add_argument("config", type=Path, help="the sweep's YAML file, such as configs/sweeps/glyphs_both.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records and report")
    parser.add_argument("--launcher", choices=["local"], default="local", help="where trials run (default: local)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="trials at a time (default: 1)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads per trial (default: cores / workers)")
    parser.add_argument("--retry-failed", action="store_true", help="run failed trials again")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="NAME=VALUE",
        help="a setting for all models, such as data.dataset.init_args.root=/data/flowers; may be repeated",
    )
    parser.set_defaults(function=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from vitlab.sweep.launchers import LocalLauncher
    from vitlab.sweep.sweep_file import read_sweep

    plan = read_sweep(options.config, options.overrides)
    launcher = LocalLauncher(options.workers, options.threads)
    counts = launcher.run(plan, options.out, options.retry_failed)
    print(f"{plan.task}: {counts.done} done, {counts.failed} failed, {counts.missing} missing of {len(plan.trials)}")
    if counts.untested:
        print(f"{counts.untested} selected trials could not be tested")
    if counts.failed or counts.untested:
        print(f"the errors are in the report and in {options.out}/trials; --retry-failed tries again")
    print(f"next: vitlab report {options.out}")
    return 1 if counts.failed_now else 0


def _add_status(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("status", help="how far a sweep is: done, failed, running, missing")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder")
    parser.set_defaults(function=_status)


def _status(options: argparse.Namespace) -> int:
    from vitlab.sweep.status import describe_status

    print(describe_status(options.folder))
    return 0


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "report",
        help="write the plot, tables and page of one or several sweeps",
        description="Choose learning rates on validation data, fit learning curves, estimate where the lead changes, "
        "and write index.html, curves.png, curves.svg, trials.csv, curves.csv, summary.json; dial.png and dial.svg "
        "where the sweep has a dial.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="one or several sweep folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default, for one sweep: DIR/report)")
    parser.set_defaults(function=_report)


def _report(options: argparse.Namespace) -> int:
    from vitlab.analysis.report import write_report

    summary = write_report(options.folders, options.out)
    out = options.out or options.folders[0] / "report"
    for headline in summary["headlines"]:
        print(headline)
    print(f"report: {out / 'index.html'}")
    return 0


def _add_inspect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "inspect",
        help="write a page to point at: where a model looks, alone or beside another",
        description="One HTML file that shows what each patch looks at, in every layer and head; it fetches nothing.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint", metavar="FILE", help="a .ckpt of vitlab fit (in its run's folder), or a sweep's"
    )
    source.add_argument("--timm", metavar="NAME", help="a timm model, such as vit_tiny_patch16_224.augreg_in21k")
    parser.add_argument(
        "--weights", metavar="FILE", help="weights for --timm; none: before training (default: the published ones)"
    )
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second model beside it: a checkpoint, timm:NAME or timm:NAME=FILE"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="PATH",
        help="image files or folders (default: validation images of the checkpoint's data)",
    )
    parser.add_argument("--num-images", type=int, default=6, metavar="N", help="the first N images (default: 6)")
    parser.add_argument("--layers", type=int, nargs="+", metavar="N", help="attention layers, from 0 (default: all)")
    parser.add_argument("--out", type=Path, default=Path("page.html"), metavar="FILE", help="(default: page.html)")
    parser.add_argument(
        "--measure",
        metavar="LIST",
        help="tables and figures beside the page, of distance,erf,cka,robustness (use --num-images 100 or more)",
    )
    parser.set_defaults(function=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from vitlab.inspection.measures import check_kinds
    from vitlab.training.checkpoint import load_images, load_model

    if options.weights and not options.timm:
        raise ValueError("--weights go with --timm; a checkpoint brings its own")
    kinds = [kind.strip() for kind in options.measure.split(",")] if options.measure is not None else []
    if options.measure is not None:
        check_kinds(kinds)
    source = options.checkpoint or f"timm:{options.timm}{f'={options.weights}' if options.weights else ''}"
    first = load_model(source)
    models = [first, *([load_model(options.compare)] if options.compare else [])]
    names, images = load_images(options.images, models, options.num_images)
    page = _make_page(models, names, images, options)
    if page is None and not kinds:
        named = " and ".join(trained.name for trained in models)
        raise ValueError(f"no attention to look at in {named}; give a ViT, or --measure erf for any model")
    for file in _measure(kinds, models, images, options) if kinds else []:
        print(f"measured: {file}")
    if page is not None:
        print(f"page: {page.save(options.out)} ({len(page.html) / 1e6:.1f} MB)")
    return 0


def _make_page(models: list, names: list, images: list, options: argparse.Namespace) -> "AttentionPage | None":
    """Return the page, or None where no model has attention."""
    from vitlab.inspection.drawing import pictures_of
    from vitlab.inspection.model_maps import model_maps
    from vitlab.inspection.page import page_of
    from vitlab.inspection.page_data import view_model

    names, images = names[:MAX_PAGE_IMAGES], [seen[:MAX_PAGE_IMAGES] for seen in images]
    views = []
    for trained, seen in zip(models, images, strict=True):
        inputs = trained.normalize(seen)
        maps = model_maps(trained.model, inputs, trained.name)
        views.append(view_model(trained.model, inputs, trained.name, options.layers, maps))
    if not any(view.layers for view in views):
        return None
    return page_of(views, pictures_of(images[0]), names, models[0].class_names)


def _measure(kinds: list[str], models: list, images: list, options: argparse.Namespace) -> list[Path]:
    from vitlab.inspection.measures import Subject, write_measures
    from vitlab.training.checkpoint import load_labels

    alike = len({trained.name for trained in models}) < len(models)
    subjects = [
        Subject(f"{trained.name} {number}" if alike else trained.name, trained.model, seen, trained.normalize)
        for number, (trained, seen) in enumerate(zip(models, images, strict=True), start=1)
    ]
    labels = None if options.images else load_labels(models[0], options.num_images)
    return write_measures(kinds, subjects, options.out.with_suffix(""), labels)


def _add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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


if __name__ == "__main__":
    sys.exit(main())
