"""A sweep's plan in its folder: `sweep.json`, which only ever grows.

A sweep file says how a sweep begins. Sizes, seeds and learning rates may come while it runs, from any of several
launchers; they stand in the folder, and whoever comes with the same sweep file goes on with all of them.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlab.atomic_file import TEMPORARY_PREFIX, atomic_file, read_whole
from vitlab.sweep.plan import BUDGET_UNITS, Plan, Trial

SCHEMA = 1
PLAN_FILE = "sweep.json"
# What is in the folder before the plan is: logs, other launchers that have just started, and what older versions left.
_BEFORE_THE_PLAN = {"logs", "owners", "jobs", ".lock"}
# A plan without these looks as it did before they were.
_OPTIONAL = ("dial", "seeds_at", "sizes_added", "rates_at", "refinements", "race")


class OtherSweepError(ValueError):
    """The folder holds the plan of another sweep; it may be that nothing of it has been trained."""


def check_folder(folder: Path, plan: Plan) -> Plan:
    """Refuse a folder that belongs to another sweep or to something else; nothing in it is changed.

    A plan that only adds to the one in the folder (more seeds, sizes, learning rates or models) is welcome.

    Args:
        folder: The sweep folder; it need not exist.
        plan: A sweep, as its file has it or grown.

    Returns:
        The plan to go on with: the given one with all that the one in the folder has grown by.

    Raises:
        OtherSweepError: The folder is another sweep's; the message says what differs.
        ValueError: The folder holds something else, or a plan that cannot be read.
    """
    folder = Path(folder)
    if not (folder / PLAN_FILE).exists():
        entries = folder.iterdir() if folder.is_dir() else []
        held = {entry.name for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX)}
        if held - _BEFORE_THE_PLAN:
            raise ValueError(f"{folder} is not empty and holds no sweep; choose a new folder for --out")
        return plan
    before = load_plan(folder)
    if before == plan:
        return plan
    _check_rates(folder, before, plan)
    grown = plan.with_growth_of(before)
    if grown == before:
        return grown
    all_of_it = before.trials
    dropped = _dropped(before, grown)
    if not dropped and before.searches_rates:  # it may have no trials yet; its other axes are compared at some rate
        all_of_it = _at_one_rate(before).trials
        dropped = _dropped(_at_one_rate(before), _at_one_rate(grown))
    if dropped:
        first = dropped[0]
        rate = "" if before.searches_rates else f", learning rate {first.learning_rate:g}"
        raise OtherSweepError(
            f"{folder} holds the sweep {before.task!r} with other settings: {len(dropped)} of its "
            f"{len(all_of_it)} trials are not in this config, for example model {first.model}, "
            f"{first.train_size} images, seed {first.seed}{rate}. Nothing was "
            "changed. Choose another --out, or a config that only adds models, sizes, seeds or learning rates"
        )
    return grown


def _check_rates(folder: Path, before: Plan, plan: Plan) -> None:
    kinds = {"auto": "learning_rates: auto", "grid": "a list of learning rates", "race": "a race of learning rates"}
    raced = [model for model in plan.race or {} if (before.race or {}).get(model, plan.race[model]) != plan.race[model]]
    if before.tuning == plan.tuning and not raced:
        return
    held, wanted = kinds[before.tuning], kinds[plan.tuning]
    if raced:
        held, wanted = (f"{raced[0]} racing at {one.race[raced[0]]}" for one in (before, plan))
    switch = {("grid", "race"): "take out `race: true`", ("race", "grid"): "add `race: true`"}
    way_back = switch.get((before.tuning, plan.tuning), "the config as it was")
    raise OtherSweepError(
        f"{folder} holds the sweep {before.task!r} with {held}, and this config has {wanted}. Nothing was changed. "
        f"Choose another --out, or {way_back}"
    )


def _dropped(before: Plan, now: Plan) -> list[Trial]:
    ids = {trial.id for trial in now.trials}
    return [trial for trial in before.trials if trial.id not in ids]


def _at_one_rate(plan: Plan) -> Plan:
    return replace(plan, learning_rates={model: [1.0] for model in plan.models}, rates_at=None)


def write_plan(folder: Path, plan: Plan) -> Plan:
    """Write the plan into its sweep folder, which `check_folder` has admitted.

    Of two launchers that find an empty folder at the same time, one writes its plan and the other checks against it.

    Returns:
        The plan that stands there now: the given one with what the one in the folder had grown by.

    Raises:
        ValueError: Another sweep has taken the folder meanwhile.
    """
    try:
        _write(folder, plan, replace=False)
        return plan
    except FileExistsError:
        grown = check_folder(folder, plan)
        if load_plan(folder) != grown:
            _write(folder, grown, replace=True)
        return grown


def add_growth(folder: Path, plan: Plan) -> Plan:
    """Have the plan of a sweep folder grow by what a plan of the same sweep has grown by, and return it.

    There is no lock: of two that call this at the same moment, one may take back what the other has added. Call it
    again when the file has changed; `shared_plan` does.

    Raises:
        ValueError: The folder holds no sweep, or its plan cannot be read.
    """
    there = load_plan(folder)
    united = there.with_growth_of(plan)
    if united != there:
        _write(folder, united, replace=True)
    return united


def replace_plan(folder: Path, plan: Plan) -> None:
    """Write a plan in place of that of its sweep folder, where there is one; launchers at work bring their own back."""
    if (Path(folder) / PLAN_FILE).exists():
        _write(folder, plan, replace=True)


def _write(folder: Path, plan: Plan, replace: bool) -> None:
    content = {"schema": SCHEMA, **{name: getattr(plan, name) for name in Plan.__dataclass_fields__}}
    content = {name: value for name, value in content.items() if name not in _OPTIONAL or value is not None}
    with atomic_file(Path(folder) / PLAN_FILE, replace=replace) as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")


def load_plan(folder: Path) -> Plan:
    """Return the plan of a sweep folder.

    Raises:
        ValueError: The folder holds no sweep, or its plan cannot be read.
    """
    path = Path(folder) / PLAN_FILE
    try:
        content = json.loads(read_whole(path))
        names = [name for name in Plan.__dataclass_fields__ if name not in _OPTIONAL or name in content]
        plan = Plan(**{name: content[name] for name in names})
        _check_axes(plan)
        return plan
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a sweep folder: it has no {PLAN_FILE}; see `vitlab sweep --help`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a plan of this version of vitlab ({error!r})") from error


def _check_axes(plan: Plan) -> None:
    """Raise KeyError where an axis lacks what another one names: somebody has edited the plan."""
    sizes = {*map(str, plan.train_sizes)}
    absent: set[Any] = {*plan.models} - {*plan.learning_rates} | sizes - {*plan.budget["amount"]}
    absent |= {*map(str, plan.sizes_added or ())} - sizes | {*(plan.seeds_at or ())} - sizes
    for part in plan.refinements or ():
        absent |= {str(part["train_size"])} - sizes | {"round", "seeds", "words"} - {*part}
    for model, by_size in (plan.rates_at or {}).items():
        absent |= {model} - {*plan.models} | {*by_size} - sizes
        absent |= {
            seed
            for size, rows in by_size.items()
            for _, seeds in rows
            for seed in seeds
            if seed not in plan.seeds_of(int(size))
        }
    if absent or plan.budget["unit"] not in BUDGET_UNITS:
        raise KeyError(*absent or [plan.budget["unit"]])
