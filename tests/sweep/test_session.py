"""Sessions that share a folder: nothing lost, nothing done twice, whoever is killed, stopped or late."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from vitlab.sweep import store
from vitlab.sweep.claims import claimed_trials
from vitlab.sweep.local_launcher import LocalLauncher
from vitlab.sweep.nested_settings import merge
from vitlab.sweep.owners import Owner, OwnerLostError, Watch, declare_dead, read_heartbeats
from vitlab.sweep.plan_file import add_growth, load_plan, write_plan
from vitlab.sweep.session import Session
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.task_runner import TaskRunner
from vitlab.sweep.worker import Job
from vitlab.sweep.worker_process import WorkerProcess

INSTANT = (sys.executable, str(Path(__file__).with_name("instant_worker.py")))

LAUNCHER = """
import sys
from pathlib import Path
from vitlab.sweep.local_launcher import LocalLauncher
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.sweep_file import read_sweep
settings = SessionSettings(num_workers=2, num_threads=1, program=sys.argv[3:], save_every_seconds=1)
counts = LocalLauncher(settings).run(read_sweep(Path(sys.argv[1])), Path(sys.argv[2]))
print(counts.done, counts.failed, counts.missing, counts.untested)
"""


@pytest.fixture
def settings():
    return SessionSettings(num_workers=2, num_threads=1, program=INSTANT)


def launch(config, folder, seconds="0"):
    command = [sys.executable, "-c", LAUNCHER, str(config), str(folder), *INSTANT]
    environment = {**os.environ, "VITLAB_TEST_SECONDS": seconds}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def fits(folder):
    """How often each trial was trained to its end."""
    path = folder.parent / "fits"
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def assert_complete(folder):
    plan = load_plan(folder)
    records = store.read_records(folder)
    assert {record["id"] for record in records} == {trial.id for trial in plan.trials}
    assert all(record["status"] == "done" for record in records)
    assert sum(record["test"] is not None for record in records) == len(records) // 2
    assert claimed_trials(folder) == {}


def wait_until(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_three_launchers_at_once_do_each_trial_once(write_sweep, tmp_path):
    config, folder = write_sweep(("seeds: [0, 1]", "seeds: [0, 1, 2, 3, 4]")), tmp_path / "out"
    launchers = [launch(config, folder, "0.02") for _ in range(3)]
    answers = [launcher.communicate(timeout=120) for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0, 0], answers
    assert [answer for answer, _ in answers] == ["40 0 0 0\n"] * 3
    assert_complete(folder)
    assert set(fits(folder).values()) == {1}
    assert list((folder / "owners").iterdir()) == []


AUTO = ("learning_rates: [0.001, 0.01]", "learning_rates: auto")


def assert_searched(folder, num_seeds=2):
    """Every arm has as many trials, each is done once, and its choice is tested."""
    plan, records = load_plan(folder), store.read_records(folder)
    arms = Counter((record["model"], record["train_size"]) for record in records)
    assert set(arms.values()) == {11 + 3 * (num_seeds - 2)}
    assert len(arms) == 4
    assert {record["id"] for record in records} == {trial.id for trial in plan.trials}
    assert sum(record["test"] is not None for record in records) == 4 * num_seeds
    assert claimed_trials(folder) == {}


@pytest.mark.slow
def test_three_launchers_search_together_and_do_each_trial_once(write_sweep, tmp_path):
    config, folder = write_sweep(AUTO, ("seeds: [0, 1]", "seeds: [0, 1, 2]")), tmp_path / "out"
    launchers = [launch(config, folder, "0.02") for _ in range(3)]
    answers = [launcher.communicate(timeout=240) for launcher in launchers]
    assert [answer for answer, _ in answers] == ["56 0 0 0\n"] * 3, answers
    assert_searched(folder, num_seeds=3)
    assert set(fits(folder).values()) == {1}


@pytest.mark.slow
def test_a_killed_launchers_search_goes_on(write_sweep, tmp_path):
    config, folder = write_sweep(AUTO), tmp_path / "out"
    doomed = launch(config, folder, "0.05")
    wait_until(lambda: len(store.record_ids(folder)) >= 15)
    doomed.kill()
    doomed.communicate()
    answer, errors = launch(config, folder).communicate(timeout=240)
    assert answer == "44 0 0 0\n", errors
    assert_searched(folder)
    assert set(fits(folder).values()) == {1}


def test_a_search_is_done_by_jobs_of_a_few_trials_and_again_is_nothing(searching, tmp_path, settings):
    job = dataclasses.replace(settings, max_fits=15, is_launcher=False)
    for total in (15, 30, 44):
        counts = Session(searching, tmp_path / "out", job, kind="slurm").run()
        assert (counts.done, counts.missing) == (total, 44 - total)
    assert_searched(tmp_path / "out")
    before = fits(tmp_path / "out")
    counts = Session(searching, tmp_path / "out", settings).run()
    assert (counts.done, counts.missing, fits(tmp_path / "out")) == (44, 0, before)


def test_a_session_takes_part_in_what_comes_while_it_runs(plan, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("VITLAB_TEST_SECONDS", "0.3")
    folder = tmp_path / "out"
    session = threading.Thread(target=lambda: Session(plan, folder, settings).run())
    session.start()
    wait_until(lambda: len(store.record_ids(folder)) >= 2)
    grown = add_growth(folder, plan.with_seeds(23, [7]))
    session.join()
    assert store.record_ids(folder) == {trial.id for trial in grown.trials}
    assert len(grown.trials) == 20
    assert_complete(folder)


def test_a_search_with_shards_is_refused(searching, tmp_path, settings):
    with pytest.raises(ValueError, match="start the same command several times without --shard, in one shared folder"):
        LocalLauncher(settings, shard=(1, 2)).run(searching, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_launcher_waits_for_what_another_is_at_work_on(plan, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("VITLAB_TEST_SECONDS", "0.3")
    folder = tmp_path / "out"
    first = threading.Thread(target=lambda: Session(plan, folder, settings).run())
    first.start()
    wait_until(lambda: len(store.record_ids(folder)) >= 2)
    counts = Session(plan, folder, settings).run()
    first.join()
    assert (counts.done, counts.missing, counts.untested, counts.elsewhere) == (16, 0, 0, 0)
    assert_complete(folder)
    assert set(fits(folder).values()) == {1}


def test_a_killed_launchers_trials_are_taken_over_by_the_one_beside_it(write_sweep, tmp_path):
    config, folder = write_sweep(), tmp_path / "out"
    doomed, heir = launch(config, folder, "0.2"), launch(config, folder, "0.2")
    wait_until(lambda: len(list(read_heartbeats(folder))) == 2 and len(store.record_ids(folder)) >= 3)
    doomed.kill()
    doomed.communicate()
    answer, errors = heir.communicate(timeout=240)
    assert answer == "16 0 0 0\n", errors
    assert_complete(folder)
    assert set(fits(folder).values()) == {1}


def test_a_job_takes_so_many_trials_and_no_more(plan, tmp_path, settings):
    job = dataclasses.replace(settings, max_fits=3, is_launcher=False)
    counts = Session(plan, tmp_path / "out", job, kind="slurm").run()
    assert (counts.done, counts.missing) == (3, 13)
    for _ in range(5):
        counts = Session(plan, tmp_path / "out", job, kind="slurm").run()
    assert (counts.done, counts.missing, counts.untested) == (16, 0, 0)
    assert_complete(tmp_path / "out")


def test_shards_do_their_parts_and_together_all(plan, tmp_path, settings):
    for part in (1, 2, 3):
        counts = LocalLauncher(settings, shard=(part, 3)).run(plan, tmp_path / "out")
        assert counts.done == len([trial for index, trial in enumerate(plan.trials) if index % 3 < part])
    assert_complete(tmp_path / "out")
    assert set(fits(tmp_path / "out").values()) == {1}


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_a_shard_that_does_not_exist_is_refused(shard):
    with pytest.raises(ValueError, match="give i/n with i from 1 to n"):
        LocalLauncher(shard=shard)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_has_the_running_trials_given_back(write_sweep, tmp_path, number):
    config, folder = write_sweep(), tmp_path / "out"
    process = launch(config, folder, "1000")
    wait_until(lambda: len(claimed_trials(folder) if (folder / "trials").exists() else {}) == 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=240)
    assert f"stopped by {number.name}; what was running is saved" in errors
    assert claimed_trials(folder) == {}
    assert list((folder / "owners").iterdir()) == []


def test_a_trial_over_which_jobs_vanish_is_recorded_as_failed(plan, tmp_path, settings):
    folder, victim = tmp_path / "out", plan.trials[0]
    write_plan(folder, plan)
    (folder / "trials").mkdir()
    names = [f"slurm-n{number}-1-abc" for number in range(3)]
    for number, name in enumerate(names):
        (folder / "trials" / f".claim-{victim.id}.{number}").write_text(name)
    (folder / "owners").mkdir()
    for name in names:
        declare_dead(folder, name)
    counts = Session(plan, folder, settings).run()
    assert (counts.done, counts.failed) == (15, 1)
    error = store.read_record(folder, victim.id)["error"]
    assert "its job vanished 3 times without a word" in error
    assert Session(plan, folder, dataclasses.replace(settings, retry_failed=True)).run().failed == 0


def test_an_owner_taken_for_dead_writes_nothing_more_and_says_so(plan, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("VITLAB_TEST_SECONDS", "0.4")
    folder = tmp_path / "out"
    session = Session(plan, folder, dataclasses.replace(settings, patience_seconds=0.9))
    errors = []

    def run():
        try:
            session.run()
        except OwnerLostError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: (folder / "trials").exists() and claimed_trials(folder))
    (owner,) = [heartbeat.id for heartbeat in read_heartbeats(folder)]
    declare_dead(folder, owner)
    thread.join(30)
    assert "the same command goes on" in errors[0]
    assert Session(plan, folder, settings).run().done == 16
    assert_complete(folder)


def test_shards_that_retry_failures_at_once_leave_nothing_untested(plan, tmp_path, settings, make_record):
    folder = tmp_path / "out"
    Session(plan, folder, settings).run()
    for trial in plan.trials[:4]:  # one arm has failed, in parts of both shards
        store.write_record(folder, make_record(trial, status="failed"))
    again = dataclasses.replace(settings, retry_failed=True)
    shards = [
        threading.Thread(target=lambda part=part: LocalLauncher(again, shard=(part, 2)).run(plan, folder))
        for part in (1, 2)
    ]
    for shard in shards:
        shard.start()
    for shard in shards:
        shard.join()
    assert_complete(folder)


def test_what_fails_after_others_took_over_is_not_recorded(plan, tmp_path):
    runner = TaskRunner(tmp_path, 1, 600.0, "local-sleeper-1-abc")
    (tmp_path / "owners").mkdir()
    declare_dead(tmp_path, "local-sleeper-1-abc")
    assert runner.note_failure(("fit", plan.trials[0]), "the GPU is gone") is None
    assert store.record_ids(tmp_path) == set()


def test_a_test_that_fails_without_a_record_is_done_again(plan, tmp_path):
    assert TaskRunner(tmp_path, 1, 600.0, "x").note_failure(("test", plan.trials[0]), "no such trial") is None


def test_a_fit_that_was_called_off_before_its_process_began_is_not_begun(plan, tmp_path):
    worker = WorkerProcess(0, 1, tmp_path / "log", program=INSTANT)
    worker.interrupt()
    assert worker.do(Job("fit", plan.trials[0], str(tmp_path / "out"), 1))["status"] == "interrupted"
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("sweep", ["plan", "searching"])
def test_trials_over_several_nodes_need_a_cluster(sweep, request, tmp_path, settings):
    plan = request.getfixturevalue(sweep)
    spread = dataclasses.replace(plan, settings=merge(plan.settings, {"trainer": {"num_nodes": 2}}))
    with pytest.raises(ValueError, match=r"trains on several nodes .* use --launcher slurm"):
        LocalLauncher(settings).run(spread, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_broken_is_named_and_nothing_is_done(plan, tmp_path, settings):
    Session(plan, tmp_path / "out", settings).run()
    victim = store.record_path(tmp_path / "out", plan.trials[3].id)
    victim.write_text(victim.read_text().replace('"accuracy"', '"accuracy" '))
    with pytest.raises(ValueError, match=plan.trials[3].id):
        Session(plan, tmp_path / "out", settings).run()
    victim.unlink()
    assert Session(plan, tmp_path / "out", settings).run().done == 16
    assert fits(tmp_path / "out")[plan.trials[3].id] == 2


def test_a_full_disk_stops_the_sweep_in_words_and_loses_nothing(plan, tmp_path, settings):
    """A worker that cannot write says so; the trial is not a failed one."""
    program = tmp_path / "full.py"
    program.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    kind = json.loads(line)['kind']\n"
        "    answer = ('done', None) if kind == 'check' else ('unwritable', 'No space left on device')\n"
        "    print(json.dumps(dict(zip(('status', 'error'), answer))), flush=True)\n"
    )
    full = dataclasses.replace(settings, program=(sys.executable, str(program)))
    with pytest.raises(ValueError, match="No space left on device; make room and run the same command again"):
        Session(plan, tmp_path / "out", full).run()
    assert store.read_records(tmp_path / "out") == []
    assert claimed_trials(tmp_path / "out") == {}
    assert Session(plan, tmp_path / "out", settings).run().done == 16


def test_a_worker_that_is_told_alone_to_stop_is_replaced(plan, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("VITLAB_TEST_SECONDS", "0.1")
    program = tmp_path / "wrapper.py"
    program.write_text(
        "import os, runpy, sys\n"
        "open(os.path.join(os.path.dirname(__file__), f'pid-{os.getpid()}'), 'w').close()\n"
        f"runpy.run_path({INSTANT[1]!r}, run_name='__main__')\n"
    )
    slow = dataclasses.replace(settings, program=(sys.executable, str(program)))
    session = threading.Thread(target=lambda: Session(plan, tmp_path / "out", slow).run())
    session.start()
    wait_until(lambda: len(store.record_ids(tmp_path / "out")) >= 2)
    os.kill(int(next(tmp_path.glob("pid-*")).name.removeprefix("pid-")), signal.SIGUSR1)
    session.join(60)
    assert len(list(tmp_path.glob("pid-*"))) == 3
    assert_complete(tmp_path / "out")


def test_what_others_know_of_a_job_is_kept_up_to_date(plan, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("VITLAB_TEST_SECONDS", "0.2")
    job = dataclasses.replace(settings, max_fits=5, is_launcher=False, patience_seconds=0.9, num_workers=1)
    session = threading.Thread(target=lambda: Session(plan, tmp_path, job, "slurm", {"job": "12_3"}).run())
    session.start()
    seen = []
    while session.is_alive():
        seen += [json.dumps(heartbeat.details) for heartbeat in read_heartbeats(tmp_path)]
        time.sleep(0.02)
    assert seen[0] == '{"job": "12_3", "will_take": 5}'
    assert '{"job": "12_3", "will_take": 3}' in seen


def test_an_owner_beside_a_session_is_not_disturbed(plan, tmp_path, settings):
    with Owner(tmp_path) as other:
        Session(plan, tmp_path, settings).run()
        assert Watch(tmp_path).is_alive(other.id)
