"""One planned training run, which is a command line: its settings as arguments, pasted after `vitlab fit`, repeat it.

Its id is a hash of those settings, so the same trial has the same record wherever and whenever it runs. No torch here.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vitlab.sweep.nested_settings import flatten

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True)
class Trial:
    """One training run: the axes it stands at, and its settings as `vitlab fit` would read them from YAML."""

    task: str
    model: str
    train_size: int
    seed: int
    learning_rate: float
    budget: dict[str, Any]
    settings: dict[str, Any] = field(repr=False)

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits from the settings: equal settings, equal id, on every machine."""
        text = _canonical([self.task, self.model, self.settings])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def work(self) -> int:
        """How long it takes, in units that compare trials of one sweep: its steps, or its images times epochs."""
        return work_of(self.budget["unit"], self.budget["amount"], self.train_size)

    @property
    def has_many_processes(self) -> bool:
        """Whether the trial trains with several processes of its own (DDP, FSDP)."""
        trainer = self.settings.get("trainer", {})
        devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
        one_device = str(devices) == "1" or (isinstance(devices, list) and len(devices) == 1)
        return not one_device or nodes != 1 or trainer.get("strategy", "auto") != "auto"

    @property
    def arguments(self) -> list[str]:
        """What to paste after `vitlab fit` (each word quoted for the shell) to repeat the trial."""
        return [f"--{name}={value}" for name, value in flatten(self.settings)]


def work_of(unit: str, amount: int, train_size: int) -> int:
    """Return how long a training takes, in the units of `Trial.work`.

    Args:
        unit: steps or epochs.
        amount: how many of them.
        train_size: in images.
    """
    return amount * (1 if unit == "steps" else train_size)


def training_length(unit: str, amount: int) -> dict[str, Any]:
    """Trainer settings for a budget: validate once, at the end (no checkpoint is ever chosen along the way)."""
    if unit == "steps":
        length = {"max_steps": amount, "max_epochs": -1, "val_check_interval": amount, "check_val_every_n_epoch": None}
    else:
        length = {"max_steps": -1, "max_epochs": amount, "val_check_interval": None, "check_val_every_n_epoch": amount}
    return {**length, "num_sanity_val_steps": 0}
