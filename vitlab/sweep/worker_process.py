"""The launcher's side of a worker that has a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from vitlab.sweep.worker import ALL_DEVICES, Answer, Job, WorkerDiedError, to_line

WORKER_PROGRAM = (sys.executable, "-m", "vitlab.sweep.worker")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerProcess:
    """A persistent worker process, started with its first job and again after it died.

    Args:
        index: Which worker this is, from 0; it names the log file and the device.
        num_threads: CPU threads that it may use.
        log: File for what the libraries print in it.
        lock: An open file whose lock lives as long as the worker does: see `owners`.
        program: What to run; another program must answer jobs as `vitlab.sweep.worker` does.
    """

    def __init__(
        self,
        index: int,
        num_threads: int,
        log: Path,
        lock: int | None = None,
        program: Sequence[str] = WORKER_PROGRAM,
    ) -> None:
        self._log = log
        self._program = list(program)
        self._lock = lock
        ours = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "NODE_RANK")}
        self._environment = {**ours, **dict.fromkeys(_THREAD_VARIABLES, str(num_threads)), **_device(index)}
        self._process: subprocess.Popen[str] | None = None
        self._closed = self._interrupted = False
        self._starting = threading.Lock()

    def do(self, job: Job) -> Answer:
        """Do a job.

        Raises:
            WorkerDiedError: The process ended before it answered; the next job starts another one.
        """
        with self._starting:
            if self._closed:
                raise WorkerDiedError("the launcher has stopped")
            if self._interrupted and job.kind == "fit":
                return {"status": "interrupted", "error": None}
            process = self._process or self._start()
        if self._interrupted and job.kind == "fit":  # meanwhile; it may not be able to hear of it yet
            process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(to_line(job))
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            code = self._bury(process)
            raise WorkerDiedError(self._obituary(code))
        answer = json.loads(line)
        if "CUDA" in (answer["error"] or ""):  # an error on the device poisons its process; the next job gets another
            process.kill()
            self._bury(process)
        elif answer["status"] == "interrupted":  # it ends by itself
            self._bury(process)
        return answer

    def interrupt(self) -> None:
        """Have the fit that it is doing saved at the end of its step; safe to call in a signal's handler."""
        self._interrupted = True
        process = self._process
        if process is not None and hasattr(signal, "SIGUSR1"):
            process.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        """End the process at once; what it was doing leaves no record and will be done again."""
        with self._starting:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def release(self) -> None:
        """Let go of a closed worker's pipes; call it when no thread waits for an answer any more."""
        if self._process is not None:
            self._bury(self._process)

    def _bury(self, process: "subprocess.Popen[str]") -> int:
        self._process = None
        with contextlib.suppress(BrokenPipeError):  # a line it did not live to read
            process.stdin.close()
        process.stdout.close()
        return process.wait()

    def _start(self) -> "subprocess.Popen[str]":
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:  # after a death the log of the one before is what explains it
            self._process = subprocess.Popen(
                self._program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                pass_fds=() if self._lock is None else (self._lock,),
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which ends its workers itself
            )
        return self._process

    def _obituary(self, code: int) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
        return f"the worker process {how}" + (f"; it wrote last: {last}" if last else "")


def _device(index: int) -> dict[str, str]:
    """Give each worker one of the visible GPUs in turn."""
    devices = visible_devices()
    if not devices:
        return {}
    return {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)], ALL_DEVICES: ",".join(devices)}


def visible_devices() -> list[str]:
    """Return the GPUs that workers share, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.split(",") if device and device != "-1"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=20).stdout
        return [str(index) for index, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
    return []
