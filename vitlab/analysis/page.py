"""The page one can mail: a single HTML file with its style and charts inside, that fetches nothing.

First the conclusion in a sentence per task, the charts and what is not fair about the comparison; then the numbers.
The page is whole without its scripts: report_chart.js draws a chart again for other axes and fewer models,
report_tables.js sorts tables, report_page.js has the controls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from vitlab.analysis import page_tables as tables
from vitlab.analysis.chart import crossovers, draw_chart
from vitlab.analysis.chart_data import chart_data
from vitlab.analysis.comparison_tables import comparison_section
from vitlab.analysis.comparison_wording import conclude_comparison
from vitlab.analysis.dial_chart import draw_dial_chart
from vitlab.analysis.drawing import Look, all_models, looks
from vitlab.analysis.fairness_box import fairness_box
from vitlab.analysis.page_style import style_sheet
from vitlab.analysis.page_tables import text
from vitlab.analysis.pair_tables import pair_sections, pairs_table
from vitlab.analysis.rate_choices import rates_table
from vitlab.analysis.reference_chart import reference_section
from vitlab.analysis.refinement_table import refinements_table
from vitlab.analysis.summary import missing_in_words
from vitlab.analysis.sweep_comparison import SweepComparison
from vitlab.analysis.targets import ERROR
from vitlab.analysis.task_result import TaskResult, conclude
from vitlab.analysis.training_courses import training_courses
from vitlab.analysis.views import extrapolated, not_recorded
from vitlab.analysis.wording import count, label, listing, plural, sentence

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_CONTROLS = '<div class="controls" role="group" aria-label="What the charts show" hidden></div>'
_SCRIPTS = ("report_chart.js", "report_tables.js", "report_page.js")


def write_page(
    results: Sequence[TaskResult], comparisons: Sequence[SweepComparison] = (), has_reference: bool = False
) -> str:
    """Return the whole page.

    Args:
        results: analyses, in the order to report them.
        comparisons: of sweeps of one task among them: these stand in one chart.
        has_reference: whether published curves stand below the charts.
    """
    drawn = charted(results, comparisons)
    order, title = all_models(drawn), _title(results)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="color-scheme" content="light dark"><title>{text(title)}</title><style>{style_sheet()}</style>'
    )
    sections = reference_section() if has_reference else ""
    sections += "".join(comparison_section(one) for one in comparisons)
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body><header><h1>{text(title)}</h1></header>'
        f"<main>{_first_screen(results, comparisons, order)}{sections}{_results(results, comparisons, order)}"
        f"{_failures(results)}{_reproduce(results)}</main>"
        f"<footer>{_method()}</footer>{_scripts(drawn, order)}</body></html>\n"
    )


def charted(results: Sequence[TaskResult], comparisons: Sequence[SweepComparison]) -> list[TaskResult]:
    """Return what has a chart of its own: compared sweeps together, then every other sweep.

    A dial's chart has no room for the arms of two sweeps.

    Args:
        results: analyses, in the order to report them.
        comparisons: of sweeps of one task among them.
    """
    joined = [one for one in comparisons if not any(sweep.plan.dial for sweep in one.sweeps)]
    inside = {id(sweep.result) for one in joined for sweep in one.sweeps}
    return [one.together for one in joined] + [result for result in results if id(result) not in inside]


def _title(results: Sequence[TaskResult]) -> str:
    """Name what is compared: models, or what a dial turns (the names of a dial's many arms would say less)."""
    names = [[result.dial.label] if result.dial else map(label, result.plan.models) for result in results]
    compared = list(dict.fromkeys(name for named in names for name in named))
    return f"{listing(compared)}: test error by number of training images"


def _first_screen(results: Sequence[TaskResult], comparisons: Sequence[SweepComparison], order: Sequence[str]) -> str:
    """One task stands large with the fairness box beside its chart; several stand side by side above the box."""
    style, drawn = looks(order), charted(results, comparisons)
    compared = {id(one.together): one for one in comparisons}
    panels = []
    for number, result in enumerate(drawn, 1):
        one = compared.pop(id(result), None)
        said = _conclusion(result) if one is None else _comparison(one)
        words = (conclude(result) if one is None else conclude_comparison(one)).words
        panels.append((said, _lead_chart(result, style, number, words)))
    apart = "".join(f'<div class="lead">{_comparison(one)}</div>' for one in compared.values())
    fairness = fairness_box([*(one.together for one in comparisons), *results])
    if len(panels) == 1:
        said, chart = panels[0]
        beside = f"<div>{chart}{_key(drawn)}</div>{fairness}"
        return f'<div class="lead">{said}</div>{_CONTROLS}<div class="beside">{beside}</div>'
    articles = "".join(f"<article>{said}{chart}</article>" for said, chart in panels)
    columns = "three" if len(panels) % 3 == 0 else "two"
    return f'{apart}{_CONTROLS}<div class="panels {columns}">{articles}</div>{_key(drawn)}{fairness}'


def _comparison(one: SweepComparison) -> str:
    """Return what two sweeps say against each other, and below it each by itself."""
    said = conclude_comparison(one)
    small = " ".join(text(sentence(part)) for part in (said.detail, said.more) if part)
    each = "".join(
        f"<li><b>{text(sweep.name)}</b>: {text(sentence(conclude(sweep.result).words))}{_unfinished(sweep.result)}</li>"
        for sweep in one.sweeps
    )
    if any(sweep.plan.dial for sweep in one.sweeps):
        each = ""  # they stand by themselves, each with its chart
    names = " and ".join(text(sweep.name) for sweep in one.sweeps)
    return (
        f'<div class="said"><p class="task">{text(one.task)}: {names}</p>'
        f'<h2 class="claim">{text(sentence(said.claim))}</h2>'
        + (f'<p class="soft">{small}</p>' if small else "")
        + (f'<ul class="each">{each}</ul></div>' if each else "</div>")
    )


def _conclusion(result: TaskResult) -> str:
    said = conclude(result)
    task = f"{result.name}: {result.plan.title}" if result.plan.title else result.name
    small = " ".join(text(sentence(part)) for part in (said.detail, said.more) if part)
    return (
        f'<div class="said"><p class="task">{text(task)}</p><h2 class="claim">{text(sentence(said.claim))}</h2>'
        + (f'<p class="soft">{small}</p>' if small else "")
        + f"{_foretold(result)}{_unfinished(result)}</div>"
    )


def _foretold(result: TaskResult) -> str:
    """Say where two models' curves cross beyond the measured sizes: apart from what was measured, and as a guess."""
    if len(result.pairs) != 1 or result.pairs[0].beyond is None:
        return ""
    words = sentence(result.pairs[0].beyond.words)
    return f'<p class="foretold"><b>Extrapolated, not measured:</b> {text(words)}</p>'


def _unfinished(result: TaskResult) -> str:
    unfinished = missing_in_words(result.counts)
    return f'<p class="unfinished">{text(sentence(unfinished))}</p>' if unfinished else ""


def _chart(result: TaskResult, style: dict[str, Look], number: int, words: str) -> str:
    return f"<figure>{draw_chart(result, style, number, sentence(words))}</figure>"


def _lead_chart(result: TaskResult, style: dict[str, Look], number: int, words: str) -> str:
    """Return the chart that answers the task's question: the dial where there is one, else the learning curves."""
    if result.dial is None:
        return _chart(result, style, number, words)
    return f"<figure>{draw_dial_chart(result, number, sentence(words))}</figure>"


def _key(results: Sequence[TaskResult]) -> str:
    key = "Line: mean over seeds. Band: 95 % interval. Small dots: single seeds."
    if any(result.dial for result in results):
        key += " Ring: lowest mean of its line."
    if all(result.dial for result in results):
        return f'<p class="key">{text(key)}</p>'
    key += " Dotted line: fitted curve."
    if any(extrapolated(result, model, ERROR.name, 2) for result in results for model in result.models):
        key += " Extrapolation, where switched on: dashed, in a lighter band that holds 90 % of new measurements."
    found = [crossovers(result) for result in results]
    if any(found):
        shaded = any(row["interval"] for rows in found for row in rows)
        key += f" Upright line: crossover{', shaded over its 95 % interval' if shaded else ''}."
    for words, names in _absent(results).items():
        key += f" {words[0].upper()}{words[1:]} was not recorded {names}."
    return f'<p class="key">{text(key)}</p>'


def _absent(results: Sequence[TaskResult]) -> dict[str, str]:
    """Return which targets some trials have not recorded, with where."""
    where: dict[str, list[str]] = {}
    for result in results:
        for words in not_recorded(result):
            where.setdefault(words, []).append(result.name)
    everywhere = len(results)
    return {
        words: "by these trials" if len(names) == everywhere else f"by all trials of {listing(names)}"
        for words, names in where.items()
    }


def _order_of(result: TaskResult, comparisons: Sequence[SweepComparison], order: Sequence[str]) -> Sequence[str]:
    """Return the models of the page with this sweep's own names, so that an arm has its color from the chart."""
    for one in comparisons:
        for number, sweep in enumerate(one.sweeps):
            if sweep.result is not result or not {*one.together.models} <= {*order}:
                continue
            own = list(order)
            for model, called in one.names[number].items():
                own[order.index(called)] = model
            return own
    return order


def _results(results: Sequence[TaskResult], comparisons: Sequence[SweepComparison], page_order: Sequence[str]) -> str:
    parts = []
    style = looks(page_order)
    drawn = charted(results, comparisons)
    numbers = {id(result): number for number, result in enumerate(drawn, start=len(drawn) + 1)}  # of charts below
    for result in results:
        counts, order = result.counts, _order_of(result, comparisons, page_order)
        done = f"{count(counts['done'])} of {plural(counts['planned'], 'planned trial')} done"
        said = f"{done}, {plural(counts['selected'], 'trial')} selected by validation accuracy and tested."
        parts.append(f'<section><h2>{text(result.name)}</h2><p class="soft">{text(said)}</p>')
        if result.dial:
            chart = _chart(result, style, numbers[id(result)], conclude(result).words)
            parts += [tables.dial_table(result), f'<div class="curves">{chart}</div>']
        if result.pairs:
            parts.append(pairs_table(result))
        parts += [
            tables.results_table(result, order),
            pair_sections(result),
            tables.fits_table(result, order),
            rates_table(result, order),
            training_courses(result, order),
            tables.costs_table(result, order),
            refinements_table(result),
            "</section>",
        ]
    return "".join(parts)


def _failures(results: Sequence[TaskResult]) -> str:
    found = [(result.name, tables.failures_table(result)) for result in results]
    parts = [f"<h3>{text(name)}</h3>{table}" for name, table in found if table]
    return f"<section><h2>Trials that failed</h2>{''.join(parts)}</section>" if parts else ""


def _reproduce(results: Sequence[TaskResult]) -> str:
    lead = "Each line repeats one plotted trial; on the same machine and number of threads it gives the same number."
    lists = "".join(tables.commands(result) for result in results)
    return f'<section><h2>Repeat it</h2><p class="soft">{lead}</p>{lists}{tables.environment_table(results)}</section>'


def _scripts(results: Sequence[TaskResult], order: Sequence[str]) -> str:
    """Return the charts' numbers and the page's scripts; nothing in a name can end them."""
    style = looks(order)
    charts = [
        chart_data(result, style, order, number + (len(results) if result.dial else 0))
        for number, result in enumerate(results, start=1)
    ]
    models = [{"id": index, "name": label(model)} for index, model in enumerate(order)]
    data = json.dumps({"models": models, "charts": charts}, separators=(",", ":"), allow_nan=False)
    sources = (files("vitlab.analysis").joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    programs = "".join(f"<script>{source}</script>" for source in sources)
    escaped = data.replace("<", "\\u003c")
    return (
        '<p id="live" class="unseen" aria-live="polite"></p>'
        f'<script type="application/json" id="chart-data">{escaped}</script>{programs}'
    )


def _method() -> str:
    words = (
        "How to read this: the learning rate of each model and size is the best on validation data, and test data is "
        "read for these trials alone. Intervals are 95 % bootstrap intervals over seeds, paired between models, with "
        "Student\u2019s tails; they hold for other seeds and subset draws of this data set, not for other data sets. "
        "A lead counts as beyond the noise after Holm\u2019s correction for the number of sizes; the intervals "
        "shown are of one size alone. More seeds to settle it are those that make it clear with a chance of 80 %. "
        "p over images is McNemar\u2019s test of these trained networks, with a test image counted once whatever the "
        "number of seeds; it holds for other test images, not for other seeds. "
        "A crossover is claimed only where each model leads beyond the noise on its side of it; "
        "what lies beyond the measured sizes is marked extrapolated. Tables for other programs lie beside this page: "
        "curves.csv, trials.csv, tables.tex and summary.json."
    )
    return f"<p>{text(words)}</p>"
