"""What a sweep consists of: models x train sizes x seeds x learning rates.

A trial is a command line: its settings, flattened to arguments, pasted after `vitlab fit` repeat it. Its id is a hash
of those settings, so the same trial has the same record wherever and whenever it runs. No torch here.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vitlab.atomic_file import TEMPORARY_PREFIX, atomic_file

SCHEMA = 1
PLAN_FILE = "sweep.json"
# What is in the folder before the plan is: logs, other launchers that have just started, and what older versions left.
_BEFORE_THE_PLAN = {"logs", "owners", "jobs", ".lock"}
BUDGET_UNITS = ("steps", "epochs")
# What a sweep sets for each trial, so that a config must not.
AXES = (
    *("seed_everything", "data.train_size", "data.seed", "model.learning_rate"),
    *("trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval", "trainer.check_val_every_n_epoch"),
    "trainer.limit_train_batches",  # it would draw another subset every epoch
)
_ONE_DEVICE = {"trainer": {"devices": 1}}  # not all that there are: workers share the machine by trials
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
        return self.budget["amount"] * (1 if self.budget["unit"] == "steps" else self.train_size)

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
        return [f"--{name}={value}" for name, value in _flatten(self.settings)]


@dataclass(frozen=True)
class Plan:
    """A sweep, resolved: nothing in it refers to another file.

    Args:
        task: Short name of the question, such as `glyphs-both`; the report groups by it.
        title: One line for people.
        model_settings: Settings of each arm by its name, in the order of the YAML file.
        train_sizes: Numbers of training images, ascending.
        seeds: One draw of the subset, the order and the initialization each.
        learning_rates: The grid of each arm; all arms have the same number.
        budget: `unit` (steps or epochs) and `amount`, a number for each train size.
        settings: What all arms share, as `vitlab fit` would read it from YAML.
        dial: None, or what the arms differ in when that is a number: `label` names it with its unit, `arms` gives each
            arm's family (None where there is one) and its place on the dial.
    """

    task: str
    title: str
    model_settings: dict[str, dict[str, Any]]
    train_sizes: list[int]
    seeds: list[int]
    learning_rates: dict[str, list[float]]
    budget: dict[str, Any]
    settings: dict[str, Any]
    dial: dict[str, Any] | None = None

    @property
    def models(self) -> list[str]:
        """The names of the arms."""
        return list(self.model_settings)

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials, small data sizes first so that a first picture is there early."""
        return list(self._trials())

    def settings_of(self, model: str) -> dict[str, Any]:
        """Return what all trials of an arm have in common."""
        return merge(merge(_ONE_DEVICE, self.settings), self.model_settings[model])

    def _trials(self) -> Iterator[Trial]:
        """Yield the trials; what those of a model and size have in common they share, so that many take little room."""
        for train_size, model in itertools.product(self.train_sizes, self.models):
            budget = {"unit": self.budget["unit"], "amount": self.budget["amount"][str(train_size)]}
            axes = {
                "seed_everything": None,
                "data": {"train_size": train_size, "seed": None},
                "model": {"learning_rate": None},
                "trainer": _training_length(**budget),
            }
            shared = merge(self.settings_of(model), axes)
            for seed in self.seeds:
                settings = {**shared, "seed_everything": seed, "data": {**shared["data"], "seed": seed}}
                for rate in self.learning_rates[model]:
                    own = {**settings, "model": {**shared["model"], "learning_rate": rate}}
                    yield Trial(self.task, model, train_size, seed, rate, budget, own)


def check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder that belongs to another sweep or to something else; nothing in it is changed.

    A plan that only adds to the one in the folder (more seeds, sizes, learning rates or models) is welcome.

    Raises:
        ValueError: The folder is not for this plan; the message says what differs.
    """
    folder = Path(folder)
    if not (folder / PLAN_FILE).exists():
        entries = folder.iterdir() if folder.is_dir() else []
        held = {entry.name for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX)}
        if held - _BEFORE_THE_PLAN:
            raise ValueError(f"{folder} is not empty and holds no sweep; choose a new folder for --out")
        return
    before = load_plan(folder)
    if before == plan:
        return
    now = {trial.id for trial in plan.trials}
    dropped = [trial for trial in before.trials if trial.id not in now]
    if dropped:
        first = dropped[0]
        raise ValueError(
            f"{folder} holds the sweep {before.task!r} with other settings: {len(dropped)} of its "
            f"{len(before.trials)} trials are not in this config, for example model {first.model}, "
            f"{first.train_size} images, seed {first.seed}, learning rate {first.learning_rate:g}. Nothing was "
            "changed. Choose another --out, or a config that only adds models, sizes, seeds or learning rates"
        )


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the plan into its sweep folder, which `check_folder` has admitted.

    Of two launchers that find an empty folder at the same time, one writes its plan and the other checks against it.

    Raises:
        ValueError: Another sweep has taken the folder meanwhile.
    """
    content = {"schema": SCHEMA, **{name: getattr(plan, name) for name in Plan.__dataclass_fields__}}
    if plan.dial is None:  # such a plan looks as it did before there were dials
        del content["dial"]
    try:
        _write(folder, content, replace=False)
    except FileExistsError:
        check_folder(folder, plan)
        if load_plan(folder) != plan:
            _write(folder, content, replace=True)


def _write(folder: Path, content: dict[str, Any], replace: bool) -> None:
    with atomic_file(Path(folder) / PLAN_FILE, replace=replace) as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")


def _training_length(unit: str, amount: int) -> dict[str, Any]:
    """Trainer settings for a budget: validate once, at the end (no checkpoint is ever chosen along the way)."""
    if unit == "steps":
        length = {"max_steps": amount, "max_epochs": -1, "val_check_interval": amount, "check_val_every_n_epoch": None}
    else:
        length = {"max_steps": -1, "max_epochs": amount, "val_check_interval": None, "check_val_every_n_epoch": amount}
    return {**length, "num_sanity_val_steps": 0}


def load_plan(folder: Path) -> Plan:
    """Return the plan of a sweep folder.

    Raises:
        ValueError: The folder holds no sweep, or its plan cannot be read.
    """
    path = Path(folder) / PLAN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        dial = {"dial": content["dial"]} if "dial" in content else {}
        plan = Plan(**{name: content[name] for name in Plan.__dataclass_fields__ if name != "dial"}, **dial)
        _check_axes(plan)
        return plan
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a sweep folder: it has no {PLAN_FILE}; see `vitlab sweep --help`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a plan of this version of vitlab ({error!r})") from error


def _check_axes(plan: Plan) -> None:
    """Raise KeyError where an axis lacks what another one names: somebody has edited the plan."""
    absent = {*plan.models} - {*plan.learning_rates} | {*map(str, plan.train_sizes)} - {*plan.budget["amount"]}
    if absent or plan.budget["unit"] not in BUDGET_UNITS:
        raise KeyError(*absent or [plan.budget["unit"]])


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two settings deeply, the second winning; another `class_path` starts with fresh `init_args`."""
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)
