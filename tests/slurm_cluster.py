"""A real SLURM on this machine, for tests: one controller, one or two simulated nodes, the partitions ci and hi.

It starts in about a second, in a fresh folder and on free ports, so that several may run at once. Jobs of `hi` preempt
those of `ci`, which are requeued. There is no accounting: what vitlab does must work without.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
_SECONDS_TO_ANSWER = 240  # a busy machine is slow, not wrong
_CONFIG = """\
ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=30
OverTimeLimit=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={port}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=ci Nodes={names} Default=YES PriorityTier=1
PartitionName=hi Nodes={names} PriorityTier=10
"""


class SlurmCluster:
    """A cluster that lives as long as the context does; SLURM's commands find it through SLURM_CONF meanwhile."""

    def __init__(self, folder, num_nodes=1, cpus_per_node=2):
        self.folder = Path(folder)
        self._num_nodes, self._cpus_per_node = num_nodes, cpus_per_node
        self._node_names = [f"n{number + 1}" for number in range(num_nodes)]

    def __enter__(self):
        skip_without_slurm()
        (self.folder / "state").mkdir(parents=True)
        ports = _free_ports(1 + self._num_nodes)
        host = socket.gethostname().partition(".")[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self._cpus_per_node} "
            "RealMemory=4000 State=UNKNOWN"
            for name, port in zip(self._node_names, ports[1:], strict=True)
        ]
        names = ",".join(self._node_names)
        config = _CONFIG.format(host=host, folder=self.folder, port=ports[0], nodes="\n".join(nodes), names=names)
        (self.folder / "slurm.conf").write_text(config)
        self._before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        try:
            self.start_controller()
            for name in self._node_names:
                (self.folder / f"spool-{name}").mkdir()
                subprocess.run(["slurmd", "-N", name], check=True, capture_output=True, timeout=60)
            self._wait_for_nodes()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error):
        if call("scontrol", "ping").returncode:  # stopped by the test
            self.start_controller()
        with contextlib.suppress(AssertionError):
            self.end_jobs()
        self._end()

    def start_controller(self):
        subprocess.run(["slurmctld"], check=True, capture_output=True, timeout=60)
        wait_until(lambda: call("scontrol", "ping").returncode == 0, "slurmctld to answer")

    def stop_controller(self):
        _stop(self.folder / "slurmctld.pid")

    def end_jobs(self):
        """Cancel all jobs and wait until the last process of them is gone."""
        call("scancel", "--user=root")
        wait_until(lambda: not self.jobs(), "all jobs to end")

    def jobs(self):
        """The state of each job that has not ended, by its id."""
        lines = call("squeue", "--noheader", "--array", "--format=%i %T", check=True).stdout.splitlines()
        return dict(line.split() for line in lines)

    def _wait_for_nodes(self):
        def are_idle():
            states = call("sinfo", "--noheader", "--Node", "--partition=ci", "--format=%T").stdout.split()
            return states == ["idle"] * self._num_nodes

        wait_until(are_idle, "the nodes to be idle")

    def _end(self):
        for name in self._node_names:
            _stop(self.folder / f"slurmd-{name}.pid")
        self.stop_controller()
        os.environ.pop("SLURM_CONF")
        if self._before is not None:
            os.environ["SLURM_CONF"] = self._before


def skip_without_slurm():
    """Skip the test where no SLURM can be started, with the reason."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no SLURM on this machine ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client")
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM whose jobs run as root")


def call(*command, check=False):
    """Run one of SLURM's commands and return what it said."""
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)


def wait_until(condition, what):
    """Wait for a condition and return its value; fails when it does not come about for minutes."""
    deadline = time.monotonic() + _SECONDS_TO_ANSWER
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {_SECONDS_TO_ANSWER} seconds for {what}; squeue: {call('squeue').stdout}")


def _free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _stop(pid_file):
    """Stop a daemon by its pid file, and wait until it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS_TO_ANSWER
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
