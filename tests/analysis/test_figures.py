import itertools
from xml.etree import ElementTree

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.drawing import error_ticks, looks, size_ticks, spread
from vitlab.analysis.figures import draw_figure
from vitlab.analysis.task_result import analyze_task


def _result(**settings):
    plan = sweeps.make_plan(**settings)
    curves = {model: sweeps.CURVES.get(model, [0.5, 0.4, 0.35, 0.3, 0.28]) for model in plan.models}
    return analyze_task(plan, sweeps.make_records(plan, curves))


def test_equal_data_gives_equal_bytes():
    assert draw_figure([_result()]) == draw_figure([_result()])


def test_files_are_what_they_are_called_and_carry_no_date():
    png, svg, pdf = draw_figure([_result(), _result(task="glyphs-local")])
    assert png.startswith(b"\x89PNG")
    ElementTree.fromstring(svg)
    assert b"<dc:date>" not in svg
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf


@pytest.mark.parametrize("task", ["a$b$c_d", "<script>", "100 % & more"])
def test_any_name_can_be_drawn(task):
    draw_figure([_result(task=task, num_seeds=1, train_sizes=[100])])


def test_each_of_six_models_looks_different():
    styles = looks([f"model-{number}" for number in range(6)])
    assert len({look.color for look in styles.values()}) == 6
    assert len({(look.marker, look.dash) for look in styles.values()}) == 6


def test_error_axis_starts_at_zero_and_holds_every_seed():
    result = _result()
    ticks = error_ticks(result)
    assert ticks[0] == 0
    assert ticks[-1] >= 100 * max(max(point.errors.values()) for point in result.points)


def test_crowded_sizes_lose_their_names_but_never_the_ends():
    named = [size for size, _ in size_ticks(_result(train_sizes=[100, 105, 110, 2000, 8000]))]
    assert named == [100, 2000, 8000]


def test_labels_are_moved_apart_and_keep_their_order():
    moved = spread([10.0, 10.5, 40.0, 9.9], gap=5.0)
    ordered = sorted(moved)
    assert all(upper - lower >= 5.0 - 1e-9 for lower, upper in itertools.pairwise(ordered))
    assert moved[3] < moved[0] < moved[1] < moved[2] == 40.0
    assert min(spread([0.0, 0.1], gap=5.0, lowest=2.0)) >= 2.0
