"""Writing a sweep's plan and nothing else, after the checks that a run makes before it trains.

A mistake in a setting or a size that the data do not have should show when the sweep is planned, and not when its jobs
have waited for hours.
"""

from pathlib import Path

from vitlab.sweep import store
from vitlab.sweep.in_process import InlineExecutor, InProcessWorker
from vitlab.sweep.local_launcher import LocalLauncher, check_nodes
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import check_folder, write_plan
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.slurm_checks import check_devices, on_one_cpu
from vitlab.sweep.slurm_launcher import SlurmLauncher
from vitlab.sweep.task_runner import TaskRunner


def write_checked_plan(plan: Plan, folder: Path, launcher: LocalLauncher | SlurmLauncher) -> Plan:
    """Check what can be checked before training, in this process and without a cluster, and write the plan.

    Args:
        plan: The sweep.
        folder: Where its records are and will be.
        launcher: What would run it; models are built for this machine's devices, or, for a cluster, on one CPU.

    Returns:
        The plan that stands in the folder now, with what was there before.

    Raises:
        ValueError: The folder is another sweep's, or a model cannot be built or trained; nothing was written then.
    """
    plan = check_folder(folder, plan)
    trials = Schedule(plan, store.read_outlines(folder)).open_fits
    if isinstance(launcher, SlurmLauncher):
        check_devices(plan, launcher.resources)
        trials = [on_one_cpu(trial) for trial in trials]
    else:
        check_nodes(plan)
    settings, worker = launcher.settings, InProcessWorker()
    try:
        runner = TaskRunner(folder, settings.threads, settings.save_every_seconds, owner="")
        runner.check_models(trials, [worker], InlineExecutor())
    finally:
        worker.close()
    return write_plan(folder, plan)
