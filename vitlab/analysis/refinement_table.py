"""What refinement has added to a sweep, round by round, and why: the plan keeps the words."""

from __future__ import annotations

from vitlab.analysis.page_tables import table, text
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import count, sentence


def refinements_table(result: TaskResult) -> str:
    """Return the additions by round and size, or an empty text where nothing was added.

    Args:
        result: one task's analysis.
    """
    rows = []
    for part in result.plan.refinements or ():
        seeds = ", ".join(map(str, part["seeds"]))
        cells = [str(part["round"]), count(part["train_size"]), seeds, sentence(part["words"])]
        rows.append("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in cells[:3]))
        rows[-1] += f'<td class="text">{text(cells[3])}</td></tr>'
    if not rows:
        return ""
    columns = ("Round", "Images", "Seeds added", "What and why")
    return table("Added by refinement, for every arm", columns, [rows], text_columns=(3,))
