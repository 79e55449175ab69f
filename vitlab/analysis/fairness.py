"""The fairness check: what is not matched between the arms of a comparison, in words, the gravest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitlab.analysis.fairness_data import check_data
from vitlab.analysis.fairness_environment import check_environment
from vitlab.analysis.fairness_models import check_models
from vitlab.analysis.fairness_one_class import check_one_class
from vitlab.analysis.fairness_training import check_training
from vitlab.analysis.fairness_tuning import check_tuning
from vitlab.analysis.finding import LEVELS, Finding
from vitlab.analysis.image_comparison import ImageAnswers
from vitlab.analysis.selection import Point, Record, selected_trials

__all__ = ["LEVELS", "Finding", "check_fairness"]


def check_fairness(
    plan: Any,
    records: Sequence[Record],
    chosen: Mapping[tuple[str, int], float],
    points: Sequence[Point],
    answers: ImageAnswers,
) -> list[Finding]:
    """Return all findings on one sweep, the gravest first.

    Args:
        plan: the sweep's plan (models, learning_rates, train_sizes, seeds, budget, trials).
        records: its trial records.
        chosen: learning rate by (model, train size).
        points: its selected points.
        answers: what its tested trials answered.
    """
    selected = selected_trials(records, chosen)
    findings = [
        *check_tuning(plan, records, chosen),
        *check_data(plan, points),
        *check_training(plan, records, selected),
        *check_one_class(plan, selected, answers),
        *check_models(plan, selected),
        *check_environment(plan, selected),
    ]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))
