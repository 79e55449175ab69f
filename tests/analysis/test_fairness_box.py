import dataclasses

import made_up_sweeps as sweeps

from vitlab.analysis.fairness_box import fairness_box
from vitlab.analysis.finding import Finding


def _with(name, *findings):
    return dataclasses.replace(sweeps.made_up(name).result, name=name, findings=list(findings))


def test_a_finding_that_holds_for_all_stands_there_once_and_the_gravest_first():
    note, grave = Finding("note", "a", "all is well"), Finding("refuse", "b", "do not believe it")
    box = fairness_box([_with("one", note, grave), _with("two", grave)])
    assert box.count("do not believe it") == 1
    assert "do not believe it (" not in box
    assert box.index("do not believe it") < box.index("all is well")
    assert "(one)" in box


def test_findings_cannot_become_markup():
    assert "<b>" not in fairness_box([_with("one", Finding("warn", "a", "<b>bold</b>"))])
