"""What a trial record holds before anything is measured, and where a result came from. No torch here.

The contract of the record's keys is in the README, section "Files of a sweep".
"""

import contextlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vitlab.sweep.plan import Trial
from vitlab.sweep.store import SCHEMA, Record

_RECORDED_PACKAGES = ("vitlab", "torch", "torchvision", "timm", "lightning", "albumentations", "numpy")
_MEASURED = (
    *("val", "test", "steps", "epochs", "examples_seen", "seconds"),
    *("params", "macs", "peak_memory_bytes", "device", "history", "error", "test_error"),
)


def blank_record(trial: Trial, num_threads: int) -> Record:
    """Return the record of a trial with everything that is known before it runs; what is measured is None.

    Args:
        trial: What will run.
        num_threads: CPU threads for torch; among the recorded arguments, since results depend on it.
    """
    return {
        "schema": SCHEMA,
        "id": trial.id,
        "task": trial.task,
        "model": trial.model,
        "dataset": _dataset_name(trial),
        "train_size": trial.train_size,
        "seed": trial.seed,
        "learning_rate": trial.learning_rate,
        "budget": trial.budget,
        "status": "failed",
        **dict.fromkeys(_MEASURED),
        "num_threads": num_threads,
        "versions": _versions(),
        "commit": _commit(),
        "arguments": [f"--num_threads={num_threads}", *trial.arguments],
    }


def _dataset_name(trial: Trial) -> str:
    dataset = trial.settings.get("data", {}).get("dataset", {})
    dataset = dataset if isinstance(dataset, dict) else {"class_path": dataset}
    settings = ", ".join(f"{name}={value}" for name, value in (dataset.get("init_args") or {}).items())
    return f"{str(dataset.get('class_path')).rpartition('.')[2]}({settings})"


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


@cache
def _commit() -> str | None:
    """The commit of the checkout that vitlab runs from; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return None
