"""Do the arms see the same images, treated in the same way (DESIGN: a fair comparison, rules 2, 5 and 7)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitlab.analysis.comparisons import AUGMENTATION, Table, is_part_of, unmatched_settings
from vitlab.analysis.finding import Finding, at_images
from vitlab.analysis.selection import Point
from vitlab.analysis.wording import label, listing, plural

MIN_SEEDS = 3
# Settings by which the arms learn from, or are chosen on, other images.
_CHANGES_THE_IMAGES = (
    *("data.dataset", "data.val_size", "data.draw"),
    *("trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.overfit_batches"),
)
_BALANCED = "nested class-balanced subsets"
_SHOWN = 3  # settings that a finding gives with their values


def check_data(plan: Any, points: Sequence[Point]) -> list[Finding]:
    """Return the findings on data settings, augmentation, other settings of the training, seeds and refinement.

    Args:
        plan: the sweep's plan.
        points: its selected points.
    """
    return [*_settings(plan), *_few_seeds(plan, points), *_other_seeds(plan, points), *_refinement(plan)]


def _settings(plan: Any) -> list[Finding]:
    unmatched, meant = unmatched_settings(plan)
    findings = []
    parts = (
        ("data", "different_data", ("data",), "warn"),
        ("augmentation", "unequal_augmentation", AUGMENTATION, "warn"),
        ("trainer", "different_trainer", ("trainer",), "note"),
        ("optimizer", "different_optimizer", ("model",), "note"),
    )
    for noun, check, wholes, level in parts:
        settings = {name: by_arm for name, by_arm in unmatched.items() if is_part_of(name, wholes)}
        if check != "unequal_augmentation":
            settings = {name: by_arm for name, by_arm in settings.items() if not is_part_of(name, AUGMENTATION)}
        settings = {name: by_arm for name, by_arm in settings.items() if not is_part_of(name, ["model.backbone"])}
        if settings:
            grave = any(is_part_of(name, _CHANGES_THE_IMAGES) for name in settings)
            models = tuple(dict.fromkeys(model for by_arm in settings.values() for model in by_arm))
            words = f"The arms have different {noun} settings: {_in_words(settings)}{_advice(noun, grave)}"
            findings.append(Finding("refuse" if grave else level, check, words, models))
    about = {name: by_arm for name, by_arm in meant.items() if not is_part_of(name, ["model.backbone"])}
    if about:
        words = f"The arms differ in {_in_words(about)} on purpose: that is what they compare."
        findings.append(Finding("note", "subject", words))
    return findings


def _advice(noun: str, grave: bool) -> str:
    if grave:
        return ": they do not learn from the same images. Move these to the sweep's `settings` and run again."
    if noun == "augmentation":
        return (
            ", and augmentation may be worth as much as data. Give all arms the same, or compare arms that differ in "
            "this alone."
        )
    if noun == "data":
        return ". Move these to the sweep's `settings`, so that all arms have the same."
    return "." if noun == "trainer" else ": each arm has a recipe of its own, and the result holds for these recipes."


def _in_words(settings: Table) -> str:
    """Return "val_size (ViT 7, CNN 1000)"; beyond three settings, the names of the rest."""
    said = []
    for name, by_arm in list(settings.items())[:_SHOWN]:
        values = ", ".join(f"{label(model)} {value}" for model, value in by_arm.items())
        said.append(f"{_short(name)} ({values})")
    return listing(said + [_short(name) for name in list(settings)[_SHOWN:]])


def _short(name: str) -> str:
    return name.partition(".")[2]


def _few_seeds(plan: Any, points: Sequence[Point]) -> list[Finding]:
    few = [point for point in points if point.num_seeds < MIN_SEEDS]
    if not few:
        return []
    sizes = tuple(sorted({point.train_size for point in few}))
    fewest = plural(min(point.num_seeds for point in few), "seed")
    words = (
        f"As few as {fewest} {at_images(sizes, plan.train_sizes)}: intervals are wide or absent. Add seeds to the "
        f"sweep file, {MIN_SEEDS} or more in all, and run it again: what is finished stays."
    )
    return [Finding("warn", "num_seeds", words, tuple(dict.fromkeys(point.model for point in few)), sizes)]


def _other_seeds(plan: Any, points: Sequence[Point]) -> list[Finding]:
    """The same subset draws for all."""
    uneven = []
    for size in sorted({point.train_size for point in points}):
        if len({frozenset(point.errors) for point in points if point.train_size == size}) > 1:
            uneven.append(size)
    if uneven:
        words = (
            f"The arms have different seeds, so different images, {at_images(uneven, plan.train_sizes)}; pairs are "
            "compared on the seeds they share. Run `vitlab sweep` again until every arm has every seed."
        )
        return [Finding("warn", "different_subsets", words, (), tuple(uneven))]
    if not points:
        return []
    if any(is_part_of(name, _CHANGES_THE_IMAGES) for name in unmatched_settings(plan)[0]):
        return []  # that is said already
    draws = {plan.settings_of(model).get("data", {}).get("draw") for model in plan.models}
    kind = "nested subsets in which classes keep their shares" if "proportional" in draws else _BALANCED
    return [Finding("note", "different_subsets", f"Same seeds for every arm: the same images, in {kind}.")]


def _refinement(plan: Any) -> list[Finding]:
    """Trials that were added by looking at results: for every arm, and by validation data alone."""
    parts = plan.refinements or ()
    if not parts:
        return []
    sizes = tuple(sorted({part["train_size"] for part in parts}))
    words = (
        f"Refinement added seeds {at_images(sizes, plan.train_sizes)} in "
        f"{plural(len({part['round'] for part in parts}), 'round')}, the same for every arm; validation errors alone "
        "decided where, and when to stop."
    )
    return [Finding("note", "refinement", words, (), sizes)]
