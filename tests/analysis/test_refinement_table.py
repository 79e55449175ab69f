import re

import made_up_sweeps as sweeps

from vitlab.analysis.page import write_page
from vitlab.analysis.refinement_table import refinements_table
from vitlab.analysis.summary import summarize
from vitlab.analysis.task_result import analyze_task

PARTS = [
    {
        "round": 1,
        "train_size": 600,
        "seeds": [4, 5],
        "words": "2 more seeds at 600 images: the interval <should> shrink",
    },
    {"round": 2, "train_size": 2000, "seeds": [4], "words": "1 more seed at 2,000 images: so it is"},
]


def _result(parts=PARTS):
    plan = sweeps.make_plan()
    for part in parts:
        plan = plan.with_seeds(part["train_size"], part["seeds"])
    plan = plan.with_refinements(parts)
    return analyze_task(plan, sweeps.make_records(plan))


def test_every_addition_is_a_row_with_its_reason():
    table = refinements_table(_result())
    rows = re.findall(r"<tr>(<td>.*?)</tr>", table)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    assert [row[:3] for row in cells] == [["1", "600", "4, 5"], ["2", "2,000", "4"]]
    assert cells[0][3] == "2 more seeds at 600 images: the interval &lt;should&gt; shrink."


def test_page_summary_and_fairness_say_what_was_added():
    result = _result()
    assert refinements_table(result) in write_page([result])
    assert summarize([result])["tasks"][0]["refinements"] == PARTS
    (note,) = [finding for finding in result.findings if finding.check == "refinement"]
    assert note.level == "note"
    assert note.words.startswith("Refinement added seeds at 600 and 2,000 images in 2 rounds, the same for every arm")


def test_a_sweep_without_refinement_says_nothing_of_it():
    result = _result([])
    assert refinements_table(result) == ""
    assert "efinement" not in write_page([result])
    assert summarize([result])["tasks"][0]["refinements"] == []
