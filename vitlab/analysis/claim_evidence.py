"""What a sweep or a report's summary offers to test a published statement on: one task's numbers and its arms.

A summary alone does not tell in which settings two arms differ; a sweep folder does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab.analysis.arms import Arm, differing, named_arm, read_arm
from vitlab.analysis.comparisons import AUGMENTATION, is_part_of
from vitlab.analysis.report import read_sweeps
from vitlab.analysis.summary import summarize
from vitlab.sweep.plan_file import PLAN_FILE

Couple = tuple[str, str]

_DATASETS = {
    "CIFAR-10": r"cifar[-_ ]?10(?!0)",
    "CIFAR-100": r"cifar[-_ ]?100",
    "ImageNet": r"imagenet",
    "glyphs-both": r"glyphs\(task=both",
    "glyphs-local": r"glyphs\(task=local",
    "photographs": r"cifar|imagenet|imagefolder",
}
_CONTRASTS = {
    "position": ("model.backbone.position", "model.backbone.attention.position"),
    "patch_size": ("model.backbone.patch_size",),
    "size": ("model.backbone.size",),
}
_OFF = ("not set", "null", "0", "0.0", "false")


@dataclass(frozen=True)
class Evidence:
    """One task's results.

    Args:
        task: its name.
        dataset: of its records, with the data set's arguments.
        summary: what `summarize` says of this task alone.
        arms: what is known of each model.
        contrasts: by pair of models, sorted, the one thing in which they differ: "position", "patch_size", "size" or
            "augmentation of MODEL" (the one that has it); None where only a summary is known.
    """

    task: str
    dataset: str
    summary: Mapping[str, list[dict[str, Any]]]
    arms: Mapping[str, Arm]
    contrasts: Mapping[Couple, str] | None

    def is_on(self, dataset: str) -> bool:
        """Say whether the task is on a data set that claims name."""
        return re.search(_DATASETS[dataset], f"{self.task} {self.dataset}", re.IGNORECASE) is not None

    @property
    def largest_size(self) -> int:
        """Return the largest train size with a tested trial, in images."""
        return max(point["train_size"] for point in self.summary["points"])

    def points_of(self, model: str) -> list[dict[str, Any]]:
        """Return a model's points by growing size."""
        own = [point for point in self.summary["points"] if point["model"] == model]
        return sorted(own, key=lambda point: point["train_size"])

    def params_of(self, model: str) -> float | None:
        """Return a model's number of parameters, or None if it was not recorded."""
        values = [cost["params"] for cost in self.summary["costs"] if cost["model"] == model and cost["params"]]
        return values[0] if values else None

    def pair_of(self, couple: Couple) -> dict[str, Any] | None:
        """Return what is known of two models, or None if they were not compared."""
        found = [pair for pair in self.summary["pairs"] if set(pair["models"]) == set(couple)]
        return found[0] if found else None

    def couples(self, compares: Sequence[str]) -> list[Couple]:
        """Return the pairs of compared models that a claim is about, each in the claim's order.

        Args:
            compares: the claim's two sides, such as ["cnn", "vit"] or ["smaller patches", "larger patches"].
        """
        couples = [couple for pair in self.summary["pairs"] for couple in itertools.permutations(pair["models"])]
        return [couple for couple in couples if self._fits(couple, tuple(compares))]

    def _fits(self, couple: Couple, compares: Couple) -> bool:
        one, other = (self.arms[model] for model in couple)
        families = (one.family, other.family)
        if compares in (("cnn", "vit"), ("vit", "cnn")):
            return families == compares and not (one.is_pretrained or other.is_pretrained)
        contrast = (self.contrasts or {}).get(tuple(sorted(couple)))
        if families != ("vit", "vit") or contrast is None:
            return False
        if compares == ("any position", "no position"):
            return contrast == "position" and one.position != "none" and other.position == "none"
        if compares == ("1-D position", "2-D position"):
            return contrast == "position" and (one.position, other.position) == ("1-D", "2-D")
        if compares == ("smaller patches", "larger patches"):
            return contrast == "patch_size" and one.patch_size < other.patch_size
        if compares == ("larger vit", "smaller vit"):
            return contrast == "size" and (self.params_of(couple[0]) or 0) > (self.params_of(couple[1]) or 0)
        if compares == ("augmented vit", "plain vit"):
            return contrast == f"augmentation of {couple[0]}"
        raise ValueError(f"unknown sides of a claim: {list(compares)}")


def gather_evidence(paths: Iterable[Path]) -> list[Evidence]:
    """Return each task's results.

    Args:
        paths: sweep folders, or reports: a summary.json or a folder that holds one.

    Raises:
        ValueError: a path is neither, or a sweep has no finished trial.
    """
    return [evidence for path in paths for evidence in _gather(Path(path))]


def _gather(path: Path) -> list[Evidence]:
    if (path / PLAN_FILE).exists():
        results = read_sweeps([path])
        summary = json.loads(json.dumps(summarize(results)))
        plans = {result.name: result.plan for result in results}
        return [_of_task(summary, task, plans[task["task"]]) for task in summary["tasks"]]
    file = path / "summary.json" if path.is_dir() else path
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        return [_of_task(summary, task) for task in summary["tasks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is neither a sweep folder nor a report with a summary.json ({type(error).__name__}: {error}); "
            "give the folder of `vitlab sweep --out`, or the summary.json of `vitlab report`"
        ) from error


def _of_task(summary: Mapping[str, Any], task: Mapping[str, Any], plan: Any = None) -> Evidence:
    parts = ("points", "fits", "pairs", "costs")
    own = {part: [row for row in summary[part] if row["task"] == task["task"]] for part in parts}
    if plan is None:
        return Evidence(task["task"], task["dataset"], own, {m: named_arm(m) for m in task["models"]}, None)
    settings = {model: plan.settings_of(model) for model in plan.models}
    arms = {model: read_arm(model, own_settings) for model, own_settings in settings.items()}
    contrasts = {}
    for couple in itertools.combinations(sorted(settings), 2):
        contrast = _contrast({model: settings[model] for model in couple})
        if contrast:
            contrasts[couple] = contrast
    return Evidence(task["task"], task["dataset"], own, arms, contrasts)


def _contrast(settings: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the one thing in which two arms differ; None where they differ in several, or in another."""
    different = differing(settings)
    if not different:
        return None
    for contrast, parts in _CONTRASTS.items():
        if all(is_part_of(name, parts) for name in different):
            return contrast
    if all(is_part_of(name, AUGMENTATION) for name in different):
        plain = {model for model in settings if all(by_arm[model] in _OFF for by_arm in different.values())}
        if len(plain) == 1:
            return f"augmentation of {(set(settings) - plain).pop()}"
    return None
