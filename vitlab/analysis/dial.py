"""A dial: arms that differ in one number, and where on it the error is lowest at each data size.

The claim put to the test is "more data favors a larger setting". Which setting is best is read off the same noisy
numbers that would have to prove it, so intervals are made wide enough to hold for all the arms that might have been
picked: half-widths from the largest standardized deviation of any of them (max-t; Westfall and Young 1993,
Resampling-Based Multiple Testing, section 2.6), on the resamples of the paired bootstrap over seeds (bootstrap.py).

Where several families share a dial (a line each), the claim is who leads at which setting, and nothing about the best.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.dial_places import Differences, Place, families_in_words, noun, read_places
from vitlab.analysis.selection import Point, paired_errors
from vitlab.analysis.wording import count, percent

Interval = tuple[float, float]
Intervals = dict[tuple[int, int], Interval]  # by pair of arms


@dataclass(frozen=True)
class Setting:
    """One arm at one data size, beside the best arm and the one at the end of the dial.

    Args:
        model: the arm.
        value: its place on the dial.
        train_size: number of training images.
        mean_error: mean test error over the seeds that all the arms share, 0 to 1.
        is_best: whether no other arm has a lower mean error at this size.
        difference: its error minus that of the arm with the largest value.
        interval: 95 % interval of the difference, for all arms of this size at once; None with one seed.
    """

    model: str
    value: float
    train_size: int
    mean_error: float
    is_best: bool
    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class Dial:
    """What a dial's sweep says.

    Args:
        label: what the dial turns, with its unit.
        places: every arm that has a point.
        settings: every arm at every size, by growing size and value; empty where several families share the dial.
        verdict: on "more data favors a larger setting": "supports", "refutes" or "undecided"; None where several
            families share the dial.
        gain: by how much the last size's best arm gains on the first size's best (on the smallest setting, where these
            are one and the same) from first to last size, 0 to 1; None where there is one size.
        gain_interval: 95 % interval of the gain, for all pairs of arms at once.
        claim: the verdict in words.
        detail: what it rests on: the best arm at each size, and the gain.
    """

    label: str
    places: list[Place]
    settings: list[Setting]
    verdict: str | None
    gain: float | None
    gain_interval: Interval | None
    claim: str
    detail: str

    @property
    def families(self) -> list[str | None]:
        """Return the families in the sweep's order."""
        return list(dict.fromkeys(place.family for place in self.places))


def read_dial(dial: dict[str, Any], points: Sequence[Point], differences: Differences, seed: int = 0) -> Dial:
    """Return what a dial says.

    Args:
        dial: the plan's dial.
        points: points of one task, one or more.
        differences: by pair of arms at the same value, where several families share the dial.
        seed: seed of the bootstrap.
    """
    name, places = dial["label"], read_places(dial, list(dict.fromkeys(point.model for point in points)))
    if len({place.family for place in places}) > 1:
        return Dial(name, places, [], None, None, None, families_in_words(name, places, differences), "")
    models = [place.model for place in places]
    sizes, errors = paired_errors(points, models)
    if len(places) < 2 or not sizes:
        claim = f"too few finished trials yet to say which {noun(name)} is best"
        return Dial(name, places, [], "undecided", None, None, claim, "")
    means, draws = bootstrap.draw_means(errors, [seed, zlib.crc32(" ".join(models).encode())])
    at_sizes = [_pair_intervals(means[:, n], None if draws is None else draws[:, :, n]) for n in range(len(sizes))]
    changes = means[:, -1] - means[:, 0]
    of_changes = _pair_intervals(changes, None if draws is None else draws[:, :, -1] - draws[:, :, 0])
    reading = _Reading(name, places, sizes, means, at_sizes)
    gainer, rival = reading.gaining_pair()
    has_gain = len(sizes) > 1 and gainer != rival
    gain = float(changes[rival] - changes[gainer]) if has_gain else None
    gain_interval = of_changes[rival, gainer] if of_changes and has_gain else None
    verdict, facts = reading.verdict(gain_interval)
    that = "whether" if verdict == "undecided" else "that"
    claim = f"{facts}: {verdict} {that} more data favors a larger {noun(name)}"
    said = [*reading.sizes_in_words(), *([reading.gain_in_words(gain, gain_interval)] if has_gain else [])]
    return Dial(name, places, reading.settings(), verdict, gain, gain_interval, claim, "; ".join(said))


def simultaneous_intervals(estimates: np.ndarray, draws: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Return intervals that all hold at once with the given probability, whichever of them is looked at afterwards.

    Args:
        estimates: the measured quantities.
        draws: resamples of them.
        level: probability that no interval misses, between 0 and 1.

    Shape:
        estimates: (quantities,); draws: (resamples, quantities); result: (quantities, 2).
    """
    deviations = np.abs(draws - estimates)
    # Resamples with Student's tails may have no standard deviation; this quantile is one where the noise is normal.
    scale = np.quantile(deviations, 0.683, axis=0)
    standardized = np.divide(deviations, scale, out=np.zeros_like(deviations), where=scale > 0)
    half = np.quantile(standardized.max(axis=1), level) * scale
    return np.stack([estimates - half, estimates + half], axis=1)


def _pair_intervals(estimates: np.ndarray, draws: np.ndarray | None) -> Intervals | None:
    """Return intervals of every arm's number minus every other's, all at once; None without resamples."""
    if draws is None:
        return None
    pairs = list(itertools.permutations(range(len(estimates)), 2))
    first, second = np.array(pairs).T
    intervals = simultaneous_intervals(estimates[first] - estimates[second], draws[:, first] - draws[:, second])
    return {pair: (float(low), float(high)) for pair, (low, high) in zip(pairs, intervals, strict=True)}


@dataclass(frozen=True)
class _Reading:
    """One family's mean errors with the intervals of all differences, and what they say.

    Shape: means (arms, sizes); intervals: one table by pair of arms for each size.
    """

    label: str
    places: list[Place]
    sizes: list[int]
    means: np.ndarray
    intervals: list[Intervals | None]

    def best(self, size: int) -> int:
        return int(np.argmin(self.means[:, size]))  # of equals the smallest setting

    def gaining_pair(self) -> tuple[int, int]:
        """Return the last size's best arm and the first size's, or the smallest setting where these are the same."""
        first, last = self.best(0), self.best(-1)
        return (last, first) if first != last else (last, 0)

    def settings(self) -> list[Setting]:
        """Return every arm at every size beside the largest setting."""
        end, settings = len(self.places) - 1, []
        for (n, size), (arm, place) in itertools.product(enumerate(self.sizes), enumerate(self.places)):
            difference, interval = self._difference(arm, end, n)
            error, is_best = float(self.means[arm, n]), arm == self.best(n)
            settings.append(Setting(place.model, place.value, size, error, is_best, difference, interval))
        return settings

    def verdict(self, gain_interval: Interval | None) -> tuple[str, str]:
        """Return the verdict on "more data favors a larger setting", and which setting is best where, in words."""
        first, last, smallest = self.places[self.best(0)], self.places[self.best(-1)], self.places[0]
        facts = self._bests_in_words()
        if len(self.sizes) < 2:
            return "undecided", f"{facts}, and no other data size was measured"
        if first != last:
            if gain_interval is None:
                return "undecided", f"{facts}, with one seed per size, so it may be noise"
            if gain_interval[0] <= 0:
                return "undecided", f"{facts}, and the change is within the noise"
            return "supports" if last.value > first.value else "refutes", facts
        if last == self.places[-1]:  # nothing larger can show itself, but how far it is ahead can grow
            if gain_interval is not None and gain_interval[0] > 0:
                return "supports", f"{facts}, and {last.words} gains on {smallest.words}"
            return "undecided", f"{facts}, and {last.words} gains on {smallest.words} no more than noise would"
        interval = self._difference(self.best(-1), len(self.places) - 1, -1)[1]
        if interval is None or interval[1] >= 0:
            return "undecided", f"{facts}, but not beyond the noise"
        return "refutes", facts

    def sizes_in_words(self) -> list[str]:
        """Say for each size how far ahead of another setting the best one is."""
        said = []
        for n, size in enumerate(self.sizes):
            best, rival = self.best(n), self._rival(n)
            difference, interval = self._difference(rival, best, n)
            said.append(
                f"at {count(size)} images {self._named(best)} has {percent(self.means[best, n])} error and "
                f"{self._named(rival)} {percent(self.means[rival, n])}, {100 * difference:.1f} points more"
                f"{_in_words(interval)}"
            )
        return said

    def gain_in_words(self, gain: float, interval: Interval | None) -> str:
        """Say how the first of the gaining pair gains on the second."""
        gainer, rival = (self._named(arm) for arm in self.gaining_pair())
        sizes = f"from {count(self.sizes[0])} to {count(self.sizes[-1])} images"
        verb = "gains" if gain >= 0 else "loses"
        return f"{sizes} {gainer} {verb} {100 * abs(gain):.1f} points on {rival}{_in_words(interval, gain)}"

    def _bests_in_words(self) -> str:
        """Say which settings are best with the fewest and with the most images."""
        name, few, many = noun(self.label), count(self.sizes[0]), count(self.sizes[-1])
        first, last = self._clearly_best(0), self._clearly_best(-1)
        if first == last:
            where = f"both at {few} and at {many} images" if len(self.sizes) > 1 else f"at {few} images"
            return f"the best {name} is {first} {where}" if first else f"no {name} is clearly best {where}"
        if not first:
            return f"no {name} is clearly best at {few} images, while {last} is at {many}"
        return f"the best {name} is {first} at {few} images and {last or 'none is clearly so'} at {many}"

    def _clearly_best(self, n: int) -> str:
        """Return the settings that are not behind the best one beyond the noise; nothing if that is true of all."""
        best, equals = self.best(n), []
        for arm, place in enumerate(self.places):
            interval = self._difference(arm, best, n)[1]
            if arm == best or (interval is not None and interval[0] <= 0):
                equals.append(place.words)
        return "" if len(equals) == len(self.places) else " or ".join(equals)

    def _named(self, arm: int) -> str:
        return f"{noun(self.label)} {self.places[arm].words}"

    def _rival(self, n: int) -> int:
        """Return whom to name beside a size's best: the largest setting, or else what was best at first, or second."""
        best, end = self.best(n), len(self.places) - 1
        if best != end:
            return end
        return self.best(0) if self.best(0) != end else int(np.argmin(self.means[:end, n]))

    def _difference(self, one: int, other: int, n: int) -> tuple[float, Interval | None]:
        intervals = self.intervals[n]
        interval = None if intervals is None or one == other else intervals[one, other]
        return float(self.means[one, n] - self.means[other, n]), interval


def _in_words(interval: Interval | None, estimate: float = 0.0) -> str:
    """Return an interval in points, turned around where the text gives a negative estimate without its sign."""
    if interval is None:
        return ""
    low, high = interval if estimate >= 0 else (-interval[1], -interval[0])
    return f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
