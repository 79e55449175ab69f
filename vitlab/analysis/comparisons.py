"""Which arms of a sweep are compared with each other, and what the comparison is about.

What a sweep is about differs between its arms on purpose, and is no flaw: on a dial, the settings that turn with it;
elsewhere, whatever is the one thing in which arms with the same network differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vitlab.analysis.arms import differing

Table = dict[str, dict[str, str]]  # by setting: its value by arm

AUGMENTATION = ("data.augmentation", "model.label_smoothing", "model.mixup_alpha", "model.cutmix_alpha")
_OPTIMIZER = ("model.optimizer", "model.warmup_fraction")
_CAN_BE_THE_SUBJECT = (("data.dataset",), ("data.batch_size",), AUGMENTATION, _OPTIMIZER)


def compared_groups(plan: Any) -> list[list[str]]:
    """Return which arms stand beside each other: all, or on a dial with several families those at the same place.

    Args:
        plan: the sweep's plan.
    """
    if not plan.dial or len({family for family, _ in plan.dial["arms"].values()}) == 1:
        return [list(plan.models)]
    places = {model: value for model, (_, value) in plan.dial["arms"].items()}
    groups = [[model for model in plan.models if places[model] == value] for value in sorted(set(places.values()))]
    return [group for group in groups if len(group) > 1]


def unmatched_settings(plan: Any) -> tuple[Table, Table]:
    """Return the settings that differ between compared arms: those that should not, and those that it is about.

    Args:
        plan: the sweep's plan.
    """
    everywhere: Table = {}
    for group in compared_groups(plan):
        for name, by_arm in differing({model: plan.settings_of(model) for model in group}).items():
            everywhere.setdefault(name, {}).update(by_arm)
    subject = _subject(plan, everywhere)
    meant = {name: by_arm for name, by_arm in everywhere.items() if is_part_of(name, subject)}
    return {name: by_arm for name, by_arm in everywhere.items() if name not in meant}, meant


def is_part_of(name: str, wholes: Iterable[str]) -> bool:
    """Say whether a setting is one of these or lies within one.

    Args:
        name: dotted name of a single setting.
        wholes: dotted names.
    """
    return any(name == whole or name.startswith(f"{whole}.") for whole in wholes)


def _subject(plan: Any, differing_settings: Table) -> set[str]:
    if plan.dial:
        return _turned_by_the_dial(plan, differing_settings)
    if any(is_part_of(name, ["model.backbone"]) for name in differing_settings):
        return {"model.backbone"}
    for parts in _CAN_BE_THE_SUBJECT:
        if all(is_part_of(name, parts) for name in differing_settings):
            return set(parts)
    return set()


def _turned_by_the_dial(plan: Any, differing_settings: Table) -> set[str]:
    """Return the settings that are the dial: equal to its numbers, or else one to one with them, in the model first.

    Two arms always differ one to one in everything in which they differ; hence the order.
    """
    places = {model: value for model, (_, value) in plan.dial["arms"].items()}
    turning = {name for name, by_arm in differing_settings.items() if _is_one_to_one(places, by_arm)}
    equal = {name for name in turning if _is_equal(places, differing_settings[name])}
    in_model = {name for name in turning if is_part_of(name, ["model.backbone"])}
    # Another class brings other arguments with it.
    return {name.removesuffix(".class_path") for name in equal or in_model or turning}


def _is_one_to_one(places: dict[str, float], by_arm: dict[str, str]) -> bool:
    pairs = {(places[model], value) for model, value in by_arm.items()}
    return len(pairs) == len({place for place, _ in pairs}) == len({value for _, value in pairs})


def _is_equal(places: dict[str, float], by_arm: dict[str, str]) -> bool:
    return all(value == json.dumps(places[model]) for model, value in by_arm.items())
