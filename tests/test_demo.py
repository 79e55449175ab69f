"""The first command on the README does what the README says."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_demo_shows_the_trade_off(tmp_path):
    """Few images: the CNN leads by 3 points or more; many: the ViT by 10 or more; between them a crossover."""
    done = subprocess.run(["bash", "scripts/demo", str(tmp_path / "demo")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the CNN leads up to about" in done.stdout
    assert f"{tmp_path / 'demo'}/report/index.html" in done.stdout
    summary = json.loads((tmp_path / "demo" / "report" / "summary.json").read_text())
    errors = {(point["task"], point["model"], point["train_size"]): point["mean_error"] for point in summary["points"]}
    assert all(point["num_seeds"] >= 3 for point in summary["points"])
    assert errors["glyphs-both", "vit", 100] - errors["glyphs-both", "cnn", 100] >= 0.03
    assert errors["glyphs-both", "cnn", 8000] - errors["glyphs-both", "vit", 8000] >= 0.10
    pairs = {pair["task"]: pair for pair in summary["pairs"]}
    crossover = pairs["glyphs-both"]["crossover"]
    low, high = crossover["interval"]
    assert 100 < low < crossover["train_size"] < high < 8000
    assert crossover["leader_after"] == "vit"
    for task in ("glyphs-local", "digits"):
        efficiency = pairs[task]["data_efficiency"]
        assert efficiency["needs_more"] == "vit"
        assert efficiency["interval"][0] > 1
