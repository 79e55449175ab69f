import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "refinement_simulation"


@pytest.mark.slow
def test_refinement_narrows_more_than_the_same_seconds_spread_evenly(tmp_path):
    out = tmp_path / "refinement.md"
    command = [sys.executable, "-W", "error", str(SCRIPT), "--pairs", "6", "--seed", "5", "--out", str(out)]
    subprocess.run(command, check=True, timeout=600)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.read_text().splitlines()]
    ratios = {row[0]: float(row[1]) for row in rows if re.fullmatch(r"\d times", row[0])}
    assert set(ratios) == {"1 times", "3 times"}
    assert max(ratios.values()) < 0.95
    spent = [float(row[1]) for row in rows if len(row) == 7 and row[0].startswith(("one more seed", "refined"))]
    assert all(number <= limit for number, limit in zip(spent, (1, 1, 3, 3), strict=True))
