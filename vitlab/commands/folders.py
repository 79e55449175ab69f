"""What one does with sweep folders: `vitlab status`, `cancel`, `merge` and `verify`."""

import argparse
from pathlib import Path

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_status(commands: Commands) -> None:
    """Add `vitlab status`."""
    parser = commands.add_parser(
        "status", help="how far a sweep is: done, failed, running, missing, and who works on it"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder")
    parser.set_defaults(function=_status)


def _status(options: argparse.Namespace) -> int:
    from vitlab.sweep.slurm_queue import describe_jobs
    from vitlab.sweep.status import describe_status

    print(describe_status(options.folder))
    for line in describe_jobs(options.folder):
        print(line)
    return 0


def add_cancel(commands: Commands) -> None:
    """Add `vitlab cancel`."""
    parser = commands.add_parser(
        "cancel",
        help="stop a sweep: its launchers, shards and cluster jobs",
        description="Ask every launcher and shard at work in the folder to save its running trials and end, and cancel "
        "the sweep's cluster jobs. `vitlab sweep` with the same config goes on where they were.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder")
    parser.set_defaults(function=_cancel)


def _cancel(options: argparse.Namespace) -> int:
    from vitlab.sweep.owners import Watch, ask_to_stop
    from vitlab.sweep.plan_file import load_plan
    from vitlab.sweep.slurm_cancel import cancel_jobs

    load_plan(options.folder)
    living = [owner for owner in Watch(options.folder).living() if owner.kind != "slurm"]
    for owner in living:
        ask_to_stop(options.folder, owner.id)
        print(f"asked to stop: {owner.kind} {owner.host}, process {owner.pid}")
    cancelled, left = cancel_jobs(options.folder)
    print(f"{len(living)} launchers and shards asked to stop, {len(cancelled)} cluster jobs cancelled")
    if left:
        states = ", ".join(f"{job}: {state}" for job, state in left.items())
        print(f"SLURM has not ended {len(left)} of them yet ({states}); they will not work when it starts them again")
    return 0


def add_merge(commands: Commands) -> None:
    """Add `vitlab merge`."""
    parser = commands.add_parser(
        "merge",
        help="make one sweep folder of several",
        description="Copy the records, weights, predictions and subsets of several folders of one sweep (shards "
        "without a shared disk, more seeds from another cluster) into a new one. Folders that do not belong together "
        "are refused.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="two or more sweep folders")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    parser.set_defaults(function=_merge)


def _merge(options: argparse.Namespace) -> int:
    from vitlab.sweep.merge import merge_sweeps

    counts = merge_sweeps(options.folders, options.out)
    print(f"{options.out}: {counts.done} done, {counts.failed} failed, {counts.missing} missing")
    if counts.twice or counts.left_out:
        print(f"{counts.twice} trials were there twice, with equal results; {counts.left_out} records were left out")
    return 0


def add_verify(commands: Commands) -> None:
    """Add `vitlab verify`."""
    parser = commands.add_parser(
        "verify",
        help="look for records that are broken, changed, doubled or astray",
        description="Check every file of a sweep folder: checksums, ids, settings, subsets, weights, predictions, "
        "leftovers. It changes nothing. Exit code 1 where something is wrong.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder")
    parser.set_defaults(function=_verify)


def _verify(options: argparse.Namespace) -> int:
    from vitlab.sweep.verify import verify

    findings = verify(options.folder)
    for finding in findings:
        print(f"{finding.level}: {finding.file}: {finding.words}")
    levels = [finding.level for finding in findings]
    counts = ", ".join(f"{levels.count(level)} {level}s" for level in ("error", "warning", "note"))
    print(f"{options.folder}: {counts}")
    return 1 if "error" in levels else 0
