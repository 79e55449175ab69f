"""From how many training images on the lead changes, with an interval, or in words why it does not.

A change of lead is claimed between two sizes at which one model and then the other leads beyond the noise, after a
correction for the number of sizes (significance.py). Curves that meet and stay together change sign by chance at half
of all draws; that is no crossover. Of several such changes each is given, and the last is the crossover: the size from
which one model stays ahead. Where the lead is not clear on both sides, a power calculation says how many more seeds
would make it so. Nothing is said about sizes outside the measured range.

Resamples come from the paired bootstrap over seeds (bootstrap.py), places and intervals from lead_changes.py. One end
of an interval is open where the lead is unclear up to an end of the measured range.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitlab.analysis.crossover_wording import clear_leads, leads_in_turn, listed, measured, seeds_wanted
from vitlab.analysis.differences import Difference
from vitlab.analysis.lead_changes import last_change, share_that_changes, signs_of_leads, unclear_sizes
from vitlab.analysis.power import POWER, MoreSeeds
from vitlab.analysis.wording import about, interval_of_sizes, listing, percent, the

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class LeadChange:
    """One change of lead between two sizes at which each model leads beyond the noise.

    Args:
        train_size: where, in images.
        interval: 95 % interval.
        share_crossing: share of resamples that change the lead in this direction between those two sizes.
        leader_before: who leads below.
        leader_after: who leads above.
    """

    train_size: float
    interval: Interval
    share_crossing: float
    leader_before: str
    leader_after: str


@dataclass(frozen=True)
class Crossover:
    """Where the lead changes between two models on one task.

    Args:
        interval: 95 % interval of the change of lead; None at an end that lies outside the measured range.
        share_crossing: share of resamples that cross in this direction inside the measured range; None with one seed.
        num_crossings: how often the mean curves change the lead.
        leader_before: who has the lower mean error before the (last) change, or throughout.
        leader_after: who has it from there on.
        verdict: "crosses", "leads throughout", "undecided" or "equal".
        candidate: where the mean curves (last) change the lead, in images, claimed or not; None if they do not.
        claim: who leads where, as half a sentence.
        detail: what the claim rests on.
        changes: every change of lead beyond the noise, by growing size; none with one seed.
        more_seeds: where undecided, what would settle it with 80 % power; each size is needed.
    """

    interval: Interval
    share_crossing: float | None
    num_crossings: int
    leader_before: str | None
    leader_after: str | None
    verdict: str
    candidate: float | None
    claim: str
    detail: str
    changes: list[LeadChange] = field(default_factory=list)
    more_seeds: list[MoreSeeds] = field(default_factory=list)

    @property
    def train_size(self) -> float | None:
        """Return the crossover in training images, or None if none is claimed."""
        return self.candidate if self.verdict == "crosses" else None

    @property
    def reason(self) -> str:
        """Return in words why there is no crossover; empty if there is one."""
        if self.verdict == "crosses":
            return ""
        return f"{self.claim} ({self.detail})" if self.detail else self.claim


def find_crossover(models: tuple[str, str], differences: Sequence[Difference], draws: np.ndarray | None) -> Crossover:
    """Return where the lead changes for good inside the measured range, or why it does not.

    Args:
        models: first and second name.
        differences: of the mean errors, by growing size.
        draws: resampled mean errors, or None with one seed.

    Shape:
        draws: (resamples, 2, sizes).
    """
    sizes, errors = _curves(differences)
    position, num_crossings = last_change(sizes, errors)
    if np.array_equal(*errors):
        claim = f"both models have the same mean error {measured(sizes)}"
        return Crossover((None, None), None, 0, None, None, "equal", None, claim, "")
    ahead = np.nonzero(errors[0] != errors[1])[0][-1]  # a tie at the largest size belongs to who led before it
    winner = int(errors[0, ahead] > errors[1, ahead])
    leaders = models[1 - winner], models[winner]
    if draws is None:
        return _with_one_seed(sizes, leaders, position, num_crossings)
    changes = _clear_changes(models, differences, draws)
    if changes:
        share = share_that_changes(draws, models.index(changes[-1].leader_before))
        return _crossing(differences, changes, num_crossings, share)
    if num_crossings == 0:
        return _no_crossing(differences, leaders[1], share_that_changes(draws, winner))
    share = share_that_changes(draws, 1 - winner)
    return _undecided(differences, leaders, position, num_crossings, draws, share)


def _curves(differences: Sequence[Difference]) -> tuple[list[int], np.ndarray]:
    """Return sizes and mean errors (2, sizes)."""
    return [row.train_size for row in differences], np.array([row.mean_errors for row in differences]).T


def _with_one_seed(
    sizes: Sequence[int], leaders: tuple[str, str], position: float | None, num_crossings: int
) -> Crossover:
    before, after = leaders
    if num_crossings == 0:
        claim, detail = f"{the(after)} leads {measured(sizes)}", "this lead may be noise"
        before, verdict, candidate = after, "leads throughout", None
    else:
        claim, detail = leads_in_turn(leaders, [position]), "this change of lead may be noise"
        verdict, candidate = "crosses", position
    detail = f"one seed per size: no interval, and {detail}"
    return Crossover((None, None), None, num_crossings, before, after, verdict, candidate, claim, detail)


def _clear_changes(models: tuple[str, str], differences: Sequence[Difference], draws: np.ndarray) -> list[LeadChange]:
    """Return the changes between every two neighboring clear leads that differ."""
    sizes, errors = _curves(differences)
    clear = [n for n, difference in enumerate(differences) if difference.clear_leader]
    changes = []
    for first, last in itertools.pairwise(clear):
        before, after = differences[first].clear_leader, differences[last].clear_leader
        if before != after:
            position, _ = last_change(sizes, errors, first, last)
            interval = unclear_sizes(sizes, draws, first, last)
            share = share_that_changes(draws[:, :, first : last + 1], models.index(before))
            changes.append(LeadChange(position, interval, share, before, after))
    return changes


def _crossing(
    differences: Sequence[Difference], changes: list[LeadChange], num_crossings: int, share: float
) -> Crossover:
    """Return the crossover where each model leads beyond the noise; the last of several changes gives its numbers."""
    sizes, last = [difference.train_size for difference in differences], changes[-1]
    claim = leads_in_turn(
        [change.leader_before for change in changes] + [last.leader_after], [change.train_size for change in changes]
    )
    intervals = [interval_of_sizes(change.interval, sizes[0], sizes[-1]) for change in changes]
    plural = "s" if len(changes) > 1 else ""
    detail = f"95 % interval{plural} {listing(intervals)}; {percent(share, 0)} of resamples cross"
    if len(changes) > 1:
        claim = f"the lead changes {len(changes)} times: {claim}"
        detail += " the last time"
    elif num_crossings > 1:
        detail += f"; the mean curves change the lead {num_crossings} times, but only here beyond the noise"
    return Crossover(
        interval=last.interval,
        share_crossing=share,
        num_crossings=num_crossings,
        leader_before=last.leader_before,
        leader_after=last.leader_after,
        verdict="crosses",
        candidate=last.train_size,
        claim=claim,
        detail=detail,
        changes=changes,
    )


def _no_crossing(differences: Sequence[Difference], leader: str, share: float) -> Crossover:
    """Return the crossover where one model has the lower mean error throughout."""
    sizes = [difference.train_size for difference in differences]
    clear = [difference.train_size for difference in differences if difference.clear_leader == leader]
    if clear:
        claim = f"{the(leader)} leads {measured(sizes)}"
        detail = "" if len(clear) == len(sizes) else f"beyond the noise at {listed(clear)}"
        return Crossover((None, None), share, 0, leader, leader, "leads throughout", None, claim, detail)
    wanted = [_cheapest(differences, POWER)]
    claim = f"no clear leader {measured(sizes, 'any')}"
    detail = f"{the(leader)} is ahead on average, but nowhere beyond the noise; {seeds_wanted(wanted)}"
    return Crossover((None, None), share, 0, leader, leader, "undecided", None, claim, detail, more_seeds=wanted)


def _undecided(
    differences: Sequence[Difference],
    leaders: tuple[str, str],
    position: float,
    num_crossings: int,
    draws: np.ndarray,
    share: float,
) -> Crossover:
    """Return the crossover where the mean curves meet, but not both models lead beyond the noise."""
    before, after = leaders
    sizes = [difference.train_size for difference in differences]
    below = [n for n, d in enumerate(differences) if d.train_size < position and d.clear_leader == before]
    above = [n for n, d in enumerate(differences) if d.train_size > position and d.clear_leader == after]
    interval = unclear_sizes(sizes, draws, below[-1] if below else None, above[0] if above else None)
    wanted = _seeds_for_both_sides(differences)
    meet = f"the mean curves meet at about {about(position)} images; {percent(share, 0)} of resamples cross"
    return Crossover(
        interval=interval,
        share_crossing=share,
        num_crossings=num_crossings,
        leader_before=before,
        leader_after=after,
        verdict="undecided",
        candidate=position,
        claim=clear_leads(differences, leaders),
        detail=f"{meet}; {seeds_wanted(wanted)}",
        more_seeds=wanted,
    )


def _seeds_for_both_sides(differences: Sequence[Difference]) -> list[MoreSeeds]:
    """Return the seeds that make a lead clear on each side of the crossing where none is yet."""
    _, errors = _curves(differences)
    signs = signs_of_leads((errors[0] - errors[1])[None])[0]
    crossed = int(np.nonzero(signs != signs[-1])[0][-1]) + 1  # index of the first size after the last change
    sides = [d for n, d in enumerate(differences[:crossed]) if signs[n] != signs[-1]], differences[crossed:]
    missing = [side for side in sides if not any(difference.clear_leader for difference in side)]
    return [_cheapest(side, POWER ** (1 / len(missing))) for side in missing]  # all must succeed


def _cheapest(differences: Sequence[Difference], power: float) -> MoreSeeds:
    """Return the size at which the fewest seeds make a lead clear."""
    options = [MoreSeeds(d.train_size, d.seeds_to_clear(power), power) for d in differences]
    return min(options, key=lambda option: np.inf if option.more_seeds is None else option.more_seeds)
