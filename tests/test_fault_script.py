"""`scripts/fault_test` for real, small: launchers and workers are killed, a record is falsified, a disk runs full."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_kills_falsehood_and_a_full_disk_lose_nothing(root, tmp_path):
    options = ["--kills", "8", "--seeds", "2", "--steps", "80", "--launchers", "2", "--seconds", "5"]
    command = [sys.executable, str(root / "scripts" / "fault_test"), *options, "--folder", str(tmp_path)]
    tested = subprocess.run(command, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    figures = dict(re.findall(r"(?m)^(\S.*?) {2,}(\S+)$", tested.stdout))
    assert figures["trials"] == "16"
    assert int(figures["kills of launchers"]) + int(figures["kills of workers"]) == 8
    assert figures["lost"] == figures["duplicated"] == figures["silently wrong"] == "0"
    assert figures["falsified record named"] == "True"
    if os.geteuid() == 0 and "full disk: not tried" not in tested.stdout:
        assert figures["full disk: said, nothing lost, then complete"] == "True"
