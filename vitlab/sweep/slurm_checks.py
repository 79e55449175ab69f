"""What is found out before cluster jobs are asked for: a mistake should not show after they have waited for hours."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitlab.sweep.in_process import InlineExecutor
from vitlab.sweep.nested_settings import merge
from vitlab.sweep.owners import Owner
from vitlab.sweep.plan import Plan, Trial
from vitlab.sweep.rate_search import unstarted_trials
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.slurm_submission import JobResources
from vitlab.sweep.srun import shape_of
from vitlab.sweep.task_runner import TaskRunner
from vitlab.sweep.worker_process import WorkerProcess

_ON_ONE_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}


def check_submitit() -> None:
    """Raise ValueError, with what to do, where the extra of this launcher is not installed."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ValueError("--launcher slurm needs submitit: pip install 'vitlab[slurm]'") from error


def check_devices(plan: Plan, resources: JobResources) -> None:
    """Refuse trials that would not find the devices that they train on.

    Raises:
        ValueError: The number of devices is left open, or differs from the GPUs that are asked for.
    """
    for trial in {trial.model: trial for trial in (*plan.trials, *unstarted_trials(plan))}.values():
        _, devices = shape_of(trial)
        accelerator = str(trial.settings.get("trainer", {}).get("accelerator", "auto"))
        if accelerator in ("gpu", "cuda") and not resources.gpus:
            raise ValueError(f"model {trial.model} trains on GPUs (trainer.accelerator); give --gpus {devices} or more")
        if accelerator != "cpu" and 0 < resources.gpus < devices:
            raise ValueError(
                f"model {trial.model} trains on {devices} devices of a node (trainer.devices), --gpus is "
                f"{resources.gpus}; give --gpus {devices} or more"
            )


def check_models(owner: Owner, trials: Sequence[Trial], settings: SessionSettings) -> None:
    """Build each model on its smallest and its largest data size, on one CPU of this machine.

    Args:
        owner: For whom.
        trials: What the jobs will train, by growing size.
        settings: How a job works.

    Raises:
        ValueError: A model cannot be built or trained; the message says which and why.
    """
    log = Path(owner.folder) / "logs" / f"{owner.id}-check.log"
    worker = WorkerProcess(0, settings.threads, log, owner.lock)
    try:
        runner = TaskRunner(owner.folder, settings.threads, settings.save_every_seconds, owner.id)
        runner.check_models([on_one_cpu(trial) for trial in trials], [worker], InlineExecutor())
    finally:
        worker.close()
        worker.release()


def on_one_cpu(trial: Trial) -> Trial:
    """Return a trial as a login node can build it."""
    return replace(trial, settings=merge(trial.settings, {"trainer": _ON_ONE_CPU}))
