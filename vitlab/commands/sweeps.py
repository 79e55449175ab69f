"""`vitlab sweep`: on this machine, as one of n shards, or on a SLURM cluster."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.commands.refining import add_refine_options, check_refine_options, refine

if TYPE_CHECKING:
    from vitlab.sweep.local_launcher import LocalLauncher
    from vitlab.sweep.plan import Plan
    from vitlab.sweep.schedule import Counts
    from vitlab.sweep.session_settings import SessionSettings
    from vitlab.sweep.slurm_launcher import SlurmLauncher

# What --launcher slurm understands, and its values where nothing is said.
_SLURM_OPTIONS = {
    **dict.fromkeys(("partition", "account", "memory", "constraint", "max_parallel")),
    "time": 60,
    "gpus": 0,
    "cpus": 1,
    "directive": [],
    "setup": [],
    "trials_per_job": 1,
    "no_wait": False,
}

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_sweep(commands: Commands) -> None:
    """Add `vitlab sweep`."""
    parser = commands.add_parser(
        "sweep",
        help="train models x data sizes x seeds x learning rates; go on where it was",
        description="Train every model at every data size, seed and learning rate of a YAML file. Runs what is missing "
        "in the folder and skips what is there: after a crash or Ctrl-C, type the same command again. Several commands "
        "may work in one folder at once, on one machine or on many that share it. With `learning_rates: auto` in the "
        "file the rates are searched for, every model with as many trials.",
    )
    parser.add_argument("config", type=Path, help="the sweep's YAML file, such as configs/sweeps/glyphs_both.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records and report")
    parser.add_argument("--launcher", choices=["local", "slurm"], default="local", help="where trials run (local)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="trials at a time; of a job, on slurm (1)")
    parser.add_argument(
        "--trials-per-device",
        type=int,
        metavar="N",
        help="trials at a time on each GPU of this machine, in place of --workers: small models do not fill one",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads per trial (default: cores / workers)")
    parser.add_argument(
        "--plan-only",
        action="store_true",
        help="check models and data, write the plan, train nothing; a budget in seconds is measured on this machine",
    )
    parser.add_argument("--retry-failed", action="store_true", help="run failed trials again")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="NAME=VALUE",
        help="a setting for all models, such as data.dataset.init_args.root=/data/flowers; may be repeated",
    )
    parser.add_argument(
        "--shard",
        type=_parse_shard,
        metavar="I/N",
        help="do only the I-th of N parts, for any scheduler; not of a search for rates",
    )
    add_refine_options(parser)
    _add_fault_options(parser)
    _add_slurm_options(parser)
    parser.set_defaults(function=_sweep)


def _add_fault_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("when something goes wrong")
    group.add_argument(
        "--save-every",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="how often a trial saves the state that it goes on from after a kill (10)",
    )
    group.add_argument(
        "--patience",
        type=float,
        default=45.0,
        metavar="SECONDS",
        help="silence after which a launcher or job of this sweep is taken for dead (45)",
    )
    group.add_argument(
        "--max-attempts",
        type=int,
        default=3,
        metavar="N",
        help="cluster jobs that may vanish over one trial before it counts as failed (3)",
    )


def _add_slurm_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --launcher slurm (pip install vitlab[slurm])")
    group.add_argument("--partition", metavar="NAME", help="where the jobs run")
    group.add_argument("--account", metavar="NAME", help="whom they are charged to")
    group.add_argument("--time", type=int, metavar="MINUTES", help="time limit of a job (60)")
    group.add_argument("--gpus", type=int, metavar="N", help="GPUs per node (0)")
    group.add_argument("--cpus", type=int, metavar="N", help="CPUs per trial of a job (1)")
    group.add_argument("--memory", type=float, metavar="GB", help="memory per node")
    group.add_argument("--constraint", metavar="TEXT", help="features that the nodes must have")
    group.add_argument(
        "--directive",
        action="append",
        metavar="NAME=VALUE",
        help="any other option of sbatch, such as qos=high or exclude=n7; may be repeated",
    )
    group.add_argument(
        "--setup", action="append", metavar="LINE", help="a shell line before the trials; may be repeated"
    )
    group.add_argument("--trials-per-job", type=int, metavar="N", help="trials that a job takes (1)")
    group.add_argument("--max-parallel", type=int, metavar="N", help="jobs at a time (default: as SLURM has it)")
    group.add_argument("--no-wait", action="store_true", help="submit and return")
    parser.set_defaults(**_SLURM_OPTIONS)


def _parse_shard(text: str) -> tuple[int, int]:
    part, slash, number = text.partition("/")
    if not slash or not part.isdigit() or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N, such as 1/4")
    return int(part), int(number)


def _sweep(options: argparse.Namespace) -> int:
    was_there = options.out.exists()
    try:
        return _plan_and_run(options)
    except ValueError:
        if not was_there:
            _remove_empty(options.out)
        raise


def _plan_and_run(options: argparse.Namespace) -> int:
    from vitlab.sweep.budget import describe_budget
    from vitlab.sweep.checked_plan import write_checked_plan
    from vitlab.sweep.local_launcher import SweepStoppedError
    from vitlab.sweep.owners import OwnerLostError
    from vitlab.sweep.rate_search import num_undecided
    from vitlab.sweep.sweep_file import read_sweep

    plan = read_sweep(options.config, options.overrides)
    check_refine_options(plan, options)
    launcher = _launcher(options)
    plan = _admitted(plan, options)
    for line in describe_budget(plan):
        print(line)
    if options.plan_only:
        plan = write_checked_plan(plan, options.out, launcher)
        number = len(plan.trials) + sum(num_undecided(plan).values())
        print(f"{plan.task}: {number} trials planned in {options.out}")
        return 0
    try:
        counts = refine(plan, options, _launch) if options.refine else _launch(plan, options)
    except OwnerLostError as loss:
        raise ValueError(str(loss)) from loss
    except SweepStoppedError as stop:
        print(f"vitlab: {stop}", file=sys.stderr)
        return 128 + stop.number
    print(f"{plan.task}: {counts.done} done, {counts.failed} failed, {counts.missing} missing of {counts.total}")
    if counts.untested:
        print(f"{counts.untested} selected trials are not tested")
    if counts.failed or (counts.untested and not counts.missing):
        print(f"the errors are in the report and in {options.out}/trials; --retry-failed tries again")
    print(f"next: vitlab {'status' if counts.missing else 'report'} {options.out}")
    return 1 if counts.failed_now else 0


def _admitted(plan: "Plan", options: argparse.Namespace) -> "Plan":
    """Return the plan with its budget in steps, for a folder that is free for it or has been made so."""
    from vitlab.sweep.budget import resolve_budget
    from vitlab.sweep.plan_file import OtherSweepError, check_folder
    from vitlab.sweep.untrained_plan import make_way

    may_time = options.launcher == "local" and options.shard is None
    try:
        resolved = resolve_budget(plan, options.out, _settings(options), may_time)
        check_folder(options.out, resolved)
    except OtherSweepError as refusal:
        make_way(options.out, options.patience, refusal)
        print(f"of the plan that was in {options.out} nothing has been trained; this one takes its place")
        return resolve_budget(plan, options.out, _settings(options), may_time)
    return resolved


def _remove_empty(folder: Path) -> None:
    """Take away the folders that a failed start has made; `rmdir` leaves alone whatever holds something."""
    with contextlib.suppress(OSError):
        for path in (*folder.iterdir(), folder):
            with contextlib.suppress(OSError):
                path.rmdir()


def _settings(options: argparse.Namespace) -> "SessionSettings":
    from vitlab.sweep.session_settings import SessionSettings

    return SessionSettings(
        num_workers=_num_workers(options),
        num_threads=options.threads,
        retry_failed=options.retry_failed,
        max_attempts=options.max_attempts,
        save_every_seconds=60 * options.save_every,
        patience_seconds=options.patience,
    )


def _num_workers(options: argparse.Namespace) -> int:
    """Return how many trials run at a time: so many, or so many on each GPU."""
    if options.trials_per_device is None:
        return options.workers
    from vitlab.sweep.worker_process import visible_devices

    number = options.trials_per_device
    if options.workers != 1 or options.launcher != "local":
        raise ValueError(
            "--trials-per-device is in place of --workers, on this machine; leave --workers and --launcher slurm out, "
            "or give --workers alone (of a cluster job, too)"
        )
    if number < 1:
        raise ValueError(f"--trials-per-device is {number}; give 1 or more")
    devices = visible_devices()
    if not devices:
        raise ValueError("--trials-per-device: there is no GPU here (CUDA_VISIBLE_DEVICES, nvidia-smi); give --workers")
    return number * len(devices)


def _launch(plan: "Plan", options: argparse.Namespace) -> "Counts":
    return _launcher(options).run(plan, options.out)


def _launcher(options: argparse.Namespace) -> "LocalLauncher | SlurmLauncher":
    from vitlab.sweep.local_launcher import LocalLauncher

    settings = _settings(options)
    if options.launcher == "local":
        for name, value in _SLURM_OPTIONS.items():
            if getattr(options, name) != value:
                raise ValueError(f"--{name.replace('_', '-')} goes with --launcher slurm; leave it out, or add that")
        return LocalLauncher(settings, options.shard)
    if options.shard is not None:
        raise ValueError(
            "--shard is for schedulers other than SLURM; with --launcher slurm the jobs share the work out"
        )
    from vitlab.sweep.slurm_launcher import SlurmLauncher
    from vitlab.sweep.slurm_submission import JobResources

    resources = JobResources(
        time_minutes=options.time,
        partition=options.partition,
        account=options.account,
        gpus=options.gpus,
        cpus=options.cpus,
        memory_gb=options.memory,
        constraint=options.constraint,
        directives=tuple(options.directive),
        setup=tuple(options.setup),
    )
    return SlurmLauncher(resources, settings, options.trials_per_job, options.max_parallel, not options.no_wait)
