"""The line that a sweep shows: a bar for people, plain lines for log files."""

import pytest

from vitlab.sweep import progress
from vitlab.sweep.schedule import Schedule


@pytest.fixture
def schedule(plan):
    return Schedule(plan, [])


def test_a_log_file_gets_plain_lines_with_all_counts(schedule, make_record, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    shown = progress.Progress("task", schedule)
    task = schedule.take()
    schedule.finish(task, make_record(task[1]))
    task = schedule.take()
    schedule.finish(task, make_record(task[1], status="failed"))
    schedule.take()
    shown.show()
    shown.close()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "task 0/16: done 0, failed 0, running 0, time left unknown yet"
    assert last.startswith("task 2/16: done 1, failed 1, running 1, about 00:0")


def test_lines_do_not_fill_a_log_file(schedule, capsys):
    shown = progress.Progress("task", schedule)
    for _ in range(100):
        shown.show()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_people_get_a_bar(schedule, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = progress.Progress("task", schedule)
    shown.write("failed: a trial")
    shown.close()
    output = capsys.readouterr().err
    assert "0/16" in output
    assert "failed: a trial" in output
