"""Are the networks made for these images, and of like cost (DESIGN: a fair comparison, rules 3 and 4)?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from vitlab.analysis.arms import Arm, read_arm
from vitlab.analysis.comparisons import compared_groups
from vitlab.analysis.finding import Finding
from vitlab.analysis.selection import Record
from vitlab.analysis.wording import count, label, listing, significant

UNMATCHED_RATIO = 1.5
SMALL_SIDE, MEDIUM_SIDE = 64, 96  # pixels: an ImageNet stem is wrong up to the first, and doubtful up to the second
_MIN_PATCHES = 4  # along a side


def check_models(plan: Any, selected: Sequence[Record]) -> list[Finding]:
    """Return the findings on stems, patches, parameters, multiply-adds and seconds.

    Args:
        plan: the sweep's plan.
        selected: the tested trials at the chosen learning rates.
    """
    arms = [read_arm(model, plan.settings_of(model)) for model in plan.models]
    tokens = [finding for arm in arms for finding in (_stem(arm), _patches(arm)) if finding]
    return [*tokens, *(finding for group in compared_groups(plan) for finding in check_costs(plan, group, selected))]


def _stem(arm: Arm) -> Finding | None:
    """An ImageNet stem throws most of a small image away before the first block."""
    side = arm.image_side
    if arm.stem not in ("7x7", "strided"):
        return None
    if side is None:
        words = (
            f"{label(arm.name)} has an ImageNet stem, and the settings do not tell the size of the images; up to "
            f"{MEDIUM_SIDE} pixels it needs a 3x3 stem without max-pool."
        )
        return Finding("note", "small_image_stem", words, (arm.name,))
    if side > MEDIUM_SIDE:
        return None
    does = (
        "its stem (7x7, stride 2, max-pool) divides them by 4" if arm.stem == "7x7" else "its stem shrinks them at once"
    )
    words = (
        f"{label(arm.name)} is made for ImageNet, but the images have {side} pixels: {does}, which costs a CNN about "
        "20 points on CIFAR-10. Use vitlab.models.ResNet with stem: 3x3."
    )
    level = "refuse" if arm.stem == "7x7" and side <= SMALL_SIDE else "warn"
    return Finding(level, "small_image_stem", words, (arm.name,))


def _patches(arm: Arm) -> Finding | None:
    """A ViT with few tokens has little to attend to: the same flaw on the other side."""
    if not arm.patch_size or not arm.image_side or arm.image_side >= _MIN_PATCHES * arm.patch_size:
        return None
    along = max(1, arm.image_side // arm.patch_size)
    words = (
        f"{label(arm.name)} sees images of {arm.image_side} pixels as {along} patches along a side; use a patch_size "
        f"of {max(1, arm.image_side // _MIN_PATCHES)} or less."
    )
    return Finding("warn", "coarse_patches", words, (arm.name,))


def check_costs(plan: Any, models: Sequence[str], selected: Sequence[Record]) -> list[Finding]:
    """Return what arms cost in parameters, multiply-adds and measured seconds; what is far apart with its numbers.

    Args:
        plan: the sweep's plan.
        models: the arms that are compared.
        selected: the tested trials at the chosen learning rates.
    """
    costs: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("params", "Parameters", count),
        ("macs", "Multiply-adds per image", count),
        ("seconds", "Training time of the selected trials (median)", lambda seconds: f"{seconds:.1f} s"),
    )
    return [finding for key, noun, write in costs if (finding := _cost(plan, models, selected, key, noun, write))]


def _cost(
    plan: Any,
    models: Sequence[str],
    selected: Sequence[Record],
    key: str,
    noun: str,
    write: Callable[[float], str],
) -> Finding | None:
    medians = _medians(models, selected, key)
    if len(medians) < 2:
        return None
    ratio = max(medians.values()) / min(medians.values())
    arms = listing([f"{label(model)} {write(value)}" for model, value in medians.items()])
    if ratio <= UNMATCHED_RATIO:
        return Finding("note", key, f"{noun} within a factor of {UNMATCHED_RATIO}: {arms}.", tuple(medians))
    if key == "macs" and plan.budget["unit"] == "macs":
        words = f"{noun} differ {significant(ratio)} times, and the budget in multiply-adds makes up for it: {arms}."
        return Finding("note", key, words, tuple(medians))
    if _moves_with_dial(plan, medians):
        words = f"{noun} move with the dial, {significant(ratio)} times from end to end: {arms}."
        return Finding("note", key, words, tuple(medians))
    words = (
        f"{noun} not matched, {significant(ratio)} times: {arms}. Change a model's size, or say it beside the result."
    )
    return Finding("warn", key, words, tuple(medians))


def _medians(models: Sequence[str], selected: Sequence[Record], key: str) -> dict[str, float]:
    """Return each arm's median over the sizes that all arms have, since large sizes cost more seconds."""
    sizes = [{t["train_size"] for t in selected if t["model"] == model and t.get(key)} for model in models]
    shared = set.intersection(*(own for own in sizes if own)) if any(sizes) else set()
    table = {
        m: [t[key] for t in selected if t["model"] == m and t["train_size"] in shared and t.get(key)] for m in models
    }
    return {model: statistics.median(values) for model, values in table.items() if values}


def _moves_with_dial(plan: Any, medians: dict[str, float]) -> bool:
    """Say whether a cost rises or falls all the way along a dial of three arms or more, and so belongs to it."""
    if not plan.dial or len(medians) < 3:
        return False
    along = [medians[model] for model in sorted(medians, key=lambda model: plan.dial["arms"][model][1])]
    return along in (sorted(medians.values()), sorted(medians.values(), reverse=True))
