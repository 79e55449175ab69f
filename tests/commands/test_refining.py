import argparse
import os
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vitlab.cli import main
from vitlab.commands.refining import refine
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import check_folder, load_plan, write_plan
from vitlab.sweep.record import blank_record
from vitlab.sweep.schedule import Counts, Schedule
from vitlab.sweep.store import create_record, read_outlines, read_records, record_ids

CURVES = {"vit": {50: 0.45, 200: 0.30, 900: 0.20}, "cnn": {50: 0.33, 200: 0.27, 900: 0.25}}
SECONDS = 3.0


@pytest.fixture
def plan():
    return Plan(
        task="made-up",
        title="A made-up sweep",
        model_settings={model: {} for model in CURVES},
        train_sizes=[50, 200, 900],
        seeds=[0, 1, 2],
        learning_rates={model: [0.01] for model in CURVES},
        budget={"unit": "steps", "amount": {"50": 11, "200": 13, "900": 17}},
        settings={},
    )


def _options(folder, minutes=1.0, trials=None, **others):
    settings = {"out": folder, "patience": 45.0, "retry_failed": False, "shard": None, "no_wait": False}
    return argparse.Namespace(refine=True, refine_minutes=minutes, refine_trials=trials, **(settings | others))


class Launcher:
    """Runs trials at once; each has the same result whoever runs it, and is noted."""

    def __init__(self, dies_at=None, fails=lambda trial: False):
        self.ran, self.calls, self.dies_at, self.fails = [], [], dies_at, fails

    def __call__(self, plan, options):
        self.calls.append(options)
        plan = write_plan(options.out, check_folder(options.out, plan))
        for trial in plan.trials:
            if trial.id not in record_ids(options.out):
                if self.dies_at is not None and len(self.ran) >= self.dies_at:
                    raise KeyboardInterrupt
                if create_record(options.out, _record(trial, self.fails(trial))):
                    self.ran.append(trial)
        counts = Schedule(plan, read_outlines(options.out)).counts()
        return replace(counts, failed_now=sum(map(self.fails, self.ran)))


def _record(trial, failed):
    rng = np.random.default_rng(int(trial.id, 16))
    logs = [np.log(list(column)) for column in zip(*CURVES[trial.model].items(), strict=True)]
    error = float(np.clip(np.exp(np.interp(np.log(trial.train_size), *logs)) + 0.03 * rng.standard_normal(), 0.01, 1))
    metrics = {"accuracy": round(1 - error, 4)}
    measured = {"status": "done", "val": metrics, "test": metrics, "seconds": SECONDS}
    return blank_record(trial, 1) | ({"error": "it failed"} if failed else measured)


@pytest.fixture
def undisturbed(plan, tmp_path):
    """The folder of a refined sweep that one launcher has done, and the launcher."""
    launcher = Launcher()
    refine(plan, _options(tmp_path / "undisturbed"), launcher)
    return tmp_path / "undisturbed", launcher


def test_planned_trials_run_first_and_the_added_ones_stay_within_the_limit(plan, undisturbed):
    folder, launcher = undisturbed
    grown = load_plan(folder)
    assert launcher.ran[: len(plan.trials)] == plan.trials
    added = launcher.ran[len(plan.trials) :]
    assert 0 < SECONDS * len(added) <= 60
    assert {trial.id for trial in grown.trials} == {trial.id for trial in launcher.ran}
    assert grown.without_growth() == plan
    assert len(grown.refinements) >= 2
    assert sum(trial.model == "vit" for trial in added) == len(added) / 2


def test_a_second_call_runs_nothing(plan, undisturbed):
    folder, _ = undisturbed
    before, again = load_plan(folder), Launcher()
    counts = refine(plan, _options(folder), again)
    assert again.ran == []
    assert load_plan(folder) == before
    assert (counts.done, counts.missing) == (len(before.trials), 0)


def test_a_larger_limit_adds_more(plan, undisturbed):
    folder, first = undisturbed
    more = Launcher()
    refine(plan, _options(folder, minutes=3.0), more)
    assert more.ran
    assert 60 < SECONDS * (len(first.ran) + len(more.ran) - len(plan.trials)) <= 180


def test_a_limit_of_trials_holds(plan, tmp_path):
    launcher = Launcher()
    refine(plan, _options(tmp_path, trials=7), launcher)
    assert 0 < len(launcher.ran) - len(plan.trials) <= 7


def test_a_sweep_of_one_size_gets_seeds(plan, tmp_path):
    one = replace(plan, train_sizes=[200], seeds=[0], budget={"unit": "steps", "amount": {"200": 13}})
    launcher = Launcher()
    refine(one, _options(tmp_path, trials=8), launcher)
    assert {trial.train_size for trial in launcher.ran} == {200}
    assert len(launcher.ran) > len(one.trials)


@pytest.mark.parametrize("dies_at", [5, 18, 21, 25])
def test_after_a_kill_the_same_command_comes_to_the_same_end(plan, undisturbed, tmp_path, dies_at):
    folder, _ = undisturbed
    first, second = Launcher(dies_at), Launcher()
    with pytest.raises(KeyboardInterrupt):
        refine(plan, _options(tmp_path / "killed"), first)
    refine(plan, _options(tmp_path / "killed"), second)
    assert load_plan(tmp_path / "killed") == load_plan(folder)
    assert not {trial.id for trial in first.ran} & {trial.id for trial in second.ran}


def test_two_launchers_grow_one_plan(plan, undisturbed, tmp_path):
    folder, _ = undisturbed
    launchers, failures = [Launcher(), Launcher()], []

    def work(launcher):
        try:
            refine(plan, _options(tmp_path / "both"), launcher)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(launcher,)) for launcher in launchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert load_plan(tmp_path / "both") == load_plan(folder)
    ran = [trial.id for launcher in launchers for trial in launcher.ran]
    assert len(ran) == len(set(ran)) == len(load_plan(folder).trials)


def test_what_another_launcher_has_added_is_run_before_anything_is_decided(plan, tmp_path):
    launcher = Launcher()
    launcher(plan, _options(tmp_path))
    write_plan(tmp_path, plan.with_seeds(200, [3, 4]))
    refine(plan, _options(tmp_path, trials=2), launcher)
    assert {3, 4} <= {trial.seed for trial in launcher.ran if trial.train_size == 200}


def test_failed_trials_are_retried_once_and_counted(plan, tmp_path):
    launcher = Launcher(fails=lambda trial: trial.seed == 1 and trial.model == "vit")
    counts = refine(plan, _options(tmp_path, retry_failed=True), launcher)
    assert counts.failed >= 3
    assert counts.failed_now >= 3
    assert [options.retry_failed for options in launcher.calls] == [True] + [False] * (len(launcher.calls) - 1)


def test_a_round_that_runs_nothing_is_an_error_and_not_an_endless_loop(plan, tmp_path):
    launcher = Launcher()

    def run(asked, options):
        return launcher(plan, options) if asked == plan else Counts(len(plan.trials), 0, 0, 0, 0)

    with pytest.raises(ValueError, match="did not run"):
        refine(plan, _options(tmp_path), run)


def test_a_size_that_the_data_do_not_have_is_not_added(plan, tmp_path, monkeypatch, capsys):
    """The curves meet beyond the largest size; a check refuses more images, and no size beyond it is planned."""
    for model, factor in (("vit", 8.45), ("cnn", 0.55)):
        exponent = -0.5 if model == "vit" else -0.2
        curve = {size: factor * size**exponent for size in (200, 400, 800, 1600, 3200, 6400)}
        monkeypatch.setitem(CURVES, model, curve)
    sizes = list(CURVES["vit"])
    amounts = {str(size): 11 for size in sizes}
    plan = replace(plan, train_sizes=sizes, budget={"unit": "steps", "amount": amounts})
    monkeypatch.setattr("vitlab.sweep.slurm_checks.check_models", _refuse)
    monkeypatch.setattr(f"{__name__}._record", _without_noise)
    refine(plan, _options(tmp_path), Launcher())
    assert load_plan(tmp_path).train_sizes == sizes
    assert "no size beyond the measured ones: model vit with" in capsys.readouterr().out


def _refuse(owner, trials, settings):
    raise ValueError(f"model vit with {trials[0].train_size} images cannot be trained: there are no more")


def _without_noise(trial, failed):
    jitter = (zlib.crc32(trial.id.encode()) % 100 - 50) * 2e-5
    metrics = {"accuracy": round(1 - CURVES[trial.model][trial.train_size] - jitter, 6)}
    return blank_record(trial, 1) | {"status": "done", "val": metrics, "test": metrics, "seconds": SECONDS}


SWEEP = {
    "task": "glyphs-tiny",
    "configs": [],
    "settings": {
        "data": {"dataset": {"class_path": "vitlab.data.Glyphs"}, "val_size": 200, "batch_size": 24},
        "trainer": {"accelerator": "cpu"},
    },
    "models": {
        "vit": {
            "model": {
                "backbone": {
                    "class_path": "vitlab.models.ViT",
                    "init_args": {"patch_size": 4, "size": {"dim": 12, "depth": 1, "num_heads": 2, "mlp_dim": 12}},
                }
            }
        },
        "cnn": {
            "model": {
                "backbone": {
                    "class_path": "vitlab.models.ResNet",
                    "init_args": {"size": {"depths": [1], "widths": [8]}},
                }
            }
        },
    },
    "train_sizes": [24, 60],
    "seeds": [0, 1],
    "learning_rates": [0.01],
    "budget": {"unit": "steps", "amount": 7},
}


def _write_sweep(folder: Path, **changes) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({}, ["--refine", "--shard", "1/2"], "--shard runs a part of them"),
        ({}, ["--refine", "--launcher", "slurm", "--no-wait"], "--no-wait does not"),
        ({}, ["--refine-minutes", "3"], "--refine-minutes is a limit of --refine"),
        ({}, ["--refine-trials", "3"], "--refine-trials is a limit of --refine"),
        ({}, ["--refine", "--refine-minutes", "0"], "--refine-minutes is 0"),
        ({}, ["--refine", "--refine-trials", "0"], "--refine-trials is 0"),
        ({"models": {"vit": SWEEP["models"]["vit"]}}, ["--refine"], "'glyphs-tiny' has one model (vit)"),
        ({"dial": {"label": "size", "arms": {"vit": 1, "cnn": 2}}}, ["--refine"], "turns a dial (size)"),
    ],
)
def test_what_cannot_be_refined_is_refused_before_anything_is_run(changes, arguments, words, tmp_path, capsys):
    sweep = _write_sweep(tmp_path, **changes)
    assert main(["sweep", str(sweep), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_real_sweep_is_refined_and_ends(tmp_path):
    sweep = _write_sweep(tmp_path)
    command = [sys.executable, "-W", "error", "-m", "vitlab.cli"]
    arguments = ["sweep", str(sweep), "--out", str(tmp_path / "out"), "--threads", "1"]
    limits = ["--refine", "--refine-trials", "6", "--refine-minutes", "30"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = [
        subprocess.run([*command, *arguments, *limits], capture_output=True, text=True, check=True, env=environment)
        for _ in range(2)
    ]
    plan, records = load_plan(tmp_path / "out"), read_records(tmp_path / "out")
    added = [record for record in records if record["seed"] > 1 or record["train_size"] not in (24, 60)]
    assert 0 < len(added) <= 6
    assert sum(record["model"] == "vit" for record in added) == len(added) / 2
    assert {record["status"] for record in records} == {"done"}
    assert all(record["test"] for record in records)
    assert "refine: refinement has ended" in said[1].stdout
    assert len(records) == len(plan.trials) == 8 + len(added)
    assert main(["report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "Added by refinement, for every arm" in page
    assert "validation errors alone decided where" in page
    assert main(["verify", str(tmp_path / "out")]) == 0
