"""The command itself: help, exit codes, and a whole sweep from YAML to report."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from vitlab.cli import main
from vitlab.sweep.claims import claimed_trials
from vitlab.sweep.store import record_ids


def vitlab(*arguments, **options):
    command = [sys.executable, "-m", "vitlab.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


DIGITS = str(Path(__file__).parent.parent / "configs" / "sweeps" / "digits.yaml")
SWEEP = {
    "task": "digits-tiny",
    "settings": {
        "data": {"dataset": {"class_path": "vitlab.data.Digits"}, "val_size": 100, "batch_size": 32},
        "trainer": {"accelerator": "cpu"},
    },
    "models": {
        "vit": {
            "model": {"backbone": {"class_path": "vitlab.models.ViT", "init_args": {"patch_size": 4, "size": "micro"}}}
        },
        "cnn": {"model": {"backbone": {"class_path": "vitlab.models.ResNet", "init_args": {"size": "micro"}}}},
    },
    "train_sizes": [20, 60],
    "seeds": [0, 1, 2],
    "learning_rates": [0.003, 0.01],
    "budget": {"unit": "steps", "amount": 10},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep and its folder."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    done = vitlab("sweep", folder / "sweep.yaml", "--out", folder / "out", "--threads", 1)
    assert done.returncode == 0, done.stderr
    return folder


COMMANDS = (
    *("fit", "validate", "test", "predict", "sweep", "status", "cancel", "merge", "verify", "report", "inspect"),
    "bench",
)


def test_help_names_every_command():
    text = vitlab("--help").stdout
    for command in COMMANDS:
        assert f"\n    {command} " in text or f"\n  {command} " in text


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["sweep"], ["report"], ["sweep", "x.yaml"]])
def test_wrong_usage_exits_with_two(arguments):
    wrong = vitlab(*arguments)
    assert wrong.returncode == 2
    assert "usage: vitlab" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "nowhere.yaml", "--out", "out"], "cannot read the config nowhere.yaml"),
        (["status", "nowhere"], "nowhere is not a sweep folder"),
        (["report", "nowhere"], "nowhere is not a sweep folder"),
        (["report", "nowhere", "--axis", "epochs"], "axis 'epochs' is unknown; use images, examples"),
        (["report", "nowhere", "--target", "nll", "--reference"], "leave out the reference"),
        (["fit", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["cancel", "nowhere"], "nowhere is not a sweep folder"),
        (["verify", "nowhere"], "nowhere is not a sweep folder"),
        (["merge", "nowhere", "nowhere2", "--out", "out"], "nowhere is not a sweep folder"),
        (["sweep", DIGITS, "--out", "out", "--partition", "gpu"], "--partition goes with --launcher slurm"),
        (["sweep", DIGITS, "--out", "out", "--launcher", "slurm", "--shard", "1/2"], "--shard is for schedulers other"),
        (["sweep", DIGITS, "--out", "out", "--workers", "0"], "--workers is 0; give 1 or more"),
        (["sweep", DIGITS, "--out", "out", "--save-every", "0"], "--save-every is 0.0"),
        (["sweep", DIGITS, "--out", "out", "--patience", "0"], "--patience is 0.0; give seconds above 0"),
        (["sweep", DIGITS, "--out", "out", "--trials-per-device", "2", "--workers", "2"], "in place of --workers"),
        (["sweep", DIGITS, "--out", "out", "--shard", "3/2"], "--shard is 3/2; give i/n with i from 1 to n"),
    ],
)
def test_bad_input_is_one_line_and_exits_with_two(arguments, words, tmp_path):
    bad = vitlab(*arguments, cwd=tmp_path)
    assert bad.returncode == 2
    assert bad.stderr.startswith("vitlab: error: ")
    assert words in bad.stderr
    assert "Traceback" not in bad.stderr
    assert list(tmp_path.iterdir()) == []


def test_status_counts_the_trials(swept):
    shown = vitlab("status", swept / "out")
    assert shown.returncode == 0
    assert "24 done, 0 failed, 0 running, 0 missing of 24" in shown.stdout


def test_the_same_command_runs_nothing_again(swept):
    before = {path: path.stat().st_mtime_ns for path in (swept / "out" / "trials").iterdir()}
    again = vitlab("sweep", swept / "sweep.yaml", "--out", swept / "out")
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (swept / "out" / "trials").iterdir()} == before


def test_the_report_has_all_its_parts_and_says_the_same_twice(swept):
    said = [vitlab("report", swept / "out").stdout for _ in range(2)]
    assert said[0] == said[1]
    names = {path.name for path in (swept / "out" / "report").iterdir()}
    assert names == {f"curves.{kind}" for kind in ("png", "svg", "pdf", "csv")} | {
        *("index.html", "trials.csv", "tables.tex", "summary.json")
    }
    summary = json.loads((swept / "out" / "report" / "summary.json").read_text())
    assert summary["counts"]["done"] == 24
    assert summary["complete"] is True


def test_verify_finds_nothing_wrong_and_names_what_was_changed_by_hand(swept, tmp_path):
    fine = vitlab("verify", swept / "out")
    assert fine.returncode == 0, fine.stdout
    assert "0 errors, 0 warnings, 0 notes" in fine.stdout
    shutil.copytree(swept / "out", tmp_path / "copy")
    victim = sorted((tmp_path / "copy" / "trials").glob("*.json"))[5]
    victim.write_text(victim.read_text().replace('"accuracy": 0.', '"accuracy": 0.9', 1))
    changed = vitlab("verify", tmp_path / "copy")
    assert changed.returncode == 1
    assert f"error: trials/{victim.name}: " in changed.stdout
    for command in (["status"], ["report"], ["sweep", swept / "sweep.yaml", "--out"]):
        refused = vitlab(*command, tmp_path / "copy")
        assert refused.returncode == 2
        assert victim.name in refused.stderr


def test_merging_a_folder_with_a_copy_of_itself_gives_the_same_report(swept, tmp_path):
    shutil.copytree(swept / "out", tmp_path / "copy")
    merged = vitlab("merge", swept / "out", tmp_path / "copy", "--out", tmp_path / "merged")
    assert "24 done, 0 failed, 0 missing" in merged.stdout, merged.stderr
    vitlab("report", tmp_path / "merged")
    vitlab("report", swept / "out")
    tables = [folder / "report" / "curves.csv" for folder in (tmp_path / "merged", swept / "out")]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_a_finished_sweep_has_nobody_to_cancel(swept):
    cancelled = vitlab("cancel", swept / "out")
    assert cancelled.returncode == 0
    assert "0 launchers and shards asked to stop, 0 cluster jobs cancelled" in cancelled.stdout


@pytest.mark.slow
def test_cancel_stops_a_launcher_which_saves_and_goes_on_later(tmp_path):
    long = SWEEP | {"seeds": [0], "learning_rates": [0.01], "budget": {"unit": "steps", "amount": 400}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(long, sort_keys=False))
    command = [sys.executable, "-m", "vitlab.cli", "sweep", tmp_path / "sweep.yaml", "--out", tmp_path / "out"]
    command += ["--patience", "0.9", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as launcher:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out" / "sweep.json").exists() or not claimed_trials(tmp_path / "out"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "1 launchers and shards asked to stop" in vitlab("cancel", tmp_path / "out").stdout
        errors = launcher.communicate(timeout=240)[1]
    assert launcher.returncode == 128
    assert "stopped by vitlab cancel; what was running is saved" in errors
    assert claimed_trials(tmp_path / "out") == {}
    assert [trial.name for trial in (tmp_path / "out" / "resume").iterdir()] or record_ids(tmp_path / "out")


def test_test_data_was_read_for_the_selected_trials_only(swept):
    records = [json.loads(path.read_text()) for path in (swept / "out" / "trials").glob("*.json")]
    rates = {}
    for record in records:
        if record["test"] is not None:
            rates.setdefault((record["model"], record["train_size"]), set()).add(record["learning_rate"])
    assert len(rates) == 4
    assert all(len(chosen) == 1 for chosen in rates.values())
    assert sum(record["test"] is not None for record in records) == 4 * 3


@pytest.mark.parametrize("model", ["vit", pytest.param("cnn", marks=pytest.mark.slow)])
def test_a_trials_arguments_pasted_after_fit_repeat_its_test_accuracy(swept, tmp_path, model):
    records = [json.loads(path.read_text()) for path in sorted((swept / "out" / "trials").glob("*.json"))]
    record = next(record for record in records if record["test"] and record["model"] == model)
    pasted = f"{shlex.quote(sys.executable)} -m vitlab.cli fit {shlex.join(record['arguments'])}"
    run = subprocess.run(pasted, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith(("val/", "test/"))]
    printed = {name: float(value) for name, value in lines}
    for stage in ("val", "test"):
        for name, value in record[stage].items():
            assert printed[f"{stage}/{name}"] == float(f"{value:.6g}"), name


@pytest.mark.slow
def test_an_unknown_model_class_is_refused_with_the_names_that_exist(tmp_path):
    wrong = json.loads(json.dumps(SWEEP))
    wrong["models"]["vit"]["model"]["backbone"]["class_path"] = "vitlab.models.Vit"
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(wrong, sort_keys=False))
    bad = vitlab("sweep", tmp_path / "sweep.yaml", "--out", tmp_path / "out")
    assert bad.returncode == 2
    assert "did you mean vitlab.models.ViT?" in bad.stderr
    assert "ResNet" in bad.stderr
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_a_report_with_nothing_to_show_is_refused(tmp_path, capsys):
    from vitlab.sweep.plan_file import write_plan
    from vitlab.sweep.sweep_file import read_sweep

    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    write_plan(tmp_path / "out", read_sweep(tmp_path / "sweep.yaml"))
    assert main(["report", str(tmp_path / "out")]) == 2
    assert "vitlab: error: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "report").exists()
