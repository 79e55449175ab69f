"""Reads sweep folders and writes the report: page, figure, tables and summary, each whole or not at all."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitlab.analysis.dial_figure import draw_dial_figure
from vitlab.analysis.figures import draw_figure
from vitlab.analysis.latex import latex_tables
from vitlab.analysis.page import charted, write_page
from vitlab.analysis.summary import headlines, summarize
from vitlab.analysis.sweep_comparison import SweepComparison, compare_sweeps
from vitlab.analysis.sweep_pairing import Sweep
from vitlab.analysis.tables import curves_table, trials_table
from vitlab.analysis.task_result import TaskResult, analyze_task
from vitlab.analysis.views import View
from vitlab.atomic_file import atomic_file
from vitlab.sweep.plan_file import load_plan
from vitlab.sweep.store import read_records

__all__ = ["headlines", "read_sweeps", "write_report"]


def write_report(
    folders: Sequence[Path], out: Path | None = None, seed: int = 0, view: View | None = None
) -> dict[str, Any]:
    """Write index.html, curves.png/.svg/.pdf, trials.csv, curves.csv, tables.tex and summary.json; return the summary.

    A sweep with a dial also gets dial.png, .svg and .pdf.

    Args:
        folders: sweep folders, one task each; several become panels and sections of one report. Where several are of
            one task, each is compared with the first of them.
        out: where to write; FOLDER/report for a single folder.
        seed: seed of the bootstrap.
        view: what curves.png, .svg and .pdf show; errors by training images unless told otherwise.

    Raises:
        ValueError: if a folder holds no finished trial, several folders are given without `out`, or no trial of a task
            has recorded what the view asks for.
    """
    folders = [Path(folder) for folder in folders]
    if not folders:
        raise ValueError("write_report needs at least one sweep folder")
    if out is None and len(folders) > 1:
        raise ValueError(
            f"a report of {len(folders)} sweeps belongs to none of their folders; say where with --out DIR"
        )
    out = folders[0] / "report" if out is None else Path(out)
    results = read_sweeps(folders, seed)
    comparisons = compare_results(folders, results, seed)
    written = json.dumps(summarize(results, comparisons), indent=1, allow_nan=False) + "\n"
    figures = {"curves": draw_figure(charted(results, comparisons), view)}
    if any(result.dial for result in results):
        figures["dial"] = draw_dial_figure(results)
    files = {
        **{f"{name}.{kind}": drawn for name, files in figures.items() for kind, drawn in files._asdict().items()},
        "trials.csv": trials_table(results).encode(),
        "curves.csv": curves_table(results).encode(),
        "tables.tex": latex_tables(results).encode(),
        "index.html": write_page(results, comparisons, view is not None and view.reference).encode(),
        # The summary comes last: where it is new, all the others are.
        "summary.json": written.encode(),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_file(out / name, "wb") as file:
            file.write(content)
    return json.loads(written)


def read_sweeps(folders: Sequence[Path], seed: int = 0) -> list[TaskResult]:
    """Return the analysis of each sweep folder.

    Args:
        folders: sweep folders.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a folder holds no finished trial, or is given twice.
    """
    plans = [load_plan(folder) for folder in folders]
    tasks = Counter(plan.task for plan in plans)
    results = []
    for folder, called, plan in zip(folders, names_of(folders), plans, strict=True):
        name = plan.task if tasks[plan.task] == 1 else f"{plan.task} ({called})"
        result = analyze_task(plan, read_records(folder), name, seed, folder)
        if not result.points:
            raise ValueError(_nothing_to_report(folder, result))
        results.append(result)
    return results


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as many of the folders above them as it takes to tell all apart.

    Args:
        folders: sweep folders.

    Raises:
        ValueError: if one is given twice.
    """
    parts = [Path(folder).resolve().parts for folder in folders]
    twice = [folder for folder, own in zip(folders, parts, strict=True) if parts.count(own) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given more than once; name each sweep folder once")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len({*names}) == len(names):
            break
    return names


def compare_results(folders: Sequence[Path], results: Sequence[TaskResult], seed: int = 0) -> list[SweepComparison]:
    """Return each sweep against the first one of its task.

    Args:
        folders: sweep folders.
        results: their analyses, in the same order.
        seed: seed of the bootstrap.
    """
    first: dict[str, Sweep] = {}
    comparisons = []
    for folder, name, result in zip(folders, names_of(folders), results, strict=True):
        sweep = Sweep(name, result, _fingerprint(folder))
        task = result.plan.task
        if task in first:
            comparisons.append(compare_sweeps(first[task], sweep, seed))
        first.setdefault(task, sweep)
    return comparisons


def _fingerprint(folder: Path) -> str | None:
    """Return what the manifests of a sweep's smallest subsets say of its data; None where they name none or several."""
    manifests = sorted((Path(folder) / "subsets").glob("n*-seed*.json"), key=lambda path: path.stat().st_size)
    smallest = [path for path in manifests if path.name.partition("-")[0] == manifests[0].name.partition("-")[0]]
    found = set()
    for path in smallest:
        with contextlib.suppress(ValueError):
            found.add(json.loads(path.read_text(encoding="utf-8")).get("fingerprint"))
    return found.pop() if len(found) == 1 else None


def _nothing_to_report(folder: Path, result: TaskResult) -> str:
    counts = result.counts
    planned = f"{counts['done']} done and {counts['failed']} failed of {counts['planned']} planned"
    if not counts["done"]:
        return f"{folder} has no finished trial to report ({planned}); run `vitlab sweep` on it first"
    return f"{folder} has no tested trial to report ({planned}, none tested yet); let `vitlab sweep` go on first"
