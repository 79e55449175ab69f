"""`--plan-only` refuses what a run would refuse before it trains, and leaves no plan then."""

import pytest

from vitlab.cli import main
from vitlab.sweep import store
from vitlab.sweep.checked_plan import write_checked_plan
from vitlab.sweep.local_launcher import LocalLauncher
from vitlab.sweep.plan_file import load_plan, write_plan
from vitlab.sweep.slurm_launcher import SlurmLauncher
from vitlab.sweep.slurm_submission import JobResources
from vitlab.sweep.sweep_file import read_sweep

NO_ROOT = "data.dataset={class_path: vitlab.data.ImageFolder, init_args: {root: nowhere, image_size: 8}}"
BAD = {
    "a setting that there is not": ([], "data.drwa=7", "data.drwa"),
    "more images than there are": ([("23]", "5000]")], "data.batch_size=32", "with 5000 images cannot be trained"),
    "a root that there is not": ([], NO_ROOT, "nowhere"),
}


@pytest.mark.parametrize("launcher", ["local", "slurm"])
@pytest.mark.parametrize("case", BAD)
def test_what_a_run_would_refuse_is_refused_and_leaves_no_folder(case, launcher, write_sweep, tmp_path, capsys):
    replacements, override, words = BAD[case]
    command = ["sweep", str(write_sweep(*replacements)), "--out", str(tmp_path / "out"), "--set", override]
    assert main([*command, "--plan-only", "--launcher", launcher]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["--launcher", "slurm"], ["--shard", "1/2"]])
def test_a_plan_in_order_is_written_without_a_cluster(options, write_sweep, plan, tmp_path):
    assert main(["sweep", str(write_sweep()), "--out", str(tmp_path / "out"), "--plan-only", *options]) == 0
    assert load_plan(tmp_path / "out") == plan


def test_a_search_is_checked_at_rates_that_it_begins_with(write_sweep, tmp_path):
    config = write_sweep(("learning_rates: [0.001, 0.01]", "learning_rates: auto"), ("23]", "5000]"))
    with pytest.raises(ValueError, match="with 5000 images cannot be trained"):
        write_checked_plan(read_sweep(config), tmp_path / "out", LocalLauncher())


def test_only_what_is_open_is_checked(write_sweep, make_record, tmp_path):
    bad = read_sweep(write_sweep(), ["data.drwa=7"])  # as another version of vitlab may have known it
    write_plan(tmp_path, bad)
    for trial in bad.trials[:-1]:
        store.write_record(tmp_path, make_record(trial))
    with pytest.raises(ValueError, match=r"data\.drwa"):
        write_checked_plan(bad, tmp_path, LocalLauncher())
    store.write_record(tmp_path, make_record(bad.trials[-1]))
    assert write_checked_plan(bad, tmp_path, LocalLauncher()) == bad


def test_devices_that_jobs_would_not_have_are_named_without_a_cluster(write_sweep, tmp_path):
    plan = read_sweep(write_sweep(), ["trainer.accelerator=gpu"])
    with pytest.raises(ValueError, match="give --gpus 1 or more"):
        write_checked_plan(plan, tmp_path / "out", SlurmLauncher())
    write_checked_plan(plan, tmp_path / "out", SlurmLauncher(JobResources(gpus=1)))
    assert load_plan(tmp_path / "out") == plan


def test_several_nodes_are_refused_on_one_machine(write_sweep, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    plan = read_sweep(write_sweep(), ["trainer.num_nodes=2", "trainer.devices=1"])
    with pytest.raises(ValueError, match="this is one machine"):
        write_checked_plan(plan, tmp_path / "out", LocalLauncher())
    assert not (tmp_path / "out").exists()
