"""`vitlab sweep --refine`: when the planned trials are done, add what narrows the crossover's interval, and run it.

Rounds of: ask analysis/refinement.py what to add, write the grown plan, run it. The plan in the folder is all the state
there is, so that a kill at any moment loses nothing. Of several launchers one at a time has the right to grow the plan;
the others find it grown and help.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitlab.analysis.refinement import Limits, Refinement
    from vitlab.sweep.owners import Owner
    from vitlab.sweep.plan import Plan
    from vitlab.sweep.schedule import Counts
    from vitlab.sweep.store import Record

MINUTES = 10.0
_SECONDS_BETWEEN_LOOKS = 0.5

Run = Callable[["Plan", argparse.Namespace], "Counts"]


def add_refine_options(parser: argparse.ArgumentParser) -> None:
    """Add `--refine` and its limits."""
    group = parser.add_argument_group("after the planned trials")
    group.add_argument(
        "--refine",
        action="store_true",
        help="add seeds and sizes, the same for all models, where the crossover's interval shrinks most per second; "
        "validation data alone decide where",
    )
    group.add_argument(
        "--refine-minutes",
        type=float,
        metavar="M",
        help=f"training time that all refinement of this folder may take ({MINUTES:g})",
    )
    group.add_argument(
        "--refine-trials", type=int, metavar="N", help="trials that it may add in all (default: as many as fit)"
    )


def check_refine_options(plan: "Plan", options: argparse.Namespace) -> None:
    """Refuse what refinement cannot work with, before anything is run.

    Raises:
        ValueError: The message says what to leave out.
    """
    if not options.refine:
        for name in ("refine_minutes", "refine_trials"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} is a limit of --refine; add that, or leave it out")
        return
    from vitlab.analysis.refinement import check_refinable

    check_refinable(plan)
    _limits(options)
    if options.shard is not None:
        raise ValueError(
            "--refine decides by the results of all trials, and --shard runs a part of them; run the shards first, "
            "then the same command with --refine and without --shard"
        )
    if options.no_wait:
        raise ValueError("--refine waits for the results of the trials, and --no-wait does not; leave one of them out")


def refine(plan: "Plan", options: argparse.Namespace, run: Run) -> "Counts":
    """Run a sweep, and then what refinement adds to it, round by round, until a limit or the end of its use is reached.

    Args:
        plan: The sweep, as its file has it.
        options: Of the command line.
        run: Runs what is missing of a plan.
    """
    limits, folder = _limits(options), Path(options.out)
    counts = run(plan, options)
    failed_now = counts.failed_now
    options = argparse.Namespace(**{**vars(options), "retry_failed": False})  # once is enough
    while not counts.missing:
        grown = _grow(folder, options.patience, limits)
        if grown is None:
            break
        ended = counts.done + counts.failed
        counts = run(grown, options)
        failed_now += counts.failed_now
        if counts.done + counts.failed <= ended:
            raise ValueError(f"the trials that refinement has added to {folder} did not run; see `vitlab status`")
    return replace(counts, failed_now=failed_now)


def _limits(options: argparse.Namespace) -> "Limits":
    from vitlab.analysis.refinement import Limits

    minutes = MINUTES if options.refine_minutes is None else options.refine_minutes
    return Limits(60 * minutes, options.refine_trials)


def _grow(folder: Path, patience_seconds: float, limits: "Limits") -> "Plan | None":
    """Return the plan to go on with, grown here or by another launcher; None where there is nothing to add."""
    from vitlab.sweep.claims import REFINING, Claims
    from vitlab.sweep.local_launcher import SweepStoppedError
    from vitlab.sweep.owners import Owner, Watch
    from vitlab.sweep.plan_file import load_plan, write_plan
    from vitlab.sweep.rate_search import num_undecided
    from vitlab.sweep.store import read_records, record_ids

    before = load_plan(folder)
    with Owner(folder, "local", patience_seconds) as owner:
        claims = Claims(owner, Watch(folder))
        while claims.claim(REFINING) is None and not owner.stop_asked:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        try:
            now = load_plan(folder)
            if now != before or num_undecided(now) or not {trial.id for trial in now.trials} <= record_ids(folder):
                return now  # another launcher has grown it; it is to be done before anyone decides
            refinement = _suggest(owner, before, read_records(folder), limits)
            print(f"refine: {refinement.words}", flush=True)
            if not refinement.additions:
                return None
            if owner.stop_asked:  # by `vitlab cancel`
                raise SweepStoppedError(0)
            owner.check()
            return write_plan(folder, refinement.plan)
        finally:
            claims.finish(REFINING)


def _suggest(owner: "Owner", plan: "Plan", records: "list[Record]", limits: "Limits") -> "Refinement":
    """Return what to add; a size beyond the measured ones only where the data and the models allow it."""
    from vitlab.analysis.refinement import suggest
    from vitlab.sweep.session_settings import SessionSettings
    from vitlab.sweep.slurm_checks import check_models

    refinement = suggest(plan, records, limits)
    sizes = refinement.plan.train_sizes
    beyond = {sizes[0], sizes[-1]} - {*plan.train_sizes}
    if not beyond:
        return refinement
    try:
        check_models(owner, [t for t in refinement.plan.trials if t.train_size in beyond], SessionSettings())
        return refinement
    except ValueError as error:
        print(f"refine: no size beyond the measured ones: {error}", flush=True)
        return suggest(plan, records, limits, beyond_range=False)
