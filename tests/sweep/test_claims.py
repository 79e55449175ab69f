"""Of many who ask for a trial, one gets it; whoever dies loses it, and who wakes up late does no harm."""

import os
import random
import subprocess
import sys
import time

import pytest

from vitlab.sweep.claims import Claims, claimed_trials, remove_claims
from vitlab.sweep.owners import Owner, OwnerLostError, Watch, declare_dead, read_heartbeat

TRIALS = [f"{number:012x}" for number in range(400)]

# Works through all trials as a session does, and notes each that it did; killed at any moment it leaves claims behind.
WORKER = """
import os, random, sys, time
from pathlib import Path
from vitlab.sweep.claims import Claims
from vitlab.sweep.owners import Owner, Watch
folder, seed, trials = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
generator = random.Random(seed)
generator.shuffle(trials)
with Owner(folder, patience_seconds=1000) as owner:
    claims = Claims(owner, Watch(folder))
    print("ready", flush=True)
    while left := [trial for trial in trials if not (folder / "trials" / f"{trial}.json").exists()]:
        for trial in left:
            if claims.claim(trial) is None:
                continue
            record = folder / "trials" / f"{trial}.json"
            if not record.exists():
                time.sleep(0.03)
                descriptor = os.open(folder / f"done-{trial}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
                os.write(descriptor, f"{owner.id}\\n".encode())  # before the record: a kill in between does it again
                record.touch()
            claims.finish(trial)
"""


@pytest.fixture
def make_claims(tmp_path):
    """Make an owner's claims."""
    entered = []

    def make(kind="local"):
        owner = Owner(tmp_path, kind)
        owner.__enter__()
        entered.append(owner)
        return Claims(owner, Watch(tmp_path)), owner

    yield make
    for owner in entered:
        owner.__exit__()


def test_a_trial_is_granted_to_one_owner_until_it_is_given_back(make_claims):
    (first, owner), (second, _) = make_claims(), make_claims()
    assert first.claim(TRIALS[0]).number == 0
    assert second.claim(TRIALS[0]) is None
    assert first.claim(TRIALS[0]) is None  # it has it already
    assert claimed_trials(owner.folder) == {TRIALS[0]: owner.id}
    first.give_back(TRIALS[0])
    assert second.claim(TRIALS[0]).number == 0
    assert first.claim(TRIALS[0]) is None


def test_a_dead_owners_trial_goes_to_the_next_under_a_higher_number(make_claims, tmp_path):
    (dead, owner), (heir, _), (third, _) = make_claims("slurm"), make_claims(), make_claims()
    dead.claim(TRIALS[0])
    declare_dead(tmp_path, owner.id)
    claim = heir.claim(TRIALS[0])
    assert (claim.number, claim.num_vanished_jobs) == (1, 1)
    assert third.claim(TRIALS[0]) is None
    heir.finish(TRIALS[0])
    assert claimed_trials(tmp_path) == {}


def test_an_owner_that_wakes_up_dead_touches_nothing(make_claims, tmp_path):
    (dead, owner), (heir, _), (third, third_owner) = make_claims(), make_claims(), make_claims()
    dead.claim(TRIALS[0])
    declare_dead(tmp_path, owner.id)
    heir.claim(TRIALS[0])
    heir.finish(TRIALS[0])
    third.claim(TRIALS[0])  # for its test, under the number that the dead one had
    dead.finish(TRIALS[0])
    assert claimed_trials(tmp_path) == {TRIALS[0]: third_owner.id}
    with pytest.raises(OwnerLostError, match="taken over its trials"):
        dead.claim(TRIALS[1])


def test_a_launcher_that_was_killed_says_nothing_about_its_trial(make_claims, tmp_path):
    holders = [make_claims("local") for _ in range(4)]
    for claims, owner in holders[:3]:
        assert claims.claim(TRIALS[0])
        declare_dead(tmp_path, owner.id)
    claim = holders[3][0].claim(TRIALS[0])
    assert (claim.number, claim.num_vanished_jobs) == (3, 0)


def test_a_job_that_was_told_to_stop_and_killed_meanwhile_has_not_vanished(make_claims, tmp_path):
    (dead, owner), (heir, _) = make_claims("slurm"), make_claims()
    dead.claim(TRIALS[0])
    owner.details["stopping"] = True
    deadline = time.monotonic() + 20
    while not read_heartbeat(tmp_path, owner.id).details:  # long before its next heartbeat is due
        assert time.monotonic() < deadline
        time.sleep(0.05)
    declare_dead(tmp_path, owner.id)
    claim = heir.claim(TRIALS[0])
    assert (claim.number, claim.num_vanished_jobs) == (1, 0)


def test_without_hard_links_it_is_the_same(make_claims, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr("os.link", refuse)
    test_a_trial_is_granted_to_one_owner_until_it_is_given_back(make_claims)


def test_a_claim_whose_answer_was_lost_on_the_network_is_ones_own(make_claims, monkeypatch):
    link, calls = os.link, []

    def link_twice(*paths):  # NFS: the link is made, the answer is lost, the client asks again
        calls.append(paths)
        link(*paths)
        link(*paths)

    monkeypatch.setattr("os.link", link_twice)
    (first, _), (second, _) = make_claims(), make_claims()
    assert first.claim(TRIALS[0]).number == 0
    assert second.claim(TRIALS[0]) is None
    assert len(calls) == 2


def test_a_claim_that_was_never_filled_in_belongs_to_nobody(make_claims, tmp_path, monkeypatch):
    monkeypatch.setattr("vitlab.sweep.claims._LOOKS", 2)
    claims, _ = make_claims()
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / f".claim-{TRIALS[0]}.0").touch()
    assert claims.claim(TRIALS[0]).number == 1


def test_leftovers_of_done_trials_can_be_removed(make_claims, tmp_path):
    claims, _ = make_claims()
    for trial in TRIALS[:3]:
        claims.claim(trial)
    remove_claims(tmp_path, TRIALS[:2])
    assert set(claimed_trials(tmp_path)) == {TRIALS[2]}


def test_five_processes_killed_at_random_do_every_trial_once(tmp_path):
    """Real processes, real kills: each trial is done by one owner, but for those whose doer was killed over them."""
    generator, processes, kills = random.Random(0), [], 0

    def start():
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(generator.random())[2:8], *TRIALS]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))

    for _ in range(5):
        start()
    for process in list(processes):
        process.stdout.readline()
    while kills < 6 and len(list((tmp_path / "trials").glob("*.json"))) < len(TRIALS):
        victim = generator.choice([process for process in processes if process.poll() is None])
        victim.kill()
        kills += 1
        start()
        processes[-1].stdout.readline()
    for process in processes:
        process.communicate(timeout=240)
    assert kills >= 3
    assert {path.stem for path in (tmp_path / "trials").glob("*.json")} == set(TRIALS)
    doers = [(tmp_path / f"done-{trial}").read_text().split() for trial in TRIALS]
    assert sum(len(names) - 1 for names in doers) <= kills
    assert all(len(set(names)) == len(names) for names in doers)
    assert claimed_trials(tmp_path) == {}
