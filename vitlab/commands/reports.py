"""`vitlab report`: from trial records to a plot, tables and a page."""

import argparse
from pathlib import Path

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_report(commands: Commands) -> None:
    """Add `vitlab report`."""
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
