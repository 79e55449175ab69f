"""The page's box on what is not fair about its comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.analysis.fairness import LEVELS, Finding
from vitlab.analysis.page_tables import text
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import listing, plural

_LEVELS = {"refuse": "Refuse", "warn": "Warning", "note": "Note"}


def fairness_box(results: Sequence[TaskResult]) -> str:
    """Return each finding once, gravest first, with the tasks or the sweeps that it holds for.

    Args:
        results: analyses; sweeps that are compared stand there as one too.
    """
    where: dict[Finding, list[str]] = {}
    for result in results:
        for finding in result.findings:
            where.setdefault(finding, []).append(result.name)
    grave, notes = [], []
    for finding in sorted(where, key=lambda finding: LEVELS.index(finding.level)):
        everywhere = len(where[finding]) == len(results)
        named = "" if everywhere else f' <span class="soft">({text(listing(where[finding]))})</span>'
        level = f'<span class="level">{_LEVELS[finding.level]}</span>'
        item = f'<li class="{finding.level}">{level}<span>{text(finding.words)}{named}</span></li>'
        (notes if finding.level == "note" else grave).append(item)
    folded = len(results) > 1 and notes  # the notes of several tasks would push the numbers off the screen
    listed = "".join(grave if folded else grave + notes)
    parts = [f'<ul class="findings">{listed}</ul>' if listed else ""]
    if folded:
        head = f"{plural(len(notes), 'note')}: what is matched, and on which axis"
        parts.append(f'<details><summary>{head}</summary><ul class="findings">{"".join(notes)}</ul></details>')
    return (
        '<section class="fairness" aria-labelledby="fairness"><h2 id="fairness">Is the comparison fair?</h2>'
        f"{''.join(parts)}</section>"
    )
