"""The results, the pairs and their differences as LaTeX tables: `tables.tex`, for \\input; it needs booktabs."""

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
    """Return for each task a table of the errors, one of what each pair of models says and one of their differences.

    Args:
        results: analyses.
    """
    parts = ["% needs \\usepackage{booktabs}"]
    for result in results:
        parts.append(_errors(result))
        if result.pairs:
            parts += [_pairs(result), _differences(result)]
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


def _differences(result: TaskResult) -> str:
    rows = []
    for pair in result.pairs:
        for row in pair.differences:
            low, high = (f"${100 * end:+.1f}$" for end in row.interval) if row.interval else ("--", "--")
            over_images = None if row.mcnemar is None else row.mcnemar.adjusted_p_value
            cells = [escape(" and ".join(map(label, pair.models))), escape(count(row.train_size))]
            cells += [f"${100 * row.difference:+.1f}$", low, high, _p(row.adjusted_p_value), _p(over_images)]
            rows.append(cells)
    heads = ("Models", "Images", "Difference", "Low", "High", "$p$, seeds", "$p$, images")
    caption = (
        f"{escape(result.name)}: error of the first model minus that of the second, in points, with its 95\\,\\% "
        "interval; $p$ over seeds (paired $t$-test) and over test images (McNemar), each corrected for the sizes (Holm)"
    )
    return _table(caption, "lrrrrrr", heads, rows)


def _p(value: float | None) -> str:
    return "--" if value is None else "$<0.001$" if value < 0.001 else f"{value:.3f}"


def _table(caption: str, columns: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in rows]
    head = " & ".join(heads) + r" \\"
    begin = [r"\begin{table}", r"\centering", f"\\caption{{{caption}}}", f"\\begin{{tabular}}{{{columns}}}"]
    end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*begin, r"\toprule", head, r"\midrule", *lines, *end])
