"""Which owner works on which trial: of many who ask, one gets it.

A claim is a file that is created under a name that nobody else can then create. Where its owner is found dead, the
trial is claimed again under the next number; the highest number counts. Claims stand in the folder of the records:
creating one there makes an NFS client look at that folder anew, so that the record of a trial which another machine has
just finished is seen before it is done again.
"""

import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitlab.atomic_file import atomic_file, read_whole
from vitlab.sweep.owners import Owner, Watch, read_heartbeat

_NAME = re.compile(r"\.claim-([0-9a-f]+)\.(\d+)")
# The rights to submit jobs for a folder, and to say by what its plan grows, are claimed like trials; no trial has these
# ids.
SUBMITTING, REFINING = "0", "1"
_LOOKS = 40  # at a claim that is empty, a twentieth of a second apart


@dataclass(frozen=True)
class Claim:
    """One owner's right to work on one trial.

    Args:
        trial_id: The trial.
        number: How many have held and lost it before.
        num_vanished_jobs: How many cluster jobs among them vanished without a word. A launcher that was killed says
            nothing about the trial, nor does a job that was told to stop and did not manage to in time.
    """

    trial_id: str
    number: int
    num_vanished_jobs: int


class Claims:
    """The claims of one owner.

    Args:
        owner: Who claims.
        watch: Tells who else lives.
    """

    def __init__(self, owner: Owner, watch: Watch) -> None:
        self._owner, self._watch = owner, watch
        self._folder = Path(owner.folder) / "trials"
        self._held: dict[str, Claim] = {}

    def claim(self, trial_id: str) -> Claim | None:
        """Ask for a trial; None where a living owner has it.

        Raises:
            OwnerLostError: This owner was taken for dead.
        """
        self._owner.check()
        number, num_vanished_jobs = 0, 0
        while not self._create(trial_id, number):
            holder = _holder(self._path(trial_id, number))
            if holder is None:
                continue  # given back at this very moment: ask for the same number again
            if holder == self._owner.id or self._watch.is_alive(holder):
                return None
            number += 1
            num_vanished_jobs += self._has_vanished(holder)
        self._held[trial_id] = Claim(trial_id, number, num_vanished_jobs)
        return self._held[trial_id]

    def give_back(self, trial_id: str) -> None:
        """Let others have a trial that is not done."""
        self._let_go(trial_id, with_older=False)

    def finish(self, trial_id: str) -> None:
        """Let go of a trial whose record is written."""
        self._let_go(trial_id, with_older=True)

    def give_back_all(self) -> None:
        """Let others have whatever is held."""
        for trial_id in list(self._held):
            self.give_back(trial_id)

    def _has_vanished(self, holder: str) -> bool:
        heartbeat = read_heartbeat(self._owner.folder, holder)
        was_stopping = heartbeat is not None and heartbeat.details.get("stopping", False)
        return holder.startswith("slurm-") and not was_stopping

    def _let_go(self, trial_id: str, with_older: bool) -> None:
        claim = self._held.pop(trial_id, None)
        # An owner that was taken for dead and woke up must not delete a later owner's claim of the same name.
        if claim is not None and _holder(self._path(trial_id, claim.number)) == self._owner.id:
            for number in range(0 if with_older else claim.number, claim.number + 1):
                self._path(trial_id, number).unlink(missing_ok=True)

    def _create(self, trial_id: str, number: int) -> bool:
        try:
            with atomic_file(self._path(trial_id, number), replace=False, sync=False) as file:
                file.write(self._owner.id)
        except FileExistsError:
            return False
        return True

    def _path(self, trial_id: str, number: int) -> Path:
        return self._folder / f".claim-{trial_id}.{number}"


def claimed_trials(folder: Path) -> dict[str, str]:
    """Return which owner, dead or alive, holds which trial, by trial id."""
    numbers: dict[str, int] = defaultdict(int)
    trials = Path(folder) / "trials"
    for entry in os.scandir(trials) if trials.is_dir() else ():
        if match := _NAME.fullmatch(entry.name):
            numbers[match[1]] = max(numbers[match[1]], int(match[2]))
    holders = ((trial_id, _holder(trials / f".claim-{trial_id}.{number}")) for trial_id, number in numbers.items())
    return {trial_id: holder for trial_id, holder in holders if holder is not None}


def remove_claims(folder: Path, trial_ids: Iterable[str]) -> None:
    """Delete what dead owners have left of claims on trials that are done."""
    wanted, trials = set(trial_ids), Path(folder) / "trials"
    for entry in list(os.scandir(trials)) if trials.is_dir() else ():
        if (match := _NAME.fullmatch(entry.name)) and match[1] in wanted:
            Path(entry).unlink(missing_ok=True)


def _holder(path: Path) -> str | None:
    """Return the id in a claim, or None where there is no such claim (any more)."""
    with contextlib.suppress(FileNotFoundError):
        for _ in range(_LOOKS):
            if holder := read_whole(path).decode():
                return holder
            time.sleep(0.05)  # without hard links a claim is empty for a moment
        return "nobody"  # whoever made it died in that moment
    return None
