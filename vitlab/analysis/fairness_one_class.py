"""Has each arm learned more than to answer one class for every test image?

Where classes are unequally frequent, such an answer has a low error, and a network that has learned nothing looks as if
it had. No axis of a comparison tells it from one that has learned, so the answers themselves are looked at.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from vitlab.analysis.finding import Finding, at_images
from vitlab.analysis.image_comparison import ClassCounts, ImageAnswers
from vitlab.analysis.selection import Record
from vitlab.analysis.wording import label, percent

_MARGIN = 1.01  # images; the hundredth covers accuracies that were recorded in single precision
_ONE_CLASS = 0.95  # share of the answers
# Where nearly all test images are of one class, even a perfect model gives it for nearly all. So what else a model
# answers must also be few beside the images of other classes.
_FEW_OTHERS = 0.25


def check_one_class(plan: Any, selected: Sequence[Record], answers: ImageAnswers) -> list[Finding]:
    """Return a warning for each arm that is no better than one class, or that answers hardly anything else.

    Args:
        plan: the sweep's plan.
        selected: the tested trials at the chosen learning rates.
        answers: what these trials answered; where they are not kept, or are no labels, nothing is found.
    """
    trials: dict[tuple[str, int], list[Record]] = {}
    for trial in selected:
        trials.setdefault((trial["model"], trial["train_size"]), []).append(trial)
    no_better: dict[str, dict[int, float]] = {}
    one_class: dict[str, dict[int, float]] = {}
    for (model, size), own in sorted(trials.items(), key=lambda arm: arm[0][1]):
        counts = [found for trial in own if (found := answers.counts_of(trial)) is not None]
        if not counts or all(one.most_frequent == one.num_images for one in counts):
            continue  # of one class alone there is nothing to learn
        accuracy = statistics.fmean(trial["test"]["accuracy"] for trial in own)
        if statistics.fmean(accuracy * one.num_images - one.most_frequent for one in counts) <= _MARGIN:
            no_better.setdefault(model, {})[size] = statistics.fmean(map(_error, counts))
        elif statistics.median(map(_others_answered, counts)) <= _others_allowed(counts):
            one_class.setdefault(model, {})[size] = 1 - statistics.median(map(_others_answered, counts))
    found = [_no_better(plan, model, no_better[model]) for model in plan.models if model in no_better]
    return found + [_one_class(plan, model, one_class[model]) for model in plan.models if model in one_class]


def most_frequent_class_error(selected: Sequence[Record], answers: ImageAnswers) -> float | None:
    """Return the error (0 to 1) of answering the most frequent class for every test image.

    Args:
        selected: the tested trials at the chosen learning rates.
        answers: what these trials answered.

    Returns:
        None where no answers are kept, where they are no labels, or where the trials were tested on different images.
    """
    counts = [found for trial in selected if (found := answers.counts_of(trial)) is not None]
    return _error(counts[0]) if len({one.test_set for one in counts}) == 1 else None


def _error(counts: ClassCounts) -> float:
    return round(1 - counts.most_frequent / counts.num_images, 12)  # as errors are: without float dust


def _others_answered(counts: ClassCounts) -> float:
    return round(1 - counts.most_answered / counts.num_images, 12)


def _others_allowed(counts: Sequence[ClassCounts]) -> float:
    """Return the share of other answers up to which a model counts as one that gives a single class."""
    return min(1 - _ONE_CLASS + 1e-9, _FEW_OTHERS * statistics.median(map(_error, counts)))


def _no_better(plan: Any, model: str, errors: dict[int, float]) -> Finding:
    words = (
        f"{label(model)} {at_images(errors, plan.train_sizes)} is no better, to within one test image, than to answer "
        f"the most frequent class for every image ({_range(errors)} error): it has learned nothing there that shows; "
        "train longer (`budget`), or give other `learning_rates`."
    )
    return Finding("warn", "no_better_than_one_class", words, (model,), tuple(errors))


def _one_class(plan: Any, model: str, shares: dict[int, float]) -> Finding:
    words = (
        f"{label(model)} {at_images(shares, plan.train_sizes)} answers one class for {_range(shares)} of the test "
        "images (median over seeds): it has learned next to nothing there; train longer (`budget`), or give other "
        "`learning_rates`."
    )
    return Finding("warn", "no_better_than_one_class", words, (model,), tuple(shares))


def _range(shares: dict[int, float]) -> str:
    """Return one share in percent, or the least and the greatest where sizes differ in it."""
    ends = dict.fromkeys(percent(end(shares.values())) for end in (min, max))
    return " to ".join(ends)
