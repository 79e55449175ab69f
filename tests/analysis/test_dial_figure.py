from xml.etree import ElementTree

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.dial_chart import draw_dial_chart
from vitlab.analysis.dial_figure import dial_lines, draw_dial_figure, has_log_scale, value_limits, value_ticks
from vitlab.analysis.task_result import analyze_task

ONE_FAMILY = {"window3": [None, 3], "window7": [None, 7], "all": [None, 15]}
TWO_FAMILIES = {"vit2": ["ViT", 2], "rnn2": ["RNN", 2], "vit3": ["ViT", 3], "rnn3": ["RNN", 3]}


def make_result(arms, label="window (tokens a side)", task="window-dial", **settings):
    plan = sweeps.make_plan(list(arms), [100, 1000, 8000], task=task, dial={"label": label, "arms": arms}, **settings)
    curves = {model: [0.3 + 0.01 * row, 0.2, 0.15 - 0.02 * row] for row, model in enumerate(arms)}
    return analyze_task(plan, sweeps.make_records(plan, curves, noise=0.002))


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_one_family_has_a_line_a_data_size():
    lines = dial_lines(make_result(ONE_FAMILY))
    assert [line.name for line in lines] == ["100 images", "1,000 images", "8,000 images"]
    assert all(line.values == [3, 7, 15] for line in lines)
    assert [line.values[line.lowest] for line in (lines[0], lines[2])] == [3, 15]
    assert len({line.color for line in lines}) == 3


def test_two_families_have_a_color_each_and_a_mark_a_data_size():
    lines = dial_lines(make_result(TWO_FAMILIES))
    assert len(lines) == 6
    assert {line.color for line in lines if line.name.startswith("ViT")} == {0}
    assert len({(line.color, line.look.marker) for line in lines}) == 6


def test_a_wide_range_of_positive_values_gets_a_logarithmic_axis():
    assert has_log_scale([3, 15])
    assert not has_log_scale([2, 3])
    assert not has_log_scale([0, 15])
    for values in ([3, 15], [2, 3], [0, 15], [5]):
        low, high = value_limits(values)
        assert low < min(values)
        assert max(values) < high


def test_the_axis_names_an_arm_that_its_value_does_not_tell():
    assert [words for _, words in value_ticks(make_result(ONE_FAMILY))] == ["3", "7", "15 (all)"]
    assert [words for _, words in value_ticks(make_result(TWO_FAMILIES))] == ["2", "3"]


def test_equal_data_gives_equal_files_without_a_date():
    png, svg, pdf = draw_dial_figure([make_result(ONE_FAMILY), make_result(TWO_FAMILIES, task="other")])
    assert pdf.startswith(b"%PDF")
    assert (png, svg, pdf) == draw_dial_figure([make_result(ONE_FAMILY), make_result(TWO_FAMILIES, task="other")])
    assert png.startswith(b"\x89PNG")
    ElementTree.fromstring(svg)
    assert b"<dc:date>" not in svg


@pytest.mark.parametrize("arms", [ONE_FAMILY, TWO_FAMILIES])
def test_the_chart_names_its_lines_and_tells_every_point(arms):
    result = make_result(arms)
    svg = draw_dial_chart(result, 1, "Said in words.")
    chart = ElementTree.fromstring(svg)
    assert chart.find("desc").text == "Said in words."
    assert {line.name for line in dial_lines(result)} <= set(texts(svg))
    titles = [title.text for title in chart.iter("title")]
    assert sum("learning rate 0.003" in title for title in titles) == len(result.points)


@pytest.mark.parametrize("name", ["a$b$c_d", "<script>", "100 % & more (", ""])
def test_any_name_can_be_drawn(name):
    result = make_result({f"{name}1": [None, 1], f"{name}2": [None, 2.5]}, label=name, task=name, num_seeds=1)
    draw_dial_figure([result])
    ElementTree.fromstring(draw_dial_chart(result, 1, name))
