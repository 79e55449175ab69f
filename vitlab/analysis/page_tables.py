"""The page's tables and lists: results, curves, costs, failures, commands, environment."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from vitlab.analysis.dial_places import noun
from vitlab.analysis.drawing import LOOKS
from vitlab.analysis.summary import costs, environment
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import about, count, label, percent, plural

NONE = "\u2013"  # en dash
_WORTH_NAMING = 0.05  # share in the average from which on a form is named


def text(words: Any) -> str:
    """Return words safe for the page, with a thin space that does not break before a percent sign."""
    return html.escape(str(words)).replace(" %", "\u202f%")


def table(
    caption: str, columns: Sequence[str], bodies: Iterable[Sequence[str]], text_columns: Sequence[int] = ()
) -> str:
    """Return a table that scrolls by itself where the screen is narrow.

    Args:
        caption: what the table shows.
        columns: column heads, as plain text.
        bodies: groups of finished rows.
        text_columns: which columns are aligned left, besides the first.
    """
    heads = "".join(
        f'<th scope="col"{" class=text" if index in text_columns else ""}>{text(column)}</th>'
        for index, column in enumerate(columns)
    )
    groups = "".join(f"<tbody>{''.join(rows)}</tbody>" for rows in bodies)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead>{groups}</table></div>"
    )


def results_table(result: TaskResult, order: Sequence[str]) -> str:
    """Return test error by model and size.

    Args:
        result: one task's analysis.
        order: all models of the page, for their colors.
    """
    columns = ("Model", "Images", "Test error", "95 % interval", "Seeds", "Learning rate", "Val. error", "NLL", "ECE")
    bodies = []
    for model in result.models:
        cells = [
            (
                count(point.train_size),
                percent(point.mean_error),
                _percents(point.interval),
                point.num_seeds,
                f"{point.learning_rate:g}",
                percent(point.mean_val_error),
                NONE if point.test_means["nll"] is None else f"{point.test_means['nll']:.3f}",
                NONE
                if point.test_means["calibration_error"] is None
                else percent(point.test_means["calibration_error"]),
            )
            for point in result.points_of(model)
        ]
        bodies.append(_group(model, order, cells))
    return table("Selected trials: mean over seeds", columns, bodies)


def dial_table(result: TaskResult) -> str:
    """Return a dial's error by data size and setting, beside that of its largest setting; nothing for several families.

    Args:
        result: analysis of a sweep with a dial.
    """
    settings, places = result.dial.settings, {place.model: place for place in result.dial.places}
    if not settings:
        return ""
    name = noun(result.dial.label)
    columns = ("Images", name.capitalize(), "Test error", "Lowest", f"Minus the largest {name}\u2019s", "95 % interval")
    bodies = []
    for size in sorted({setting.train_size for setting in settings}):
        own = [setting for setting in settings if setting.train_size == size]
        head = f'<th scope="rowgroup" rowspan="{len(own)}">{count(size)}</th>'
        rows = [
            (
                places[setting.model].words,
                percent(setting.mean_error),
                "yes" if setting.is_best else "",
                f"{100 * setting.difference:+.1f} points" if setting.interval else NONE,
                f"{100 * setting.interval[0]:+.1f} to {100 * setting.interval[1]:+.1f}" if setting.interval else NONE,
            )
            for setting in own
        ]
        bodies.append([row(cells, "" if index else head) for index, cells in enumerate(rows)])
    return table(
        "The dial, on the seeds that all arms share; the intervals of one size hold all at once", columns, bodies
    )


def fits_table(result: TaskResult, order: Sequence[str]) -> str:
    """Return what the curves foretell, the weights of their forms, and the numbers of a power law with offset."""
    columns = ("Model", "Extrapolated", "90 % interval", "a", "b", "c", "Residual (log)", "Forms and remarks")
    rows = []
    for model, curve in result.fits.items():
        fit, told = curve.power_law, curve.extrapolation
        known = fit.a is not None
        cells = [NONE, NONE]
        if told is not None:
            cells = [
                f"{percent(told.errors[0])} at {about(told.sizes[0])}",
                _percents((told.low[0], told.high[0])),
            ]
        cells += [f"{fit.a:.3g}", f"{fit.b:.3f}", percent(fit.c), f"{fit.residual:.3f}"] if known else [NONE] * 4
        remarks = [f"{percent(share, 0)} {name}" for name, share in curve.weights.items() if share >= _WORTH_NAMING]
        remarks += [fit.reason] if fit.reason else []
        if known and not fit.offset_identified:
            remarks.append("the sizes do not tell the offset c from 0")
        cells = "".join(_cell(cell) for cell in cells) + f'<td class="text">{text("; ".join(remarks) or NONE)}</td>'
        rows.append(f"<tr>{model_head(model, order)}{cells}</tr>")
    caption = "Fitted curves: what they foretell beyond the largest size, and a power law a · images⁻ᵇ + c"
    return table(caption, columns, [rows], text_columns=(7,))


def costs_table(result: TaskResult, order: Sequence[str]) -> str:
    """Return parameters, MACs, time and memory by model and size."""
    columns = ("Model", "Images", "Parameters", "MACs per image", "Seconds", "Peak memory", "Examples seen", "Device")
    cells: dict[str, list[tuple]] = {}
    for row in costs(result):
        memory = row["peak_memory_bytes"]
        cells.setdefault(row["model"], []).append(
            (
                count(row["train_size"]),
                _number(row["params"]),
                _number(row["macs"]),
                NONE if row["seconds"] is None else f"{row['seconds']:,.1f}",
                NONE if memory is None else f"{memory / 2**20:,.0f} MiB",
                _number(row["examples_seen"]),
                row["device"],
            )
        )
    bodies = [_group(model, order, rows) for model, rows in cells.items()]
    return table("Cost of a selected trial: median over seeds", columns, bodies)


def failures_table(result: TaskResult) -> str:
    """Return the failed trials with their errors, or nothing."""
    failed = [record for record in result.records if record["status"] == "failed"]
    failed.sort(key=lambda r: (r["model"], r["train_size"], r["learning_rate"], r["seed"]))
    rows = []
    for record in failed:
        cells = (count(record["train_size"]), record["seed"], f"{record['learning_rate']:g}")
        head = f'<th scope="row">{text(label(record["model"]))}</th>'
        error = f'<td class="text">{text(record.get("error") or "no message")}</td>'
        rows.append(f"<tr>{head}{''.join(_cell(cell) for cell in cells)}{error}</tr>")
    columns = ("Model", "Images", "Seed", "Learning rate", "Error")
    return table(f"{plural(len(rows), 'failed trial')}", columns, [rows], text_columns=(4,)) if rows else ""


def commands(result: TaskResult) -> str:
    """Return the command line of each selected trial, folded."""
    items = []
    for trial in result.selected:
        name = f"{label(trial['model'])}, {count(trial['train_size'])} images, seed {trial['seed']}"
        line = f"vitlab fit {shlex.join(trial.get('arguments') or [])}"
        test = percent(1 - trial["test"]["accuracy"], 2)
        items.append(f"<li>{text(name)}: {text(test)} error<pre>{html.escape(line)}</pre></li>")
    head = f"{text(result.name)}: {plural(len(items), 'command line')}"
    return f'<details><summary>{head}</summary><ul class="commands">{"".join(items)}</ul></details>'


def environment_table(results: Sequence[TaskResult]) -> str:
    """Return what the selected trials ran with."""
    rows = [
        f'<tr><th scope="row">{text(name)}</th><td class="text">{text(", ".join(values))}</td></tr>'
        for name, values in environment(results).items()
    ]
    return table("What the selected trials ran with", ("Part", "Version"), [rows], text_columns=(1,))


def row(cells: Iterable[Any], head: str) -> str:
    """Return a table's row.

    Args:
        cells: plain words or numbers.
        head: the finished first cell, or nothing where one of an earlier row reaches down to it.
    """
    return f"<tr>{head}{''.join(_cell(cell) for cell in cells)}</tr>"


def _cell(words: Any) -> str:
    return f"<td>{text(words)}</td>"


def _group(model: str, order: Sequence[str], cells: Sequence[Iterable[Any]]) -> list[str]:
    """Return rows of which the first carries the model's name for all."""
    head = model_head(model, order, f'scope="rowgroup" rowspan="{len(cells)}"')
    return [row(own, "" if index else head) for index, own in enumerate(cells)]


def model_head(model: str, order: Sequence[str], scope: str = 'scope="row"') -> str:
    """Return the head of a model's rows, in its color."""
    return f'<th {scope} class="model m{order.index(model) % len(LOOKS)}">{text(label(model))}</th>'


def _percents(interval: tuple[float, float] | None) -> str:
    return NONE if interval is None else f"{100 * interval[0]:.1f} to {percent(interval[1])}"


def _number(value: float | None) -> str:
    return NONE if value is None else count(value)
