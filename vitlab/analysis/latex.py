"""The results and the pairs as LaTeX tables: `tables.tex`, to be read with \\input; it needs the package booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitlab.analysis.task_result import TaskResult, conclude_pair
from vitlab.analysis.wording import count, label, sentence

_ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    }
)


def latex_tables(results: Sequence[TaskResult]) -> str:
    """Return for each task a table of the errors, and one of what each pair of models says.

    Args:
        results: analyses.
    """
    parts = ["% needs \\usepackage{booktabs}"]
    for result in results:
        parts.append(_errors(result))
        if result.pairs:
            parts.append(_pairs(result))
    return "\n\n".join(parts) + "\n"


def escape(words: str) -> str:
    """Return words as LaTeX prints them, whatever signs they hold."""
    return words.translate(_ESCAPED)


def _errors(result: TaskResult) -> str:
    rows = []
    for point in result.points:
        low, high = (f"{100 * end:.1f}" for end in point.interval) if point.interval else ("--", "--")
        error = f"{100 * point.mean_error:.1f}"
        cells = (label(point.model), count(point.train_size), error, low, high, str(point.num_seeds))
        rows.append([escape(cell) if cell != "--" else cell for cell in cells])
    heads = ("Model", "Images", r"Error (\%)", "Low", "High", "Seeds")
    caption = f"{escape(result.name)}: test error, mean over seeds, with its 95\\,\\% interval"
    return _table(caption, "lrrrrr", heads, rows)


def _pairs(result: TaskResult) -> str:
    rows = [
        [escape(" and ".join(map(label, pair.models))), escape(sentence(conclude_pair(pair).words))]
        for pair in result.pairs
    ]
    caption = f"{escape(result.name)}: who leads where"
    return _table(caption, r"lp{0.7\linewidth}", ("Models", "Finding"), rows)


def _table(caption: str, columns: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in rows]
    head = " & ".join(heads) + r" \\"
    begin = [r"\begin{table}", r"\centering", f"\\caption{{{caption}}}", f"\\begin{{tabular}}{{{columns}}}"]
    end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*begin, r"\toprule", head, r"\midrule", *lines, *end])
