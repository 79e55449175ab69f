"""How many trials run at a time, in workers or by GPU."""

import pytest

from tests.sweep.conftest import SWEEP
from vitlab import cli
from vitlab.commands.sweeps import _remove_empty, _settings


def options(*words):
    return cli._parser().parse_args(["sweep", "sweep.yaml", "--out", "out", *words])


@pytest.mark.parametrize(("visible", "number"), [("3,5", 6), ("0", 3)])
def test_trials_per_device_are_as_many_workers_on_each_gpu(visible, number, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _settings(options("--trials-per-device", "3")).num_workers == number
    assert _settings(options("--workers", "4")).num_workers == 4


def test_trials_per_device_want_a_device_and_are_in_place_of_workers(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match=r"no GPU here .*give --workers"):
        _settings(options("--trials-per-device", "3"))
    with pytest.raises(ValueError, match="is 0; give 1 or more"):
        _settings(options("--trials-per-device", "0"))
    for more in (("--workers", "2"), ("--launcher", "slurm")):
        with pytest.raises(ValueError, match="in place of --workers, on this machine"):
            _settings(options("--trials-per-device", "3", *more))


def test_a_failed_start_takes_away_the_empty_folder_that_it_made_and_no_other(tmp_path, capsys):
    made, there = tmp_path / "made", tmp_path / "there"
    there.mkdir()
    config = tmp_path / "sweep.yaml"
    config.write_text(SWEEP)
    for out in (made, there):
        assert cli.main(["sweep", str(config), "--out", str(out), "--set", "data.drwa=7"]) == 2
        assert "data.drwa" in capsys.readouterr().err
    assert not made.exists()
    assert there.is_dir()


def test_a_folder_that_holds_anything_stays(tmp_path):
    (tmp_path / "out" / "owners").mkdir(parents=True)
    (tmp_path / "out" / "logs").mkdir()
    (tmp_path / "out" / "logs" / "worker.log").touch()
    _remove_empty(tmp_path / "out")
    assert (tmp_path / "out" / "logs" / "worker.log").exists()
    _remove_empty(tmp_path / "nowhere")
