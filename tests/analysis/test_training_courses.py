import re
from xml.etree import ElementTree

import made_up_sweeps as sweeps

from vitlab.analysis.task_result import analyze_task
from vitlab.analysis.training_courses import training_courses


def make_courses(history):
    plan = sweeps.make_plan()
    records = [record | {"history": history(record)} for record in sweeps.make_records(plan)]
    return training_courses(analyze_task(plan, records), plan.models)


def falling(record):
    return [[step, 2.0 / (1 + step)] for step in range(0, 500, 10)]


def test_each_size_has_a_chart_with_a_line_for_each_selected_seed():
    charts = [ElementTree.fromstring(chart) for chart in re.findall(r"<svg.*?</svg>", make_courses(falling))]
    assert len(charts) == 5
    for chart in charts:
        lines = [part.get("class") for part in chart.iter("path") if "course" in part.get("class")]
        assert sorted(lines) == ["course m0"] * 4 + ["course m1"] * 4
        drawn = [part.get("d")[1:] for part in chart.iter("path") if "course" in part.get("class")]
        heights = [float(place.split()[1]) for line in drawn for place in line.split("L")]
        assert all(24 <= height <= 120 for height in heights)


def test_a_small_loss_is_named_as_what_it_is():
    courses = make_courses(lambda record: [[1, 1.0], [2, 0.0042], [3, 0.00031]])
    assert ">3e-04</text>" in courses
    assert ">0.00</text>" not in courses


def test_long_courses_are_thinned_and_a_loss_of_zero_has_no_logarithm():
    courses = make_courses(lambda record: [[step, 1.0 if step % 7 else 0.0] for step in range(1, 5000)])
    lines = re.findall(r'class="course m0" d="(.*?)"', courses)
    assert all(line.count("L") <= 50 for line in lines)


def test_records_without_a_course_make_no_section():
    assert make_courses(lambda record: None) == ""
    assert make_courses(lambda record: [[0, 1.0]]) == ""
