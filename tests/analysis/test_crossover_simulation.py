import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "crossover_simulation"


@pytest.mark.slow
def test_the_simulation_finds_what_is_promised(tmp_path):
    out = tmp_path / "crossover.md"
    command = [sys.executable, "-W", "error", str(SCRIPT), "--pairs", "120", "--seed", "7", "--out", str(out)]
    subprocess.run(command, check=True, timeout=300)
    crossing, apart, power = (_numbers(section) for section in out.read_text().split("\n## ")[1:])
    assert crossing["all"][1] >= 88  # 95 % of 120, less three standard errors
    assert apart["all"][1] < 5
    assert power["curves that cross"][-2] > 53


def _numbers(section: str) -> dict[str, list[float]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: [float(re.sub("[^0-9.]", "", cell) or "nan") for cell in row[1:]] for row in rows[2:]}
