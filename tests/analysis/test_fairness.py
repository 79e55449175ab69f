from pathlib import Path

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.fairness import LEVELS
from vitlab.sweep.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]


def test_a_sweep_without_a_flaw_gets_notes_only():
    plan = sweeps.make_plan()
    findings = sweeps.find(plan, sweeps.matched_records(plan))
    assert {finding.level for finding in findings} == {"note"}
    checks = [finding.check for finding in findings]
    assert checks == ["tuning_trials", "different_subsets", "budget", "params", "macs", "seconds"]


def test_a_sweep_that_has_only_begun_is_not_called_unfair():
    plan = sweeps.make_plan()
    assert {finding.level for finding in sweeps.find(plan, [])} == {"note"}


def test_the_gravest_finding_comes_first():
    plan = sweeps.make_plan(num_seeds=2, learning_rates={"vit": [0.003, 0.01], "cnn": [0.003]})
    levels = [finding.level for finding in sweeps.find(plan, sweeps.matched_records(plan))]
    assert levels == sorted(levels, key=LEVELS.index)
    assert (levels[0], levels[-1]) == ("refuse", "note")


def test_findings_that_say_the_same_are_equal_whatever_sizes_they_are_about():
    small, large = (sweeps.make_plan(train_sizes=sizes) for sizes in ([100, 250], [600, 2000]))
    curves = {"vit": [0.4, 0.3], "cnn": [0.3, 0.2]}
    few, many = (sweeps.find(plan, sweeps.matched_records(plan, curves=curves)) for plan in (small, large))
    assert few[0] == many[0]
    assert len({few[0], many[0]}) == 1


@pytest.mark.parametrize("config", sorted((ROOT / "configs" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_own_sweeps_are_planned_without_a_flaw(config):
    plan = read_sweep(config)
    findings = sweeps.find(plan, [])
    assert [finding.words for finding in findings if finding.level != "note"] == []
