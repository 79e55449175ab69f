"""What a page says of each two models: in words, in a row of a table, and size by size.

Two or three models have their pairs open on the page. Five have ten pairs, and there each one's tables are folded below
its sentence.
"""

from __future__ import annotations

from typing import Any

from vitlab.analysis.differences import Difference
from vitlab.analysis.efficiency_table import levels_table
from vitlab.analysis.page_tables import NONE, row, table, text
from vitlab.analysis.power import MAX_SEEDS
from vitlab.analysis.task_result import Pair, TaskResult, conclude_pair
from vitlab.analysis.wording import about, count, interval_of_sizes, label, percent, sentence, significant

_MOST_OPEN = 3  # pairs


def has_dial_table(result: TaskResult) -> bool:
    """Say whether a table of a dial's settings has the differences of all pairs at once."""
    return bool(result.dial and result.dial.settings)


def pairs_table(result: TaskResult) -> str:
    """Return crossover and data efficiency of each pair in numbers, above it in words if there are few.

    Args:
        result: one task's analysis, with a pair or more.
    """
    columns = ("Pair", "Crossover", "95 % interval", "Resamples that cross", "Times the images", "95 % interval")
    rows = []
    for pair in result.pairs:
        crossover, efficiency = pair.crossover, pair.data_efficiency
        share = NONE if crossover.share_crossing is None else percent(crossover.share_crossing, 0)
        known = crossover.candidate is not None and crossover.share_crossing is not None
        span = interval_of_sizes(crossover.interval, pair.train_sizes[0], pair.train_sizes[-1]) if known else NONE
        where = "none" if crossover.train_size is None else f"{about(crossover.train_size)} images"
        ratio = interval = NONE
        if efficiency.ratio is not None:
            ratio = f"{label(efficiency.needs_more)} needs {significant(efficiency.ratio)} \u00d7"
        if efficiency.interval is not None:
            interval = " to ".join(significant(end) for end in efficiency.interval)
        rows.append(row((where, span, share, ratio, interval), f'<th scope="row">{text(_name(pair))}</th>'))
    words = "" if _is_folded(result) else "".join(f"<p>{_words(pair)}</p>" for pair in result.pairs)
    return words + table("Crossover and data efficiency", columns, [rows])


def pair_sections(result: TaskResult) -> str:
    """Return each pair's differences size by size, and the images that both need for the same error.

    Args:
        result: one task's analysis; a dial of one family has none, as the dial's table has the differences.
    """
    if has_dial_table(result):
        return ""
    has_tests = [any(one.mcnemar for one in pair.differences) for pair in result.pairs]
    parts = []
    for place, pair in enumerate(result.pairs):
        # Where no predictions are kept at all, once is enough to say so.
        remark = image_remark(pair) if has_tests[place] or not (any(has_tests) or place) else ""
        shown = differences_table(pair) + remark + levels_table(pair)
        if _is_folded(result):
            said = f"<b>{text(_name(pair))}.</b> {_words(pair)}"
            shown = f'<details class="pair"><summary>{said}</summary>{shown}</details>'
        parts.append(shown)
    heading = f"<h3>{count(len(parts))} pairs, each size by size</h3>" if _is_folded(result) else ""
    return heading + "".join(parts)


def differences_table(pair: Any, where: str = "on the same seeds") -> str:
    """Return a pair's difference and data-efficiency ratio at each size.

    Args:
        pair: models, differences and data_efficiency (or None) of two models: a Pair, or an arm in two sweeps.
        where: on which images and seeds they were compared.
    """
    first, second = (label(model) for model in pair.models)
    efficiency = pair.data_efficiency
    more, less = (efficiency.needs_more, efficiency.needs_less) if efficiency else (None, None)
    needed = {at["train_size"]: at for at in efficiency.at_sizes} if efficiency else {}
    last = f"Times the images {label(more)} needs for {label(less)}\u2019s error" if more else "Images needed"
    columns = (
        "Images",
        f"{first} error minus {second} error",
        "95 % interval",
        "p over seeds, corrected",
        "p over images, corrected",
        "Ahead beyond the noise",
        "Seeds",
        "More seeds to settle it",
        last,
    )
    rows = []
    for one in pair.differences:
        times = needed.get(one.train_size)
        cells = (
            f"{100 * one.difference:+.1f} points",
            NONE if one.interval is None else f"{100 * one.interval[0]:+.1f} to {100 * one.interval[1]:+.1f}",
            NONE if one.adjusted_p_value is None else p_value(one.adjusted_p_value),
            NONE if one.mcnemar is None else p_value(one.mcnemar.adjusted_p_value),
            label(one.clear_leader) if one.clear_leader else "neither",
            one.num_seeds,
            _more_seeds(one),
            NONE if times is None else times["bound"] or significant(times["ratio"]),
        )
        rows.append(row(cells, f'<th scope="row">{count(one.train_size)}</th>'))
    return table(f"{first} and {second} at each size, {where}", columns, [rows])


def image_remark(pair: Any) -> str:
    """Return what the comparison over test images lacks, in words."""
    return f'<p class="soft">{text(sentence(pair.image_remark))}</p>' if pair.image_remark else ""


def _more_seeds(one: Difference) -> str:
    if one.clear_leader or one.spread is None:
        return NONE
    return f"over {MAX_SEEDS}" if one.more_seeds is None else count(one.more_seeds)


def p_value(p: float) -> str:
    """Return a p-value as tables give it."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def _is_folded(result: TaskResult) -> bool:
    """A dial of one family has no sections to fold: its own table has the differences of all its pairs."""
    return len(result.pairs) > _MOST_OPEN and not has_dial_table(result)


def _name(pair: Pair) -> str:
    return f"{label(pair.models[0])} and {label(pair.models[1])}"


def _words(pair: Pair) -> str:
    said = [conclude_pair(pair).words]
    said += [] if pair.data_efficiency.words in said[0] else [pair.data_efficiency.words]
    said += [pair.beyond.words] if pair.beyond else []
    return " ".join(text(sentence(part)) for part in said)
