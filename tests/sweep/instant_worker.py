"""A worker program that answers at once, or as slowly as it is told: sessions are tested with real processes by it.

It speaks the protocol of `vitlab.sweep.worker` and writes real records; only the training is left out. A fit takes the
seconds in VITLAB_TEST_SECONDS; on SIGUSR1 it answers `interrupted`. Every fit that ends is noted in a file.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from vitlab.sweep.record import blank_record
from vitlab.sweep.store import create_record, read_record, write_record
from vitlab.sweep.worker import from_line

stopping = []
timed = set()


def fit(job):
    end = time.monotonic() + float(os.environ.get("VITLAB_TEST_SECONDS", 0))
    while time.monotonic() < end:
        time.sleep(0.005)
        if stopping:
            return "interrupted"
    metrics = {"accuracy": min(1.0, 10 * job.trial.learning_rate), "nll": 1.0}
    create_record(Path(job.folder), blank_record(job.trial, 1) | {"status": "done", "val": metrics, "seconds": 0.5})
    with open(Path(job.folder).parent / "fits", "a") as file:
        file.write(f"{job.trial.id} {os.getpid()}\n")
    return "done"


def test(job):
    record = read_record(Path(job.folder), job.trial.id)
    write_record(Path(job.folder), record | {"test": record["val"]})
    return "done"


def cost(job):
    """What a step costs: a ViT's twice a CNN's, and the first time a thousandfold, as imports take their time."""
    with open(Path(job.folder).parent / "costs", "a") as file:
        file.write(f"{job.kind} {job.trial.model} {job.trial.train_size} {os.getpid()}\n")
    if job.trial.model == os.environ.get("VITLAB_TEST_BROKEN"):
        return {"status": "failed", "error": "no such layer"}
    factor = 2 if job.trial.model == "vit" else 1
    if job.kind == "count":
        return {"status": "done", "error": None, "macs": factor * 1000 * job.trial.train_size}
    arm = (job.trial.model, job.trial.train_size)
    slow = 1 if arm in timed else 1000
    timed.add(arm)
    seconds = factor * 0.01 * slow * float(os.environ.get("VITLAB_TEST_SLOWNESS", 1))
    return {"status": "done", "error": None, "seconds": seconds, "device": "cpu"}


def main():
    signal.signal(signal.SIGUSR1, lambda number, frame: stopping.append(number))
    for line in sys.stdin:
        job = from_line(line)
        if job.kind in ("count", "time"):
            print(json.dumps(cost(job)), flush=True)
            continue
        status = {"fit": fit, "test": test, "check": lambda job: "done"}[job.kind](job)
        print(json.dumps({"status": status, "error": None}), flush=True)
        if status == "interrupted":
            return


if __name__ == "__main__":
    main()
