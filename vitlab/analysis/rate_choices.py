"""Which learning rates were tried, and which was chosen: the validation error at each, by model and data size."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from vitlab.analysis.page_tables import NONE, model_head, table, text
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import count, percent, plural
from vitlab.sweep.selection import chosen_learning_rates


def rates_table(result: TaskResult, order: Sequence[str]) -> str:
    """Return the mean validation error over seeds at every learning rate, the chosen one marked.

    Where rates were searched for, not all have all seeds; the number of seeds stands beside such a mean, and it can be
    lower than that of the chosen rate, which is the best of those with all.

    Args:
        result: one task's analysis.
        order: all models of the page, for their colors.
    """
    errors: dict[tuple[str, int, float], list[float]] = defaultdict(list)
    failed: dict[tuple[str, int, float], int] = defaultdict(int)
    for record in result.records:
        place = (record["model"], record["train_size"], record["learning_rate"])
        if record["status"] == "done":
            errors[place].append(1 - record["val"]["accuracy"])
        else:
            failed[place] += 1
    searched = result.plan.searches_rates
    chosen = chosen_learning_rates(result.records, result.plan)
    rates = sorted({rate for _, _, rate in (*errors, *failed)})
    bodies = []
    for model in result.models:
        sizes = sorted({size for name, size, _ in (*errors, *failed) if name == model})
        head = model_head(model, order, f'scope="rowgroup" rowspan="{len(sizes)}"')
        rows = []
        for index, size in enumerate(sizes):
            num_seeds = len(result.plan.seeds_of(size)) if searched else 0
            best = chosen.get((model, size))
            places = [(model, size, rate) for rate in rates]
            cells = [_cell(errors[place], failed[place], place[-1] == best, num_seeds) for place in places]
            rows.append(f"<tr>{'' if index else head}<td>{count(size)}</td>{''.join(cells)}</tr>")
        bodies.append(rows)
    columns = ("Model", "Images", *(f"{rate:g}" for rate in rates))
    title = "Validation error by learning rate: mean over seeds, the chosen rate in bold"
    if searched:
        how = "raced over the seeds" if result.plan.race else "searched for"
        title += f"; {how}, so most rates have some of the seeds, and only those with all can be chosen"
    return table(title, columns, bodies)


def _cell(errors: Sequence[float], num_failed: int, is_chosen: bool, num_seeds: int) -> str:
    """Say the mean error; `num_seeds` are those of the size where rates may have fewer, and 0 where they may not."""
    words = percent(statistics.fmean(errors)) if errors else NONE
    if errors and len(errors) + num_failed < num_seeds:
        words += f" ({plural(len(errors) + num_failed, 'seed')})"
    if num_failed:
        words += f" ({plural(num_failed, 'trial')} failed)"
    return f"<td><strong>{text(words)}</strong></td>" if is_chosen else f"<td>{text(words)}</td>"
