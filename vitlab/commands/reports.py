"""`vitlab report` and `vitlab curves`: from trial records, or from any table of errors, to plots, tables and words."""

import argparse
from pathlib import Path

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_report(commands: Commands) -> None:
    """Add `vitlab report`."""
    parser = commands.add_parser(
        "report",
        help="write the plot, tables and page of one or several sweeps",
        description="Choose learning rates on validation data, fit learning curves, estimate where the lead changes, "
        "and write index.html, curves.png, .svg and .pdf, trials.csv, curves.csv, tables.tex, summary.json; dial.png, "
        ".svg and .pdf where the sweep has a dial. Sweeps of one task are compared with the first of them: whether the "
        "answer changes, which arms do, and what differs in the settings.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="one or several sweep folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default, for one sweep: DIR/report)")
    parser.add_argument(
        "--axis",
        default="images",
        metavar="AXIS",
        help="what curves.png, .svg and .pdf have across: images, examples (seen in training), macs (of the training), "
        "seconds or params; the page can switch (default: images)",
    )
    parser.add_argument(
        "--target",
        default="error",
        metavar="TARGET",
        help="what they have upward: error, nll or calibration_error; the page can switch (default: error)",
    )
    parser.add_argument(
        "--reference",
        action="store_true",
        help="draw published learning curves beside the sweeps', dashed, in a panel of their own with their source",
    )
    parser.add_argument(
        "--extrapolate",
        action="store_true",
        help="let their fitted curves go on to three times the largest size, with 90 %% prediction intervals; the page "
        "can switch",
    )
    parser.set_defaults(function=_report)


def _report(options: argparse.Namespace) -> int:
    from vitlab.analysis.report import write_report
    from vitlab.analysis.views import View

    view = View(options.axis, options.target, options.reference, options.extrapolate)
    summary = write_report(options.folders, options.out, view=view)
    out = options.out or options.folders[0] / "report"
    for headline in summary["headlines"]:
        print(headline)
    print(f"report: {out / 'index.html'}")
    return 0


def add_curves(commands: Commands) -> None:
    """Add `vitlab curves`."""
    parser = commands.add_parser(
        "curves",
        help="fit, extrapolate and cross the learning curves of any CSV file",
        description="Fit learning curves to the rows with fit = 1 (all rows without such a column), foretell those "
        "with fit = 0, and find where models cross. Writes predictions.csv, crossovers.csv and curves.png, .svg, .pdf.",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE.csv",
        help="columns: model, size (or seen_examples), error, and optionally task, seed, fit",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--predict", type=float, nargs="+", default=[], metavar="SIZE", help="further sizes to foretell every curve at"
    )
    parser.add_argument(
        "--target",
        default="error",
        metavar="COLUMN",
        help="the quantity: error (0 to 1), or another column with a positive quantity, such as nll (default: error)",
    )
    parser.set_defaults(function=_curves)


def _curves(options: argparse.Namespace) -> int:
    from vitlab.analysis.curves_file import write_curves

    curves, crossings = write_curves(options.file, options.out, options.predict, options.target)
    for curve in curves:
        if curve.estimate.remark:
            print(f"{_on(curve.model, curve.task)}: {curve.estimate.remark}")
    for task, models, crossing in crossings:
        print(f"{_on(' and '.join(models), task)}: {crossing.words}")
    print(f"curves: {options.out / 'predictions.csv'}, crossovers.csv, curves.png, .svg, .pdf")
    return 0


def _on(what: str, task: str) -> str:
    return f"{what} on {task}" if task else what


def add_claims(commands: Commands) -> None:
    """Add `vitlab claims`."""
    parser = commands.add_parser(
        "claims",
        help="hold published statements against the results of sweeps",
        description="Say of each published statement whether these results reproduce or contradict it, are undecided, "
        "or cannot speak of it at their scale, with the measured figure.",
    )
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="sweep folders, or reports: a summary.json or a folder with one",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write them to FILE, .json or .md")
    parser.set_defaults(function=_claims)


def _claims(options: argparse.Namespace) -> int:
    from vitlab.analysis.claims import check_claims, claims_in_words, write_claims

    outcomes = check_claims(options.paths)
    if options.out:
        write_claims(outcomes, options.out)
    for line in claims_in_words(outcomes):
        print(line)
    return 0
