"""Several sweep folders made into one, such as the halves that two machines have run.

Their plans must ask the same question: they may differ in models, data sizes, seeds and learning rates, nothing else.
The new folder is built under another name and renamed, so that it is there whole or not at all; the old ones stay.
"""

import itertools
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab.atomic_file import TEMPORARY_PREFIX, atomic_file
from vitlab.sweep.kept_predictions import predictions_path
from vitlab.sweep.nested_settings import merge
from vitlab.sweep.plan import Plan, Trial
from vitlab.sweep.plan_file import load_plan, write_plan
from vitlab.sweep.rate_search import grown, num_undecided
from vitlab.sweep.store import (
    Record,
    checkpoint_path,
    file_names,
    read_record,
    record_ids,
    record_path,
    write_record,
)

_RESULTS = ("val", "test", "steps", "epochs", "examples_seen", "params")  # seconds, device and versions may differ
_NUM_SHOWN = 3  # differences between two plans
_Found = tuple[Path, Record]  # a record and the folder that it comes from


@dataclass(frozen=True)
class MergeCounts:
    """What became of the trials.

    Args:
        done: Trials of the new folder that are done.
        failed: Those that failed wherever they ran.
        missing: Those of the united plan that nobody has run.
        twice: Those that were done in several folders, with the same results.
        left_out: Records of no trial in the united plan; they stay where they are.
    """

    done: int
    failed: int
    missing: int
    twice: int
    left_out: int


def merge_sweeps(folders: Sequence[Path], out: Path) -> MergeCounts:
    """Copy the records, weights, predictions and subsets of sweep folders into a new one.

    Args:
        folders: Two or more sweep folders; nothing in them is changed.
        out: The new folder; it must not exist yet, or be empty.

    Raises:
        ValueError: The plans cannot be united, a trial has two results, a record cannot be believed, or `out` is taken;
            the message says which and what to do. Nothing has been written then.
        OSError: `out` cannot be written; nothing is left of it.
    """
    folders, out = list(dict.fromkeys(map(Path, folders))), Path(out)
    if len(folders) < 2:
        raise ValueError(f"merging takes two or more sweep folders; given: {', '.join(map(str, folders)) or 'none'}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; choose a new folder for --out")
    plans = {folder: load_plan(folder) for folder in folders}
    plan = _united(plans)
    building = out.absolute().parent / f"{TEMPORARY_PREFIX}{out.name}-{secrets.token_hex(4)}"
    try:
        write_plan(building, plan)
        counts = _copy_trials(plan, folders, building)
        _copy_subsets(folders, building)
        os.replace(building, out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return counts


def _united(plans: Mapping[Path, Plan]) -> Plan:
    """Return the plan of all trials, or refuse what are not parts of one sweep."""
    first, *others = plans
    united = plans[first]
    for folder in others:
        _check_same_question(first, united, folder, plans[folder])
        united = _unite(united, plans[folder])
    grids = {model: len(united.listed_rates(model)) for model in united.models}
    if len(set(grids.values())) > 1:
        raise ValueError(
            "merged, the models would have unequal numbers of learning rates "
            f"({', '.join(f'{model}: {count}' for model, count in grids.items())}), and one that is tuned more often "
            "looks better than it is; run the sweeps with the same number of learning rates for each model first"
        )
    for size, model in itertools.product(united.train_sizes, united.models):
        united.budget_of(model, size)  # refuses an arm whose steps nobody has measured
    if united.dial is not None and set(united.dial["arms"]) != set(united.models):
        absent = ", ".join(sorted(set(united.models) - set(united.dial["arms"])))
        raise ValueError(f"merged, the sweep would have a dial on which {absent} has no place; give it one first")
    return united


def _check_same_question(first: Path, plan: Plan, folder: Path, other: Plan) -> None:
    one, two = dict(_leaves(_question(plan, other))), dict(_leaves(_question(other, plan)))
    names = [name for name in {**one, **two} if name not in one or name not in two or one[name] != two[name]]
    if names:
        given = [f"{name} is {one.get(name, 'not set')} and {two.get(name, 'not set')}" for name in names[:_NUM_SHOWN]]
        more = f" (and {len(names) - _NUM_SHOWN} more)" if len(names) > _NUM_SHOWN else ""
        raise ValueError(
            f"{first} and {folder} are no parts of one sweep: {'; '.join(given)}{more}. Sweeps can be merged that "
            "differ in nothing but models, train sizes, seeds and learning rates; nothing was written"
        )


def _question(plan: Plan, other: Plan) -> dict[str, Any]:
    """What two plans must share: all but the axes, and what they say of points on the axes that both have."""
    question = {
        "task": plan.task,
        "budget": _budget_of_both(plan, other),
        "settings": plan.settings,
        "learning_rates": {"auto": "auto", "grid": "a list", "race": "a race"}[plan.tuning],
        "race": {model: rates for model, rates in (plan.race or {}).items() if model in other.models},
        "models": {model: plan.model_settings[model] for model in plan.models if model in other.models},
    }
    if plan.dial is not None and other.dial is not None:
        arms = plan.dial["arms"]
        question["dial"] = {**plan.dial, "arms": {model: arms[model] for model in arms if model in other.dial["arms"]}}
    return question


def _budget_of_both(plan: Plan, other: Plan) -> dict[str, Any]:
    """Return a plan's budget for the sizes and models that both have, and on which machine it was measured."""

    def of_both(amounts: Mapping[str, Any]) -> dict[str, Any]:
        return {size: amounts[size] for size in amounts if size in other.budget["amount"]}

    budget = {"unit": plan.budget["unit"], "amount": of_both(plan.budget["amount"])}
    if "steps" in plan.budget:
        steps = plan.budget["steps"]
        budget["steps"] = {model: of_both(steps[model]) for model in steps if model in other.models}
        budget["machine"] = plan.budget["measured"].get("machine")
    return budget


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _unite(one: Plan, other: Plan) -> Plan:
    first, second = one.without_growth(), other.without_growth()
    models = {**first.model_settings, **second.model_settings}
    rates = {model: {*first.learning_rates.get(model, ()), *second.learning_rates.get(model, ())} for model in models}
    dials = [plan.dial for plan in (first, second) if plan.dial is not None]
    arms = {model: place for dial in dials for model, place in dial["arms"].items()}
    united = Plan(
        task=first.task,
        title=first.title,
        model_settings=models,
        train_sizes=sorted({*first.train_sizes, *second.train_sizes}),
        seeds=list(dict.fromkeys([*first.seeds, *second.seeds])),
        learning_rates={model: sorted(rates[model]) for model in models},
        budget=merge(first.budget, second.budget),
        settings=first.settings,
        dial={**dials[0], "arms": arms} if dials else None,
        race={**first.race, **second.race} if first.race and second.race else None,
    )
    return united.with_growth_of(one).with_growth_of(other)


def _copy_trials(plan: Plan, folders: Sequence[Path], building: Path) -> MergeCounts:
    recorded = {folder: record_ids(folder) for folder in folders}
    statuses: Counter[str] = Counter()
    records: dict[str, Record] = {}
    twice = 0
    for trial in plan.trials:
        found = [(folder, read_record(folder, trial.id)) for folder in folders if trial.id in recorded[folder]]
        found = _best_first(trial, [(folder, record) for folder, record in found if record is not None])
        if found:
            write_record(building, found[0][1])
            records[trial.id] = found[0][1]
            statuses[found[0][1]["status"]] += 1
            twice += len(found) > 1 and found[1][1]["status"] == "done"
            _copy_first([checkpoint_path(folder, trial.id) for folder, _ in found], building)
            # Of a trial that was tested twice, both predictions are of the one result: others were refused above.
            _copy_first([predictions_path(folder, trial.id) for folder, record in found if record["test"]], building)
    planned = {trial.id for trial in plan.trials}
    left_out = sum(len(ids - planned) for ids in recorded.values())
    asked = grown(plan, records)  # what was found together may ask for more than each folder did
    missing = len(asked.trials) - statuses.total() + sum(num_undecided(asked).values())
    return MergeCounts(statuses["done"], statuses["failed"], missing, twice, left_out)


def _best_first(trial: Trial, found: list[_Found]) -> list[_Found]:
    """Order the records of one trial: done before failed, tested before untested, the earlier folder first.

    Raises:
        ValueError: It has been done twice, with different results.
    """
    done = [one for one in found if one[1]["status"] == "done"]
    for folder, record in done[1:]:
        for name in _RESULTS:
            known = next((one for one in done if one[1].get(name) is not None), (folder, record))
            if record.get(name) is not None and record[name] != known[1][name]:
                raise ValueError(
                    f"trial {trial.id} (model {trial.model}, {trial.train_size} images, seed {trial.seed}, learning "
                    f"rate {trial.learning_rate:g}) has two results: {name} is {known[1][name]} in "
                    f"{record_path(known[0], trial.id)} and {record[name]} in {record_path(folder, trial.id)} (other "
                    "machines or versions?). Nothing was written. Delete the one that you do not want"
                )
    return sorted(found, key=lambda one: (one[1]["status"] != "done", one[1].get("test") is None))


def _copy_first(sources: Sequence[Path], building: Path) -> None:
    """Copy the first of these files that is there to its place in the new folder."""
    for source in sources:
        if _copy(source, building / source.parent.name / source.name):
            return


def _copy_subsets(folders: Sequence[Path], building: Path) -> None:
    origins: dict[str, Path] = {}
    for folder in folders:
        for name in file_names(folder, "subsets"):
            if name.startswith(TEMPORARY_PREFIX):
                continue
            source = folder / "subsets" / name
            known = origins.setdefault(name, source)
            if known.read_bytes() != source.read_bytes():
                raise ValueError(
                    f"{known} and {source} differ: the trials did not see the same images; nothing was written"
                )
            if known == source:
                _copy(source, building / "subsets" / name)


def _copy(source: Path, target: Path) -> bool:
    """Copy a file, not link it: the old folder may be edited, or its disk fail, and do the new one no harm."""
    try:
        original = source.open("rb")
    except FileNotFoundError:
        return False
    with original, atomic_file(target, "wb") as copy:
        shutil.copyfileobj(original, copy)
    return True
