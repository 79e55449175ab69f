"""Whether a sweep folder holds what its plan says and nothing that would mislead: each file is looked at, none changed.

A record is believed when its text is what was written (checksum), it belongs to a trial of the plan, and its numbers
can be. No torch here: weights are only counted, not loaded.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitlab.atomic_file import TEMPORARY_PREFIX
from vitlab.sweep.claims import REFINING, SUBMITTING
from vitlab.sweep.kept_predictions import FOLDER, read_predictions
from vitlab.sweep.plan import Plan, Trial
from vitlab.sweep.plan_file import load_plan
from vitlab.sweep.rate_search import grown
from vitlab.sweep.record import complaints, settings_in
from vitlab.sweep.selection import Arm, chosen_learning_rates, is_selected
from vitlab.sweep.store import PARTS, Record, file_names, outline, read_record, record_ids, record_path

_CLAIM = re.compile(r"\.claim-([0-9a-f]+)\.\d+")
_SUBSET = re.compile(r"n(\d+)-seed(\d+)-[0-9a-f]+\.json")
_LEVELS = ("error", "warning", "note")
_REMEDY = "delete it and run the sweep again"
_UNTESTED = "it is selected, but not tested yet; the same `vitlab sweep` goes on with that"


@dataclass(frozen=True)
class Finding:
    """Something about one file.

    Args:
        level: error (not to be believed), warning (not as it should be, but no result is wrong) or note (harmless).
        file: Its path in the sweep folder.
        words: What it is, and what to do.
    """

    level: Literal["error", "warning", "note"]
    file: str
    words: str

    def __str__(self) -> str:
        return f"{self.level}: {self.file}: {self.words}"


def verify(folder: Path) -> list[Finding]:
    """Check a sweep folder; a launcher may be at work in it.

    Args:
        folder: The sweep folder.

    Returns:
        What was found, errors first; nothing where all is in order.

    Raises:
        ValueError: It is not a sweep folder, or its plan cannot be read.
    """
    folder = Path(folder)
    plan = load_plan(folder)
    trials = {trial.id: trial for trial in plan.trials}
    findings, records, orphans, num_unchecked = [], {}, [], 0
    recorded = record_ids(folder)
    for trial_id in sorted(recorded):
        record, found = _read(folder, trial_id, trials.get(trial_id))
        findings += found
        if record is not None:
            num_unchecked += record.get("schema", 1) == 1
            if trial_id in trials:
                records[trial_id] = outline(record)
            else:
                orphans.append(record)
    if num_unchecked:
        words = (
            f"{num_unchecked} records have no checksum: an older version wrote them, and a change would go unnoticed"
        )
        findings.append(Finding("note", "trials", words))
    findings += _about_orphans(orphans, plan)
    decided, selected = _choices(plan, records)
    findings += _about_choices(folder, {trial_id: records[trial_id] for trial_id in decided}, selected)
    untested = {trial_id for trial_id in selected if records[trial_id]["test"] is None}
    findings += _about_other_files(folder, set(trials), recorded, recorded - untested)
    findings += _about_predictions(folder, set(trials), records)
    findings += _about_subsets(folder)
    return sorted(findings, key=lambda finding: (_LEVELS.index(finding.level), finding.file))


def _read(folder: Path, trial_id: str, trial: Trial | None) -> tuple[Record | None, list[Finding]]:
    """Return a record if it can be believed, and what is to be said of it."""
    try:
        record = read_record(folder, trial_id)
    except ValueError as error:
        return None, [Finding("error", _name(trial_id), str(error).removeprefix(f"{record_path(folder, trial_id)} "))]
    wrong = complaints(record, trial) if record is not None and trial is not None else []
    findings = [Finding("error", _name(trial_id), f"{words}; {_REMEDY}") for words in wrong]
    return (None if wrong else record), findings


def _name(trial_id: str) -> str:
    return f"trials/{trial_id}.json"


def _about_orphans(orphans: Iterable[Record], plan: Plan) -> Iterator[Finding]:
    """Records of no trial in the plan; the report leaves them out."""
    known: dict[tuple[Any, ...], list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for record in orphans:
        if not known:
            for trial in plan.trials:
                known[trial.train_size, trial.seed, trial.learning_rate].append(
                    (trial.id, settings_in(trial.arguments))
                )
        place = tuple(record.get(name) for name in ("train_size", "seed", "learning_rate"))
        settings = settings_in(record.get("arguments") or [])
        twins = [trial_id for trial_id, others in known[place] if others == settings]
        known[place].append((record["id"], settings))
        if twins:
            words = f"has the same settings as {_name(twins[0])}, under another name; the report reads that one"
            yield Finding("error", _name(record["id"]), f"{words}; move this one away")
        else:
            words = "is of no trial in the plan, and the report leaves it out; it belongs to another sweep or plan"
            yield Finding("warning", _name(record["id"]), words)


def _choices(plan: Plan, records: Mapping[str, Record]) -> tuple[set[str], set[str]]:
    """Return the trials of the arms that are trained, and those of them whose learning rate is chosen."""
    arms: dict[Arm, list[str]] = defaultdict(list)
    plan = grown(plan, records)  # an arm whose search goes on has no choice yet
    for trial in plan.trials:
        arms[trial.model, trial.train_size].append(trial.id)
    trained = [ids for ids in arms.values() if all(trial_id in records for trial_id in ids)]
    decided = {trial_id for ids in trained for trial_id in ids}
    chosen = chosen_learning_rates((records[trial_id] for trial_id in decided), plan)
    return decided, {trial_id for trial_id in decided if is_selected(records[trial_id], chosen)}


def _about_choices(folder: Path, decided: Mapping[str, Record], selected: set[str]) -> Iterator[Finding]:
    """Selected trials without a test or weights, and tested ones that are not selected."""
    weights = set(file_names(folder, "checkpoints"))
    for trial_id, record in decided.items():
        tested = record["test"] is not None
        if trial_id in selected and not tested:
            error = record["test_error"]
            words = f"its test failed: {error}; --retry-failed tries again" if error else _UNTESTED
            yield Finding("warning", _name(trial_id), words)
        if trial_id in selected and f"{trial_id}.ckpt" not in weights:
            then = "it cannot be inspected" if tested else "its test will train it again"
            yield Finding("warning", _name(trial_id), f"it is selected, but its weights are gone; {then}")
        if trial_id not in selected and tested:
            words = "it was tested, but another learning rate is the best on validation data now that all are trained"
            yield Finding("warning", _name(trial_id), f"{words}; the report leaves its test out")


def _about_other_files(folder: Path, planned: set[str], recorded: set[str], finished: set[str]) -> Iterator[Finding]:
    """What stands beside the records and is of no use (any more)."""
    claimed = set()
    for name in file_names(folder, "trials"):
        if claim := _CLAIM.fullmatch(name):
            claimed.add(claim[1])
            if claim[1] in finished or claim[1] not in planned | {SUBMITTING, REFINING}:
                yield Finding("note", f"trials/{name}", "is a claim on a trial that nobody works on any more")
        elif not name.endswith(".json") and not name.startswith(TEMPORARY_PREFIX):
            yield Finding("warning", f"trials/{name}", "is no file of a sweep")
    for part, what in (("checkpoints", "weights"), ("resume", "the state of a training")):
        for name in file_names(folder, part):
            trial_id = name.removesuffix(".ckpt")
            if name.startswith(TEMPORARY_PREFIX):
                continue
            if trial_id not in planned:
                yield Finding("warning", f"{part}/{name}", f"holds {what} of no trial in the plan")
            elif part == "checkpoints" and trial_id not in recorded | claimed:
                yield Finding("warning", f"{part}/{name}", "holds weights without a record; the trial will run again")
            elif part == "resume" and trial_id in recorded:
                yield Finding("warning", f"{part}/{name}", f"holds {what} that has ended; it may be deleted")
    for part in ("", *PARTS):
        for name in file_names(folder, part):
            if name.startswith(TEMPORARY_PREFIX):
                words = "is half-written, by a writer that was killed or one at work; the next sweep removes the former"
                yield Finding("note", f"{part}/{name}".removeprefix("/"), words)


def _about_predictions(folder: Path, planned: set[str], records: Mapping[str, Record]) -> Iterator[Finding]:
    """Predictions that cannot be read, or are not those of the test in the trial's record."""
    for name in sorted(file_names(folder, FOLDER)):
        file, trial_id = f"{FOLDER}/{name}", name.removesuffix(".npz")
        if name.startswith(TEMPORARY_PREFIX):
            continue
        if not name.endswith(".npz") or trial_id not in planned:
            yield Finding("warning", file, "holds predictions of no trial in the plan")
            continue
        try:
            kept = read_predictions(folder, trial_id)
        except ValueError as error:
            words = f"{str(error).partition(' ')[2]}; the report says then that they are missing"
            yield Finding("warning", file, words)
            continue
        record = records.get(trial_id)
        if kept is not None and record is not None and record["test"] is not None and not kept.fits(record):
            words = f"{int(kept.right.sum())} of {len(kept.right)} predictions are right, and its record has another "
            yield Finding("error", file, f"{words}accuracy ({record['test'].get('accuracy')}); delete it")


def _about_subsets(folder: Path) -> Iterator[Finding]:
    """Lists of images that cannot be, or that differ between arms at the same size and seed."""
    drawn: dict[tuple[str, str], tuple[str, Any]] = {}
    for name in sorted(file_names(folder, "subsets")):
        file, place = f"subsets/{name}", _SUBSET.fullmatch(name)
        if name.startswith(TEMPORARY_PREFIX):
            continue
        if place is None:
            yield Finding("warning", file, "is no file of a sweep")
            continue
        try:
            content = json.loads((Path(folder) / file).read_text(encoding="utf-8"))
            subset = (content["fingerprint"], content["indices"])
            if len(set(subset[1])) != len(subset[1]) or str(len(subset[1])) != place[1]:
                raise ValueError(f"it lists {len(set(subset[1]))} different images, not {place[1]}")
        except (ValueError, KeyError, TypeError) as error:
            yield Finding("error", file, f"is not the subset that was drawn ({error}); delete it")
            continue
        first, known = drawn.setdefault((place[1], place[2]), (file, subset))
        if known != subset:
            words = f"lists other images than {first}: at this size and seed the models did not see the same data"
            yield Finding("warning", file, words)
