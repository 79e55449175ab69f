"""What a trial record holds before anything is measured, where a result came from, and what cannot be one.

The contract of the record's keys is in the README, section "Files of a sweep". No torch here.
"""

import contextlib
import json
import math
import platform
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vitlab.sweep.plan import Trial
from vitlab.sweep.store import SCHEMA, Record

_RECORDED_PACKAGES = ("vitlab", "torch", "torchvision", "timm", "lightning", "albumentations", "numpy")
_MEASURED = (
    *("val", "test", "steps", "epochs", "examples_seen", "seconds", "train_seconds"),
    *("params", "macs", "peak_memory_bytes", "device", "history", "error", "test_error"),
)
_AXES = ("task", "model", "train_size", "seed", "learning_rate", "budget")
_ALWAYS_THERE = (*_AXES, "val", "test", "steps", "epochs", "examples_seen", "seconds", "arguments", "error")
_SHARES = ("accuracy", "top5_accuracy", "mean_iou", "calibration_error")  # metrics between 0 and 1
_OF_NO_SETTING = ("num_threads", "test_after_fit")  # arguments that a trial of any settings may have


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


def complaints(record: Record, trial: Trial) -> list[str]:
    """Say what in a record cannot be true of its trial; nothing where all is in order.

    Args:
        record: As it was read.
        trial: The trial of the same id, as the plan has it.
    """
    absent = [name for name in _ALWAYS_THERE if name not in record]
    if absent:
        return [f"it lacks {', '.join(absent)}"]
    given, planned = record, {name: getattr(trial, name) for name in _AXES}
    wrong = [
        f"{name} is {given[name]!r}, planned is {planned[name]!r}" for name in _AXES if given[name] != planned[name]
    ]
    if not _have_same_settings(record["arguments"], trial.arguments):
        wrong.append("its arguments are not those of the trial in the plan")
    return wrong or [*_about_outcome(record), *_about_numbers(record)]


def _have_same_settings(arguments: Any, planned: list[str]) -> bool:
    if not isinstance(arguments, list):
        return False
    in_one_alone = set(map(str, arguments)) ^ set(planned)  # nearly always the number of threads and no more
    return not settings_in(in_one_alone) or settings_in(arguments) == settings_in(planned)


def settings_in(arguments: Iterable[str]) -> dict[str, Any]:
    """Return the settings that a trial's arguments give, by name; they are the same in any order."""
    pairs = (str(argument).removeprefix("--").partition("=") for argument in arguments)
    return {name: _value(text) for name, _, text in pairs if name not in _OF_NO_SETTING}


def _value(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _about_outcome(record: Record) -> Iterator[str]:
    if record["status"] == "failed":
        if not record["error"]:
            yield "it failed, but no error is given"
        return
    if not isinstance(record["val"], dict) or not isinstance(record["val"].get("accuracy"), float | int):
        yield "it is done, but no validation accuracy is given"
    unit, amount = record["budget"]["unit"], record["budget"]["amount"]
    if record[unit] != amount:
        yield f"it is done after {record[unit]} {unit}, but its budget is {amount}"


def _about_numbers(record: Record) -> Iterator[str]:
    for name in _MEASURED:
        for place, number in _numbers(record.get(name), (name,)):
            is_share = place[-1] in _SHARES
            if not math.isfinite(number):
                yield f"{'.'.join(place)} is {number}, not a finite number"
            elif name != "history" and (number < 0 or (number > 1 and is_share)):
                yield f"{'.'.join(place)} is {number}, not {'between 0 and 1' if is_share else 'zero or more'}"


def _numbers(value: Any, place: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    """Return all numbers in a value, each with the keys that lead to it."""
    if type(value) in (float, int):
        return [(place, value)]
    if isinstance(value, list):
        return [found for inner in value for found in _numbers(inner, place)]
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _numbers(inner, (*place, key))]
    return []
