"""Where the arms of a sweep stand on its dial, and which of them a dial compares.

A dial has one family of arms, such as a ViT with windows of several sizes, or several that share it, such as a ViT and
an RNN over one range of distances.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitlab.analysis.crossover import Difference
from vitlab.analysis.wording import count, label, listing

Differences = dict[tuple[str, str], list[Difference]]


@dataclass(frozen=True)
class Place:
    """Where an arm stands: its family (None where there is one family) and its value on the dial."""

    model: str
    family: str | None
    value: float

    @property
    def words(self) -> str:
        """Return the value, and the arm's name where it says more: "15 (all)"."""
        return f"{self.value:g}" if f"{self.value:g}" in self.model else f"{self.value:g} ({label(self.model)})"


def noun(dial_label: str) -> str:
    """Return what a dial turns, without its unit: "window" of "window (tokens a side)"."""
    return dial_label.partition("(")[0].strip() or dial_label


def read_places(dial: dict[str, Any], models: Sequence[str]) -> list[Place]:
    """Return the places of these arms, by growing value.

    Args:
        dial: the plan's dial.
        models: the arms to place.
    """
    places = [Place(model, *dial["arms"][model]) for model in models]
    return sorted(places, key=lambda place: place.value)


def pairs_on_dial(dial: dict[str, Any], models: Sequence[str]) -> list[tuple[str, str]]:
    """Return which arms a dial compares: each with the family's largest value, or two families at the same value.

    Args:
        dial: the plan's dial.
        models: the arms that have a point.
    """
    places = read_places(dial, models)
    if len({place.family for place in places}) > 1:
        couples = itertools.combinations(places, 2)
        return [(one.model, other.model) for one, other in couples if one.value == other.value]
    return [(place.model, places[-1].model) for place in places[:-1]]


def families_in_words(name: str, places: Sequence[Place], differences: Differences) -> str:
    """Say for each data size which family leads beyond the noise at which setting.

    Args:
        name: the dial's label.
        places: of the arms.
        differences: by pair of arms at the same value.
    """
    where = {place.model: place for place in places}
    leads: dict[int, dict[str, list[str]]] = {}
    for (one, _), at_sizes in sorted(differences.items(), key=lambda item: where[item[0][0]].value):
        for difference in at_sizes:
            leader = difference.clear_leader
            family = label(where[leader].family) if leader else "neither"
            leads.setdefault(difference.train_size, {}).setdefault(family, []).append(f"{where[one].value:g}")
    if not leads:
        return f"no two families share a {noun(name)} and a data size yet"
    said = []
    for size, families in sorted(leads.items()):
        named = [f"{family} at {noun(name)} {listing(values)}" for family, values in families.items()]
        said.append(f"with {count(size)} images {listing(named)}")
    return f"ahead beyond the noise: {'; '.join(said)}"
