"""Reads sweep folders and writes the report: page, figure, tables and summary, each whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitlab.analysis.dial_figure import draw_dial_figure
from vitlab.analysis.figures import draw_figure
from vitlab.analysis.latex import latex_tables
from vitlab.analysis.page import write_page
from vitlab.analysis.summary import headlines, summarize
from vitlab.analysis.tables import curves_table, trials_table
from vitlab.analysis.task_result import TaskResult, analyze_task
from vitlab.atomic_file import atomic_file
from vitlab.sweep.plan_file import load_plan
from vitlab.sweep.store import read_records

__all__ = ["headlines", "read_sweeps", "write_report"]


def write_report(folders: Sequence[Path], out: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Write index.html, curves.png/.svg/.pdf, trials.csv, curves.csv, tables.tex and summary.json; return the summary.

    A sweep with a dial also gets dial.png, .svg and .pdf.

    Args:
        folders: sweep folders, one task each; several become panels and sections of one report.
        out: where to write; FOLDER/report for a single folder.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a folder holds no finished trial, or several folders are given without `out`.
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
    written = json.dumps(summarize(results), indent=1, allow_nan=False) + "\n"
    figures = {"curves": draw_figure(results)}
    if any(result.dial for result in results):
        figures["dial"] = draw_dial_figure(results)
    files = {
        **{f"{name}.{kind}": drawn for name, files in figures.items() for kind, drawn in files._asdict().items()},
        "trials.csv": trials_table(results).encode(),
        "curves.csv": curves_table(results).encode(),
        "tables.tex": latex_tables(results).encode(),
        "index.html": write_page(results).encode(),
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
        ValueError: if a folder holds no finished trial.
    """
    plans = [load_plan(folder) for folder in folders]
    tasks = Counter(plan.task for plan in plans)
    results = []
    for folder, plan in zip(folders, plans, strict=True):
        name = plan.task if tasks[plan.task] == 1 else f"{plan.task} ({Path(folder).resolve().name})"
        result = analyze_task(plan, read_records(folder), name, seed, folder)
        if not result.points:
            raise ValueError(_nothing_to_report(folder, result))
        results.append(result)
    return results


def _nothing_to_report(folder: Path, result: TaskResult) -> str:
    counts = result.counts
    planned = f"{counts['done']} done and {counts['failed']} failed of {counts['planned']} planned"
    if not counts["done"]:
        return f"{folder} has no finished trial to report ({planned}); run `vitlab sweep` on it first"
    return f"{folder} has no tested trial to report ({planned}, none tested yet); let `vitlab sweep` go on first"
