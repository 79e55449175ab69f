import re

import made_up_sweeps as sweeps

from vitlab.analysis.rate_choices import rates_table
from vitlab.analysis.task_result import analyze_task


def make_table(**records):
    plan = sweeps.make_plan()
    return rates_table(analyze_task(plan, sweeps.make_records(plan, **records)), plan.models)


def test_the_chosen_rate_of_every_model_and_size_is_marked():
    table = make_table()
    rows = re.findall(r"<tr>(.*?)</tr>", table)[1:]
    assert len(rows) == 10
    for row in rows:
        cells = re.findall(r"<td>(.*?)</td>", row)[1:]
        assert [cell.startswith("<strong>") for cell in cells] == [False, True, False]
        errors = [float(re.search(r"\d+\.\d", cell)[0]) for cell in cells]
        assert min(errors) == errors[1]


def test_failed_trials_are_counted_beside_the_mean_of_the_others():
    table = make_table(fails=lambda trial: trial.learning_rate == 0.01 and trial.model == "cnn" and trial.seed < 2)
    assert table.count("(2 trials failed)") == 5
    everything = make_table(fails=lambda trial: trial.learning_rate == 0.01)
    assert everything.count("\u2013 (4 trials failed)") == 10


def test_a_search_shows_how_many_seeds_each_rate_had_and_marks_one_with_all():
    plan, records = sweeps.make_search()
    table = rates_table(analyze_task(plan, records), plan.models)
    assert "only those with all can be chosen" in table
    for row in re.findall(r"<tr>(.*?)</tr>", table)[1:]:
        cells = [cell for cell in re.findall(r"<td>(.*?)</td>", row)[1:] if cell != "\u2013"]
        chosen = [cell for cell in cells if cell.startswith("<strong>")]
        assert len(chosen) == 1
        assert "seed" not in chosen[0]
        trials = sum(int(found[1]) if (found := re.search(r"(\d) seeds?\)", cell)) else 3 for cell in cells)
        assert trials == 14
