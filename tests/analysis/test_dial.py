import json

import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.dial import read_dial, simultaneous_intervals
from vitlab.analysis.report import headlines, write_report
from vitlab.analysis.selection import Point
from vitlab.analysis.task_result import analyze_task

WINDOWS = {"window3": 3, "window5": 5, "window7": 7, "all": 15}
DIAL = {"label": "window (tokens a side)", "arms": {model: [None, value] for model, value in WINDOWS.items()}}
SIZES = [100, 1000, 8000]
MOVES = {  # the best goes from 3 to all
    "window3": [0.20, 0.15, 0.14],
    "window5": [0.23, 0.15, 0.13],
    "window7": [0.26, 0.14, 0.09],
    "all": [0.30, 0.13, 0.03],
}
DISTANCES = {"vit2": ["ViT", 2], "rnn2": ["RNN", 2], "vit16": ["ViT", 16], "rnn16": ["RNN", 16]}


def make_result(curves, dial=DIAL, num_seeds=4, noise=0.004, train_sizes=SIZES):
    plan = sweeps.make_plan(list(curves), train_sizes, num_seeds, task="window-dial", dial=dial)
    return analyze_task(plan, sweeps.make_records(plan, curves, noise=noise))


def make_points(errors):
    """Points from errors of shape (arms, sizes, seeds)."""
    metrics = {"nll": None, "calibration_error": None}
    return [
        Point(model, size, 0.01, dict(enumerate(map(float, errors[arm, n]))), None, 0.2, metrics, 0, 0)
        for arm, model in enumerate(WINDOWS)
        for n, size in enumerate(SIZES[: errors.shape[1]])
    ]


def test_a_best_setting_that_grows_with_the_data_supports_the_claim():
    dial = make_result(MOVES).dial
    assert dial.verdict == "supports"
    assert dial.claim == (
        "the best window is 3 at 100 images and 15 (all) at 8,000: supports that more data favors a larger window"
    )
    assert dial.gain == pytest.approx(0.21, abs=0.02)
    assert dial.gain_interval[0] < dial.gain < dial.gain_interval[1]


def test_a_best_setting_that_shrinks_with_the_data_refutes_it():
    backwards = {model: curve[::-1] for model, curve in MOVES.items()}
    dial = make_result(backwards).dial
    assert dial.verdict == "refutes"
    assert dial.claim.startswith("the best window is 15 (all) at 100 images and 3 at 8,000: refutes that")


def test_settings_within_the_noise_of_each_other_share_the_first_place():
    few = [0.2, 0.2, 0.2, 0.2]
    many = [0.15, 0.15, 0.05, 0.05]
    curves = {model: [few[arm], 0.17, many[arm]] for arm, model in enumerate(WINDOWS)}
    claim = make_result(curves).dial.claim
    assert claim.startswith("no window is clearly best at 100 images, while 7 or 15 (all) is at 8,000")


def test_a_small_setting_that_stays_best_beyond_the_noise_refutes_it():
    stays = {
        "window3": [0.3, 0.25, 0.2],
        "window5": [0.2, 0.15, 0.1],
        "window7": [0.3, 0.25, 0.2],
        "all": [0.4, 0.3, 0.2],
    }
    dial = make_result(stays).dial
    assert dial.verdict == "refutes"
    assert dial.claim.startswith("the best window is 5 both at 100 and at 8,000 images: refutes that")


@pytest.mark.parametrize(
    ("last", "verdict", "words"),
    [
        (0.02, "supports", "15 (all) gains on 3: supports that"),
        (0.13, "undecided", "no more than noise would: undecided"),
    ],
)
def test_where_the_largest_setting_is_best_throughout_its_lead_decides(last, verdict, words):
    curves = {model: [0.30, 0.25, 0.17] for model in WINDOWS} | {"all": [0.26, 0.21, last]}
    dial = make_result(curves).dial
    assert dial.verdict == verdict
    assert words in dial.claim


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_seeds": 1}, "with one seed per size, so it may be noise: undecided whether"),
        ({"train_sizes": [100]}, "3 at 100 images, and no other data size was measured: undecided whether"),
        ({"noise": 0.2}, "undecided whether"),
    ],
)
def test_what_the_trials_cannot_tell_is_undecided(settings, words):
    dial = make_result(MOVES, **settings).dial
    assert dial.verdict == "undecided"
    assert words in dial.claim


def test_noise_alone_is_seldom_a_verdict():
    rng = np.random.default_rng(7)
    sweeps_of_noise = 0.2 + 0.02 * rng.standard_normal((150, len(WINDOWS), 2, 3))
    verdicts = [read_dial(DIAL, make_points(errors), {}).verdict for errors in sweeps_of_noise]
    assert sum(verdict != "undecided" for verdict in verdicts) <= 13  # 5 % of 150 are 7.5


def test_simultaneous_intervals_miss_none_in_most_experiments():
    rng = np.random.default_rng(11)
    mixing = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.1], [1.0, 1.0, 1.0], [0.0, 0.0, 5.0]])
    draws = rng.standard_normal((4000, 3)) @ mixing.T
    held = []
    for _ in range(300):
        estimates = mixing @ rng.standard_normal(3)
        low, high = simultaneous_intervals(estimates, estimates + draws).T
        held.append(((low < 0) & (high > 0)).all())
    assert 0.91 < np.mean(held) < 0.99


def test_intervals_of_arms_that_never_vary_are_points():
    intervals = simultaneous_intervals(np.array([0.3, 0.1]), np.tile([0.3, 0.1], (50, 1)))
    assert intervals.tolist() == [[0.3, 0.3], [0.1, 0.1]]


def test_the_sentence_repeats_the_measured_numbers():
    result = make_result(MOVES)
    errors = {(point.model, point.train_size): 100 * point.mean_error for point in result.points}
    few, many = errors["window3", 100], errors["all", 8000]
    difference = errors["all", 100] - few
    assert f"at 100 images window 3 has {few:.1f} % error and window 15 (all)" in result.dial.detail
    assert f"{difference:.1f} points more (95 % interval " in result.dial.detail
    assert f"at 8,000 images window 15 (all) has {many:.1f} % error and window 3" in result.dial.detail
    assert f"window 15 (all) gains {100 * result.dial.gain:.1f} points on window 3" in result.dial.detail


def test_a_missing_arm_or_size_leaves_the_rest_readable():
    plan = sweeps.make_plan(list(MOVES), SIZES, task="window-dial", dial=DIAL)
    records = sweeps.make_records(plan, MOVES, noise=0.004)
    without_all = analyze_task(plan, [record for record in records if record["model"] != "all"]).dial
    assert {setting.model for setting in without_all.settings} == {"window3", "window5", "window7"}
    without_size = analyze_task(plan, [r for r in records if r["model"] != "all" or r["train_size"] != 8000]).dial
    assert {setting.train_size for setting in without_size.settings} == {100, 1000}
    alone = analyze_task(plan, [record for record in records if record["model"] == "all"]).dial
    assert alone.claim == "too few finished trials yet to say which window is best"


def test_families_on_one_dial_are_compared_where_they_meet():
    curves = {"vit2": [0.10, 0.05], "rnn2": [0.30, 0.05], "vit16": [0.20, 0.10], "rnn16": [0.21, 0.40]}
    dial = {"label": "distance (tokens)", "arms": DISTANCES}
    result = make_result(curves, dial, train_sizes=[100, 1000])
    assert [pair.models for pair in result.pairs] == [("vit2", "rnn2"), ("vit16", "rnn16")]
    assert result.dial.verdict is None
    assert "with 100 images ViT at distance 2" in result.dial.claim
    assert "with 1,000 images neither at distance 2 and ViT at distance 16" in result.dial.claim


def test_a_dial_has_one_headline_and_its_numbers_in_the_summary(tmp_path):
    plan = sweeps.make_plan(list(MOVES), SIZES, task="window-dial", dial=DIAL)
    folder = sweeps.write_sweep(tmp_path, plan, sweeps.make_records(plan, MOVES, noise=0.004))
    summary = write_report([folder])
    (line,) = headlines(summary)
    assert line.startswith("window-dial: the best window is 3 at 100 images and 15 (all) at 8,000: supports that")
    (dial,) = summary["dials"]
    assert dial["verdict"] == "supports"
    assert len(dial["settings"]) == len(WINDOWS) * len(SIZES)
    assert sum(setting["is_best"] for setting in dial["settings"]) == len(SIZES)
    assert [pair["models"][1] for pair in summary["pairs"]] == ["all"] * 3
    assert {"dial.png", "dial.svg"} <= {path.name for path in (folder / "report").iterdir()}
    assert json.loads((folder / "report" / "summary.json").read_text()) == summary


def test_a_sweep_without_a_dial_has_none(tmp_path):
    plan = sweeps.make_plan()
    folder = sweeps.write_sweep(tmp_path, plan, sweeps.make_records(plan))
    assert write_report([folder])["dials"] == []
    assert not list((folder / "report").glob("dial*"))
