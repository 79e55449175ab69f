import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.fitted_curves import REACH
from vitlab.analysis.task_result import analyze_task
from vitlab.analysis.views import AXES, View, check_view, extrapolated, not_recorded, places, shown_points

PLAN = sweeps.make_plan()


def _without(*names):
    """The default sweep as older versions recorded it, or other tasks do."""
    records = []
    for record in sweeps.make_records(PLAN):
        test = record["test"] and {key: value for key, value in record["test"].items() if key not in names}
        records.append({key: None if key in names else value for key, value in record.items()} | {"test": test})
    return analyze_task(PLAN, records)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"axis": "epochs"}, "axis 'epochs' is unknown; use images, examples, macs, seconds, params"),
        ({"target": "loss"}, "target 'loss' is unknown; use error, nll, calibration_error"),
        ({"axis": "seconds", "reference": True}, "published curves tell errors by numbers of images"),
        ({"target": "nll", "reference": True}, "not nll by images"),
    ],
)
def test_a_view_that_no_figure_can_show_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        View(**settings)


def test_every_axis_has_a_place_for_every_point_but_parameters_one_a_model():
    result = sweeps.made_up("a").result
    for axis in AXES:
        found = places(result, axis)
        assert len(found) == (2 if axis == "params" else 10)
        assert all(value > 0 for value in found.values())
    assert places(result, "macs")["vit", 8000] == 3 * 900_000 * 128 * 2000  # forward once, backward twice
    assert places(result, "params") == {("vit", 8000): 60_000, ("cnn", 8000): 44_000}


def test_points_stand_in_the_order_of_sizes_whatever_the_axis():
    shown = shown_points(sweeps.made_up("a").result, View("seconds"))
    assert [point.train_size for _, point in shown["vit"]] == sweeps.SIZES


def test_what_older_records_lack_is_said_and_refused_with_what_there_is():
    result = _without("nll", "calibration_error", "macs")
    assert not_recorded(result) == ["test NLL", "calibration error"]
    assert result.nll_fits == {}
    assert not any(shown_points(result, View(target="nll")).values())
    with pytest.raises(ValueError, match="recorded error by images, examples, seconds and params"):
        check_view([result], View("macs"))
    with pytest.raises(ValueError, match="cannot be shown as nll by images: its trials have recorded error by"):
        check_view([result], View(target="nll"))
    check_view([result], View("seconds"))
    assert not_recorded(sweeps.made_up("a").result) == []


@pytest.mark.parametrize("target", ["error", "nll"])
def test_what_is_foretold_starts_at_the_largest_size_and_ends_at_three_times_it(target):
    result = sweeps.made_up("a").result
    told = extrapolated(result, "vit", target, 5)
    assert [row[0] for row in told] == pytest.approx([8000 * REACH ** (step / 4) for step in range(5)])
    assert all(low < value < high for _, value, low, high in told)
    assert told[-1][1] == pytest.approx(float(result.fits_of(target)["vit"].extrapolation.errors[0]))


def test_nothing_is_foretold_without_a_fit():
    result = sweeps.made_up("a").result
    assert extrapolated(result, "vit", "calibration_error", 5) == []
    few = sweeps.made_up("a", sweeps.AT_TWO_SIZES, plan=sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)).result
    assert extrapolated(few, "vit", "error", 5) == []


def test_nothing_is_foretold_from_sizes_short_of_the_largest():
    curves = {"vit": [0.3, 0.2, 0.1, 0.05, 0.0], "cnn": sweeps.CURVES["cnn"]}
    assert extrapolated(sweeps.made_up("a", curves, noise=0.0).result, "vit", "error", 5) == []


def test_there_is_no_extrapolation_over_another_axis():
    with pytest.raises(ValueError, match="leave out the extrapolation, or the axis"):
        View(axis="seconds", extrapolate=True)
