import csv
import io
import json
import shlex
import subprocess
import sys
import time

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.report import compare_results, headlines, read_sweeps, write_report
from vitlab.analysis.summary import summarize
from vitlab.analysis.views import View

FILES = {"index.html", "trials.csv", "tables.tex", "summary.json"} | {
    f"curves.{kind}" for kind in ("png", "svg", "pdf", "csv")
}
LOCAL = {"cnn": [0.24, 0.10, 0.03, 0.012, 0.004], "vit": [0.33, 0.26, 0.19, 0.06, 0.02]}


def _sweep(folder, records=None, **settings):
    plan = sweeps.make_plan(**settings)
    return sweeps.write_sweep(folder, plan, records(plan) if records else sweeps.make_records(plan))


def test_a_report_has_all_its_files_and_nothing_half_written(tmp_path):
    summary = write_report([_sweep(tmp_path / "sweep")])
    out = tmp_path / "sweep" / "report"
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["complete"]
    assert summary["counts"] == {"planned": 120, "done": 120, "failed": 0, "missing": 0, "selected": 40, "untested": 0}


def test_the_summary_holds_what_programs_need(tmp_path):
    summary = write_report([_sweep(tmp_path / "sweep")])
    (pair,) = summary["pairs"]
    assert pair["models"] == ["vit", "cnn"]
    low, high = pair["crossover"]["interval"]
    assert 600 < low < pair["crossover"]["train_size"] < high < 8000
    assert pair["data_efficiency"]["needs_more"] == "vit"
    assert len(pair["data_efficiency"]["at_levels"]) == 5
    assert pair["crossover"]["changes"][0]["train_size"] == pair["crossover"]["train_size"]
    assert all(0 <= row["p_value"] <= row["adjusted_p_value"] <= 1 for row in pair["differences"])
    assert {"more_seeds", "spread", "degrees"} <= set(pair["differences"][0])
    assert len(summary["points"]) == 10
    assert {"mean_error", "interval", "num_seeds", "learning_rate"} <= set(summary["points"][0])
    assert {fit["model"] for fit in summary["fits"]} == {"vit", "cnn"}
    for point in summary["points"]:
        for target in ("nll", "calibration_error"):
            low, high = point[f"{target}_interval"]
            assert low < point[target] < high
    assert [fit["model"] for fit in summary["nll_fits"]] == ["vit", "cnn"]
    assert {"train_size", "nll", "interval_90"} == set(summary["nll_fits"][0]["extrapolation"])
    assert "seconds" not in json.dumps([summary[key] for key in ("points", "pairs", "fits")])


def test_a_sweep_with_searched_rates_gets_a_report_finished_or_not(tmp_path):
    plan, records = sweeps.make_search()
    whole = write_report([sweeps.write_sweep(tmp_path / "whole", plan, records)])
    assert whole["complete"]
    assert whole["counts"] == {"planned": 140, "done": 140, "failed": 0, "missing": 0, "selected": 30, "untested": 0}
    assert {point["learning_rate"] for point in whole["points"]} == {0.005}
    assert whole["tasks"][0]["learning_rates"]["vit"] == sorted({record["learning_rate"] for record in records})
    small = [record for record in records if record["train_size"] == 100]
    begun = write_report([sweeps.write_sweep(tmp_path / "begun", plan.without_growth().with_growth_of(plan), small)])
    assert (begun["counts"]["planned"], begun["counts"]["done"], begun["counts"]["missing"]) == (140, 28, 112)


def test_a_sweep_that_has_grown_counts_its_missing_seeds_by_size(tmp_path):
    plan = sweeps.make_plan()
    grown = plan.with_seeds(250, [8, 9]).with_size(400, 100)
    summary = write_report([sweeps.write_sweep(tmp_path / "sweep", grown, sweeps.make_records(plan))])
    missing = {(p["model"], p["train_size"]): p["num_missing"] for p in summary["points"]}
    assert {arm for arm, number in missing.items() if number} == {("vit", 250), ("cnn", 250)}
    assert set(missing.values()) == {0, 2}
    (task,) = summary["tasks"]
    assert (task["seeds_at"], task["sizes_added"]) == ({"250": [8, 9]}, [400])
    assert summary["counts"]["missing"] == 2 * 3 * (2 + 4)


def test_the_headline_says_the_crossover_in_words(tmp_path):
    (line,) = headlines(write_report([_sweep(tmp_path / "sweep")]))
    assert line.startswith("glyphs-both: the CNN leads up to about 1,")
    assert "the ViT from there on (95 % interval" in line
    assert line.endswith("100 % of resamples cross).")


def test_without_a_crossover_the_headline_states_data_efficiency(tmp_path):
    folder = _sweep(tmp_path / "sweep", lambda plan: sweeps.make_records(plan, LOCAL, noise=0.003), task="local")
    (line,) = headlines(write_report([folder]))
    assert line.startswith("local: the CNN leads at every measured size from 100 to 8,000 images; the ViT needs ")
    assert "times (95 % interval" in line


def test_equal_results_give_equal_bytes_however_long_they_took(tmp_path):
    def slower(plan):
        return [{**record, "seconds": 99.0} for record in reversed(sweeps.make_records(plan))]

    first, second = _sweep(tmp_path / "a"), _sweep(tmp_path / "b", slower)
    one, two = write_report([first]), write_report([second])
    assert {key: one[key] for key in ("points", "pairs", "fits")} == {
        key: two[key] for key in ("points", "pairs", "fits")
    }
    for name in ("curves.csv", "curves.svg", "curves.png", "curves.pdf", "tables.tex"):
        assert (first / "report" / name).read_bytes() == (second / "report" / name).read_bytes()
    assert one["costs"] != two["costs"]


def test_writing_again_changes_no_byte(tmp_path):
    folder = _sweep(tmp_path / "sweep")
    write_report([folder])
    before = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    write_report([folder])
    assert {path.name: path.read_bytes() for path in (folder / "report").iterdir()} == before


def test_tables_have_a_row_per_trial_and_per_point(tmp_path):
    folder = _sweep(tmp_path / "sweep")
    write_report([folder])
    trials, curves = (
        list(csv.DictReader(io.StringIO((folder / "report" / name).read_text())))
        for name in ("trials.csv", "curves.csv")
    )
    assert len(trials) == 120
    assert sum(int(row["selected"]) for row in trials) == 40
    assert {row["id"]: shlex.split(row["arguments"]) for row in trials} == {
        trial.id: trial.arguments for trial in sweeps.make_plan().trials
    }
    assert len(curves) == 10
    assert all(float(row["interval_low"]) < float(row["mean_error"]) < float(row["interval_high"]) for row in curves)


def test_an_unfinished_sweep_says_what_is_missing(tmp_path):
    folder = _sweep(tmp_path / "sweep", lambda plan: sweeps.make_records(plan)[:74])
    summary = write_report([folder])
    assert not summary["complete"]
    assert headlines(summary)[1] == "glyphs-both: 74 of 120 trials done, the rest is still missing."
    assert "74 of 120 trials done" in (folder / "report" / "index.html").read_text()


def test_failed_trials_stand_on_the_page_with_their_error(tmp_path):
    folder = _sweep(
        tmp_path / "sweep",
        lambda plan: sweeps.make_records(plan, fails=lambda t: t.learning_rate == 0.01 and t.seed == 0),
    )
    summary = write_report([folder])
    assert summary["counts"]["failed"] == 10
    assert summary["complete"]
    page = (folder / "report" / "index.html").read_text()
    assert page.count("the loss became NaN at step 17") == 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_seeds": 1}, "one seed per size"),
        ({"train_sizes": [100]}, "at the one measured size, 100 images"),
        ({"models": ["vit"]}, "only ViT has finished trials"),
        ({"models": ["vit", "cnn", "resnet"]}, "lowest mean error"),
    ],
)
def test_small_and_large_sweeps_get_a_report(tmp_path, settings, words):
    curves = sweeps.CURVES | {"resnet": [0.5, 0.4, 0.35, 0.3, 0.28]}
    folder = _sweep(tmp_path / "sweep", lambda plan: sweeps.make_records(plan, curves), **settings)
    summary = write_report([folder])
    assert words in headlines(summary)[0]
    assert summary["tasks"][0]["conclusion"] in headlines(summary)[0]


def test_a_task_without_any_error_gets_a_report(tmp_path):
    zero = {"vit": [0.1, 0.02, 0.0, 0.0, 0.0], "cnn": [0.0] * 5}
    folder = _sweep(tmp_path / "sweep", lambda plan: sweeps.make_records(plan, zero, noise=0.0))
    summary = write_report([folder])
    assert summary["pairs"][0]["crossover"]["train_size"] is None
    assert all(fit["a"] is None for fit in summary["fits"])


def test_several_sweeps_become_one_report(tmp_path):
    both = _sweep(tmp_path / "both")
    local = _sweep(tmp_path / "local", lambda plan: sweeps.make_records(plan, LOCAL), task="glyphs-local")
    summary = write_report([both, local], tmp_path / "out")
    assert [task["task"] for task in summary["tasks"]] == ["glyphs-both", "glyphs-local"]
    alone = write_report([both])
    assert [pair for pair in summary["pairs"] if pair["task"] == "glyphs-both"] == alone["pairs"]


def test_two_sweeps_on_one_task_are_told_apart_by_their_folder(tmp_path):
    summary = write_report([_sweep(tmp_path / "a"), _sweep(tmp_path / "b")], tmp_path / "out")
    assert [task["task"] for task in summary["tasks"]] == ["glyphs-both (a)", "glyphs-both (b)"]


def test_two_sweeps_on_one_task_are_compared_and_the_summary_says_so_first(tmp_path):
    better = {**sweeps.CURVES, "vit": [0.35, 0.26, 0.20, 0.14, 0.08]}
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", model={"label_smoothing": 0.1})
    old = _sweep(tmp_path / "old")
    new = sweeps.write_sweep(tmp_path / "new", plan, sweeps.make_records(plan, better, seed=1))
    summary = write_report([old, new], tmp_path / "out")
    (comparison,) = summary["comparison"]
    assert headlines(summary)[0] == f"glyphs-both: old and new: {comparison['words']}."
    assert comparison["sweeps"] == ["old", "new"]
    assert comparison["results"] == [task["task"] for task in summary["tasks"]]
    assert [change["is_same"] for change in comparison["arms"]] == [False, True]
    (pair,) = comparison["pairs"]
    assert pair["verdict"] == "changes"
    assert pair["shift"]["interval"][1] < 1
    assert [row["setting"] for row in comparison["settings"]] == ["model.label_smoothing"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def _compared(folders):
    return compare_results(folders, read_sweeps(folders))


def test_sweeps_of_other_tasks_have_no_comparison_and_three_are_compared_with_the_first(tmp_path):
    folders = [_sweep(tmp_path / name, train_sizes=[100]) for name in "abc"]
    local = _sweep(tmp_path / "local", task="glyphs-local", train_sizes=[100])
    assert _compared([folders[0], local]) == []
    assert summarize(read_sweeps([local]))["comparison"] == []
    pairs = [[sweep.name for sweep in one.sweeps] for one in _compared([folders[0], local, *folders[1:]])]
    assert pairs == [["a", "b"], ["a", "c"]]


def test_folders_of_one_name_are_told_apart_and_one_given_twice_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    folders = [_sweep(tmp_path / name / "sweep", train_sizes=[100]) for name in "xy"]
    names = [result.name for result in read_sweeps(folders)]
    assert names == ["glyphs-both (x/sweep)", "glyphs-both (y/sweep)"]
    with pytest.raises(ValueError, match="given more than once"):
        read_sweeps([folders[0], folders[0]])


def test_changed_data_behind_equal_settings_is_refused_in_words(tmp_path):
    folders = [_sweep(tmp_path / name, train_sizes=[100]) for name in "ab"]
    for folder in folders:
        (folder / "subsets").mkdir()
        (folder / "subsets" / "n100-seed0-0123ab.json").write_text(json.dumps({"fingerprint": folder.name}))
    (comparison,) = _compared(folders)
    assert comparison.findings[0].check == "different_test_images"
    assert not comparison.arms[0].is_paired


def test_a_sweep_with_nothing_finished_is_refused_in_words(tmp_path):
    folder = _sweep(tmp_path / "sweep", lambda plan: sweeps.make_records(plan, fails=lambda t: True)[:7])
    with pytest.raises(ValueError, match="no finished trial to report \\(0 done and 7 failed of 120 planned\\)"):
        write_report([folder])
    assert not (folder / "report").exists()


def test_several_folders_need_a_place_to_write(tmp_path):
    with pytest.raises(ValueError, match="--out DIR"):
        write_report([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="at least one"):
        write_report([])


def test_a_thousand_trials_take_seconds_and_no_torch(tmp_path):
    rates = {model: [0.001, 0.002, 0.003, 0.005, 0.01] for model in ("vit", "cnn")}
    curves = {"vit": [0.45 * 0.8**k for k in range(10)], "cnn": [0.3 * 0.93**k for k in range(10)]}
    folder = _sweep(
        tmp_path / "sweep",
        lambda plan: sweeps.make_records(plan, curves),
        train_sizes=[50 * 2**k for k in range(10)],
        num_seeds=10,
        learning_rates=rates,
    )
    code = (
        "import sys; from vitlab.analysis.report import write_report; write_report([sys.argv[1]]);"
        "heavy = {'torch', 'pandas', 'lightning', 'matplotlib.pyplot'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(folder)], check=True, timeout=60)
    assert time.perf_counter() - started < 15  # 2 s on two idle cores; the rest is for busy test machines


def test_a_view_without_numbers_is_refused_before_anything_is_written(tmp_path):
    def older(plan):
        return [
            record | {"test": record["test"] and {"accuracy": record["test"]["accuracy"]}}
            for record in sweeps.make_records(plan)
        ]

    folder = _sweep(tmp_path / "sweep", older, num_seeds=2)
    with pytest.raises(ValueError, match="cannot be shown as nll by images"):
        write_report([folder], view=View(target="nll"))
    assert not (folder / "report").exists()


def test_a_crossing_beyond_the_sizes_is_marked_as_extrapolated_and_no_headline(tmp_path):
    curves = {"vit": [0.80, 0.50, 0.32, 0.18, 0.09], "cnn": [0.20, 0.16, 0.13, 0.10, 0.075]}
    folder = _sweep(tmp_path / "sweep", lambda plan: sweeps.make_records(plan, curves, noise=0.001))
    summary = write_report([folder])
    (pair,) = summary["pairs"]
    assert pair["crossover"]["train_size"] is None
    assert pair["beyond"]["verdict"] == "extrapolated"
    assert pair["beyond"]["interval"][0] > 8000
    assert not any("extrapolated" in line for line in headlines(summary))
    assert (pair["beyond"]["leader_before"], pair["beyond"]["leader_after"]) == ("cnn", "vit")
    page = (folder / "report" / "index.html").read_text()
    assert pair["beyond"]["words"].partition("(")[0] in page
    assert "extrapolated, ViT leads from about" in page
    assert page.index("Extrapolated, not measured:") < page.index("<svg")
