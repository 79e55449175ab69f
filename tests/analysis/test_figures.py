import itertools
from xml.etree import ElementTree

import made_up_sweeps as sweeps
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitlab.analysis.drawing import error_ticks, looks, size_ticks, spread, value_ticks
from vitlab.analysis.figures import Panel, draw_figure
from vitlab.analysis.panels import STYLE
from vitlab.analysis.targets import NLL
from vitlab.analysis.task_result import analyze_task
from vitlab.analysis.views import View


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


def _panel(result, view):
    """Draw one panel; return it with all its words."""
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    Panel(axes, result, view, looks(result.models)).draw()
    words = [text.get_text() for text in (*axes.texts, *axes.get_xticklabels())]
    return axes, [axes.get_xlabel(), axes.get_ylabel(), *words]


@pytest.mark.parametrize(
    ("view", "across", "upward"),
    [
        (View(), "training images", "test error (%)"),
        (View("macs"), "multiply-accumulates of the training", "test error (%)"),
        (View("seconds", "nll"), "seconds of training", "test NLL (nats)"),
        (View("images", "nll"), "training images", "test NLL (nats)"),
        (View("images", "calibration_error"), "training images", "calibration error (%)"),
        (View("params"), "parameters, at the largest size", "test error (%)"),
    ],
)
def test_a_view_has_its_axes_and_only_what_belongs_to_them(view, across, upward):
    result = sweeps.made_up("a").result
    axes, words = _panel(result, view)
    assert words[:2] == [across, upward]
    assert any("crossover" in word for word in words) == (view == View())
    assert "24,000" not in words  # what is foretold is shown where that is asked for
    means = [line for line in axes.get_lines() if line.get_marker() != "None"]
    assert [len(line.get_xdata()) for line in means] == [1 if view.axis == "params" else 5] * 2
    for line, model in zip(means, result.models, strict=True):
        expected = [point.mean_of(view.target) for point in result.points_of(model)][-len(line.get_ydata()) :]
        assert list(line.get_ydata()) == pytest.approx([view.quantity.factor * value for value in expected])


def test_curves_go_on_beyond_the_sizes_only_where_that_is_asked_for():
    result = sweeps.made_up("a").result
    largest = result.points[-1].train_size
    axes, words = _panel(result, View())
    assert not any("extrapolated" in word for word in words)
    assert axes.get_xlim()[1] < 2 * largest
    axes, _ = _panel(result, View(extrapolate=True))
    assert axes.get_xlim()[1] > 3 * largest


def test_a_model_that_lacks_a_target_is_left_out_and_named():
    plan = sweeps.make_plan(num_seeds=2)
    records = sweeps.make_records(plan)
    for record in records:
        if record["model"] == "cnn" and record["test"]:
            record["test"] = {"accuracy": record["test"]["accuracy"]}
    _, words = _panel(analyze_task(plan, records), View(target="nll"))
    assert "not recorded: CNN" in words
    assert "CNN" not in words


def test_published_curves_have_a_panel_of_their_own(monkeypatch):
    monkeypatch.setitem(STYLE, "svg.fonttype", "none")  # text as text
    svg = draw_figure([sweeps.made_up("a").result], View(reference=True, extrapolate=True)).svg.decode()
    for words in ("published, for reference", "images of pre-training", "ViT-H/14", "dashed, lighter: extrapolated"):
        assert words in svg


def test_ticks_of_any_quantity_are_round_and_hold_every_value():
    for largest in (0.0004, 0.03, 0.9, 2.3, 17.0, 4e3):
        ticks = value_ticks([largest], NLL)
        assert ticks[0] == 0
        assert ticks[-1] >= largest
        assert 2 <= len(ticks) <= 8
