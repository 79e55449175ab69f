"""How many images each of two models needs for the same error, at several levels of it."""

from __future__ import annotations

from vitlab.analysis.page_tables import NONE, table, text
from vitlab.analysis.task_result import Pair
from vitlab.analysis.wording import about, label, percent, significant


def levels_table(pair: Pair) -> str:
    """Return the images needed, their ratio and its interval by error level; nothing where no level is shared.

    Args:
        pair: two models on one task.
    """
    efficiency = pair.data_efficiency
    if not efficiency.at_levels:
        return ""
    more, less = efficiency.needs_more, efficiency.needs_less
    columns = (
        "Test error",
        f"Images for {label(more)}",
        f"Images for {label(less)}",
        "Times the images",
        "95 % interval",
    )
    rows = []
    for level in efficiency.at_levels:
        cells = (
            about(level["images"][more]),
            about(level["images"][less]),
            significant(level["ratio"]),
            _interval(level["interval"]),
        )
        head = f'<th scope="row">{text(percent(level["error"]))}</th>'
        rows.append(f"<tr>{head}{''.join(f'<td>{text(cell)}</td>' for cell in cells)}</tr>")
    caption = f"Images that {label(more)} and {label(less)} need for the same error, between the measured sizes"
    return table(caption, columns, [rows])


def _interval(ends: tuple[float | None, float | None] | None) -> str:
    """Return an interval of a ratio; an end that the measured sizes leave open is said to be so."""
    if ends is None:
        return NONE
    low, high = ends
    if low is None and high is None:
        return "open"
    if low is None:
        return f"up to {significant(high)}"
    return f"{significant(low)} or more" if high is None else f"{significant(low)} to {significant(high)}"
