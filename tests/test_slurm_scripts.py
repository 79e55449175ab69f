"""The sbatch templates for those who submit by hand, on a real SLURM: they train, and go on when their time is up."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.slurm_cluster import SlurmCluster, call, wait_until
from vitlab.sweep import store
from vitlab.sweep.owners import read_heartbeats

DATA = """
data:
  dataset: {class_path: vitlab.data.Digits}
  val_size: 100
  batch_size: 32
trainer: {accelerator: cpu}
"""
MODEL = """
model:
  backbone:
    class_path: vitlab.models.ViT
    init_args: {patch_size: 4, size: {dim: 12, depth: 1, num_heads: 2, mlp_dim: 12}}
"""
SWEEP = """
task: digits-tiny
configs: [data.yaml]
models: {vit: model.yaml}
train_sizes: [64]
seeds: [0, 1]
learning_rates: [0.003]
budget: {unit: steps, amount: 300}
"""
FIT = (
    *("--config=data.yaml", "--config=model.yaml", "--data.train_size=64", "--num_threads=1"),
    *("--trainer.max_steps=1500", "--trainer.max_epochs=-1", "--trainer.check_val_every_n_epoch=1000"),
    *("--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"),
)


def parent_of(pid):
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("PPid:"))


@pytest.mark.slurm
@pytest.mark.slow
def test_the_templates_train_and_go_on_after_their_time(root, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name, text in (("data", DATA), ("model", MODEL), ("sweep", SWEEP)):
        (tmp_path / f"{name}.yaml").write_text(text)
    shards, training = tmp_path / "shards", tmp_path / "training"

    def submit(*command):
        said = call("sbatch", f"--chdir={tmp_path}", *map(str, command), check=True).stdout
        return said.split()[-1]

    with SlurmCluster(tmp_path / "slurm") as cluster:
        fit = submit("--time=5", root / "scripts" / "fit.sbatch", training, *FIT)
        array = submit("--array=1-2", root / "scripts" / "sweep_shard.sbatch", "sweep.yaml", shards)
        # What SLURM does before their time is up: to the steps of the one, to the batch script of the other.
        (shard,) = wait_until(lambda: list(read_heartbeats(shards)), "a shard to be at work")
        os.kill(parent_of(shard.pid), signal.SIGUSR1)
        wait_until(lambda: list(training.rglob("metrics.csv")), "the training to be on its way")
        call("scancel", "--signal=USR1", fit, check=True)
        wait_until(lambda: not cluster.jobs(), "the jobs to end")

        for job in (fit, f"{array}_1"):
            assert "Restarts=1 " in call("scontrol", "--oneliner", "show", "job", job, check=True).stdout
    log = (tmp_path / f"vitlab-fit-{fit}.log").read_text()
    assert "val/accuracy" in log
    assert "hpc_ckpt" in log
    records = store.read_records(shards)
    assert [record["status"] for record in records] == ["done", "done"]
    assert all(record["test"] for record in records)
