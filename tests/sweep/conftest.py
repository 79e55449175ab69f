"""A sweep small enough for tests: digits, two tiny models, a handful of steps."""

import textwrap

import pytest

from vitlab.sweep.record import blank_record
from vitlab.sweep.sweep_file import read_sweep

SWEEP = """
task: digits-tiny
settings:
  data:
    dataset: {class_path: vitlab.data.Digits}
    val_size: 100
    batch_size: 32
  trainer: {accelerator: cpu}
models:
  vit:
    model:
      backbone:
        class_path: vitlab.models.ViT
        init_args: {patch_size: 4, size: {dim: 12, depth: 1, num_heads: 2, mlp_dim: 12}}
  cnn:
    model:
      backbone:
        class_path: vitlab.models.ResNet
        init_args: {size: {depths: [1], widths: [8]}}
train_sizes: [11, 23]
seeds: [0, 1]
learning_rates: [0.001, 0.01]
budget: {unit: steps, amount: 3}
"""


@pytest.fixture
def sweep_text():
    return SWEEP


@pytest.fixture
def write_sweep(tmp_path_factory):
    """Write a sweep file, with some of its text replaced, and return its path."""

    def write(*replacements, name="sweep.yaml"):
        text = SWEEP
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path_factory.mktemp("config") / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def plan(write_sweep):
    return read_sweep(write_sweep())


@pytest.fixture
def searching(write_sweep):
    """The same sweep with learning rates that are searched for."""
    return read_sweep(write_sweep(("learning_rates: [0.001, 0.01]", "learning_rates: auto")))


@pytest.fixture
def make_record():
    """Make the record of a trial as if it had run."""

    def make(trial, accuracy=0.5, status="done", test=None):
        metrics = {"accuracy": accuracy, "top5_accuracy": 1.0, "nll": 1.0, "calibration_error": 0.1}
        measured = {"steps": 3, "epochs": 3, "examples_seen": 96, "seconds": 0.5}
        return {
            **blank_record(trial, num_threads=1),
            **(measured if status == "done" else {}),
            "status": status,
            "val": metrics if status == "done" else None,
            "test": test,
            "error": None if status == "done" else "it failed",
        }

    return make
