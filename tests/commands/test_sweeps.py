"""How many trials run at a time, in workers or by GPU."""

import pytest

from vitlab import cli
from vitlab.commands.sweeps import _settings


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
