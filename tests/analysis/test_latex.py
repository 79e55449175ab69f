import made_up_sweeps as sweeps

from vitlab.analysis.latex import escape, latex_tables
from vitlab.analysis.task_result import analyze_task


def _tables(task="glyphs_both"):
    plan = sweeps.make_plan(task=task)
    return latex_tables([analyze_task(plan, sweeps.make_records(plan))])


def test_every_row_has_as_many_cells_as_the_head():
    tables = _tables().split("\\begin{table}")[1:]
    assert len(tables) == 3
    for table in tables:
        rows = [line for line in table.splitlines() if line.endswith("\\\\")]
        assert len({line.count(" & ") for line in rows}) == 1
        assert [table.count(rule) for rule in ("\\toprule", "\\midrule", "\\bottomrule")] == [1, 1, 1]
        assert table.count("{") == table.count("}")
    assert len([line for line in tables[0].splitlines() if line.endswith("\\\\")]) == 11


def test_signs_with_a_meaning_in_latex_are_escaped():
    assert escape("a_b & 5 % {x}") == "a\\_b \\& 5 \\% \\{x\\}"
    assert "glyphs\\_both" in _tables()
    assert "glyphs_both" not in _tables()
