"""One trial over several nodes: `srun` starts its processes, and Lightning learns its ranks from plain variables.

Inside a cluster job Lightning would find SLURM's variables, start one process where two devices were asked for and
train on half the data, requeue jobs by itself and resume from whatever `hpc_ckpt` lies about. So a worker hides them:
every trial is told its own ranks and nothing else, on SLURM as anywhere.
"""

import os
from collections.abc import Mapping

from vitlab.sweep.plan import Trial

_HIDDEN: dict[str, str] = {}  # SLURM's variables, for srun
_FIRST_PORT, _NUM_PORTS = 20_000, 20_000


def shape_of(trial: Trial) -> tuple[int, int]:
    """Return the nodes, and the devices on each of them, that a trial trains on.

    Raises:
        ValueError: The settings leave the number of devices to the machine.
    """
    trainer = trial.settings.get("trainer", {})
    nodes, devices = trainer.get("num_nodes", 1), trainer.get("devices", 1)
    if isinstance(devices, list):
        return int(nodes), len(devices)
    if not str(devices).isdigit() or int(devices) < 1:
        raise ValueError(f"trainer.devices is {devices!r}; on a cluster give a number: it is what the job asks for")
    return int(nodes), int(devices)


def hide_cluster() -> None:
    """Take SLURM's variables out of this process's environment; `environment_for_srun` still knows them."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        _HIDDEN[name] = os.environ.pop(name)


def needs_srun(trial: Trial) -> bool:
    """Whether a trial's processes are spread over nodes; those of one node Lightning starts by itself."""
    return trial.settings.get("trainer", {}).get("num_nodes", 1) > 1


def srun_command(trial: Trial, command: list[str]) -> list[str]:
    """Return the command that runs another once for each of a trial's devices, on all its nodes.

    Raises:
        ValueError: This is not a cluster job, or it has fewer nodes than the trial needs.
    """
    num_nodes, num_devices = shape_of(trial)
    there = int(_HIDDEN.get("SLURM_JOB_NUM_NODES", 0))
    if there < num_nodes:
        where = f"this job has {there}" if there else "this is not a SLURM job"
        raise ValueError(f"the trial needs {num_nodes} nodes (trainer.num_nodes), and {where}; use --launcher slurm")
    return ["srun", f"--nodes={num_nodes}", f"--ntasks-per-node={num_devices}", "--kill-on-bad-exit=1", *command]


def environment_for_srun() -> Mapping[str, str]:
    """Return this process's environment with SLURM's variables in it again."""
    return {**os.environ, **_HIDDEN}


def adopt_rank() -> None:
    """In a process that srun has started: say which rank it is in the words that Lightning's own launcher uses."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    first_node = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
    ranks = {
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "NODE_RANK": os.environ["SLURM_NODEID"],
        "MASTER_PORT": str(_FIRST_PORT + (job * 7 + step) % _NUM_PORTS),
    }
    os.environ.update(ranks)
    os.environ.setdefault("MASTER_ADDR", first_node)
    hide_cluster()
