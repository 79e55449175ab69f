"""What a comparison of two sweeps says, in words: whether the answer changes, then what changed for each arm."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.analysis.sweep_comparison import ArmChange, PairChange, SweepComparison
from vitlab.analysis.sweep_pairing import Sweep
from vitlab.analysis.task_result import Conclusion
from vitlab.analysis.wording import about, count, interval_of_sizes, label, listing, plural, significant, the

CHANGES, STAYS, UNDECIDED = "changes", "stays", "undecided"


def verdict(change: PairChange) -> str:
    """Say whether the answer for two arms changes from the first sweep to the second: CHANGES, STAYS or UNDECIDED.

    It changes where the crossover moves beyond the noise, or where at some size each sweep has another clear leader.

    Args:
        change: the pair in both sweeps.
    """
    if change.shift is not None:
        if change.shift.interval is None:
            return UNDECIDED
        return CHANGES if change.shift.has_moved else STAYS
    if contradictions(change):
        return CHANGES
    return STAYS if _same_leader_throughout(change) else UNDECIDED


def contradictions(change: PairChange) -> list[int]:
    """Return the sizes at which each sweep has another leader beyond its noise, in images.

    Args:
        change: the pair in both sweeps.
    """
    leaders = [
        {row.train_size: models.index(row.clear_leader) for row in pair.differences if row.clear_leader}
        for models, pair in zip(change.models, change.pairs, strict=True)
    ]
    return [size for size, leader in leaders[0].items() if leaders[1].get(size, leader) != leader]


def _same_leader_throughout(change: PairChange) -> bool:
    crossovers = [pair.crossover for pair in change.pairs]
    if any(crossover.verdict != "leads throughout" or crossover.share_crossing is None for crossover in crossovers):
        return False
    one, other = (own.index(crossover.leader_after) for own, crossover in zip(change.models, crossovers, strict=True))
    return one == other


def conclude_pair_change(change: PairChange, sweeps: tuple[Sweep, Sweep]) -> Conclusion:
    """Return what two sweeps say of a pair of arms.

    Args:
        change: the pair in both sweeps.
        sweeps: the first and the second.
    """
    found = verdict(change)
    crossovers = [pair.crossover for pair in change.pairs]
    if change.shift is not None:
        return _conclude_shift(change, sweeps, found)
    opening = {
        CHANGES: "the answer changes",
        STAYS: "the answer stays",
        UNDECIDED: "it is undecided whether the answer changes",
    }[found]
    if found == STAYS:
        where = [pair.train_sizes for pair in change.pairs]
        claim = f"{the(crossovers[0].leader_after)} leads at every measured size in both sweeps"
        detail = "" if where[0] == where[1] else "the sweeps measured different sizes"
        return Conclusion(f"{opening}: {claim}", detail, _gap_words(change))
    said = [f"in {sweep.name} {crossover.claim}" for sweep, crossover in zip(sweeps, crossovers, strict=True)]
    against = contradictions(change)
    detail = f"each sweep has another leader beyond its noise at {_images(against)}" if against else ""
    return Conclusion(f"{opening}: {'; '.join(said)}", detail, _gap_words(change))


def _conclude_shift(change: PairChange, sweeps: tuple[Sweep, Sweep], found: str) -> Conclusion:
    """Say where both sweeps cross and how far apart that is."""
    shift, crossovers = change.shift, [pair.crossover for pair in change.pairs]
    places = [about(crossover.train_size) for crossover in crossovers]
    leader = the(crossovers[0].leader_after)
    where = f"at about {places[0]} images in {sweeps[0].name} and at about {places[1]} in {sweeps[1].name}"
    ratio = f"{significant(shift.ratio)} times as many images in {sweeps[1].name}"
    if shift.interval is None:
        detail = f"{ratio}; no interval: too few seeds or resamples that cross in both"
        return Conclusion(f"{leader} takes the lead {where}; whether that differs is undecided", detail)
    low, high = shift.interval
    ends = f"{'below any' if low is None else significant(low)} to {'above any' if high is None else significant(high)}"
    detail = f"{ratio}, 95 % interval {ends}, {'' if shift.is_paired else 'not '}paired over seeds"
    if found == CHANGES:
        when = "earlier" if shift.ratio < 1 else "later"
        return Conclusion(f"the answer changes: {leader} takes the lead {when}, {where}", detail, _gap_words(change))
    return Conclusion(f"the answer stays: {leader} takes the lead {where}, no difference beyond the noise", detail)


def _gap_words(change: PairChange) -> str:
    clear = [row.train_size for row in change.gaps if row.is_clear]
    if not change.gaps or change.gaps[0].adjusted_p_value is None:
        return ""
    first, second = (label(model) for model in change.models[0])
    if not clear:
        return f"the gap between {first} and {second} changes at no size beyond the noise"
    return f"the gap between {first} and {second} changes beyond the noise {_at(clear, change.gaps)}"


def arm_words(change: ArmChange, sweeps: tuple[Sweep, Sweep]) -> str:
    """Return what changed for one arm, as half a sentence.

    Args:
        change: the arm in both sweeps.
        sweeps: the first and the second.
    """
    same = change.arms[0] == change.arms[1]
    name = the(change.arms[0]) if same else f"{the(change.arms[1])}, against {the(change.arms[0])},"
    if change.is_same:
        return f"{name} has the same settings in both"
    if not change.differences:
        return f"{name} has no size that both sweeps measured"
    if all(row.p_value is None for row in change.differences):
        return f"{name} has one seed per size in common, which says nothing of the noise"
    said = []
    for model, word in ((change.models[1], "fewer"), (change.models[0], "more")):
        rows = [row for row in change.differences if row.clear_leader == model]
        if rows:
            points = [100 * abs(row.difference) for row in rows]
            low, high = f"{min(points):.1f}", f"{max(points):.1f}"
            much = f"{high} points" if low == high else f"{low} to {high} points"
            where = _at([row.train_size for row in rows], change.differences)
            said.append(f"{word} errors in {sweeps[1].name} {where} ({much})")
    if not said:
        return f"{name} makes no clear difference at any size"
    return f"{name} makes {' and '.join(said)}"


def arms_in_words(comparison: SweepComparison) -> str:
    """Return what changed for every arm, those that are the same in both sweeps together, as half sentences.

    Args:
        comparison: of two sweeps.
    """
    same = [change for change in comparison.arms if change.is_same and change.arms[0] == change.arms[1]]
    same = same if len(same) > 1 else []
    said = [arm_words(change, comparison.sweeps) for change in comparison.arms if change not in same]
    if same:
        said.append(f"{listing([the(change.arms[0]) for change in same])} have the same settings in both")
    return "; ".join(said)


def conclude_comparison(comparison: SweepComparison) -> Conclusion:
    """Return what two sweeps say against each other.

    Args:
        comparison: of the two.
    """
    sweeps = comparison.sweeps
    arms = arms_in_words(comparison)
    if not comparison.arms:
        names = [listing([label(model) for model in sweep.result.models]) for sweep in sweeps]
        return Conclusion(f"the sweeps have no arm in common ({names[0]}, {names[1]}), so nothing can be compared")
    if not comparison.pairs:
        return Conclusion(f"{sweeps[1].name} against {sweeps[0].name}: {arms}")
    if len(comparison.pairs) == 1:
        said = conclude_pair_change(comparison.pairs[0], sweeps)
        return Conclusion(said.claim, said.detail, "; ".join(part for part in (said.more, arms) if part))
    found = [verdict(change) for change in comparison.pairs]
    numbers = [f"{word} in {count(found.count(word))}" for word in (CHANGES, STAYS) if word in found]
    numbers += [f"is undecided in {count(found.count(UNDECIDED))}"] if UNDECIDED in found else []
    claim = f"of {plural(len(found), 'pair')} of arms, the answer {listing(numbers)}"
    return Conclusion(claim, "", arms)


def crossover_words(pairs: Sequence) -> list[str]:
    """Return where each pair crosses with its interval, "none" where it does not.

    Args:
        pairs: comparisons within a sweep.
    """
    words = []
    for pair in pairs:
        crossover = pair.crossover
        if crossover.train_size is None:
            words.append("none")
        elif crossover.share_crossing is None:
            words.append(f"{about(crossover.train_size)} images, no interval")
        else:
            span = interval_of_sizes(crossover.interval, pair.train_sizes[0], pair.train_sizes[-1])
            words.append(f"{about(crossover.train_size)} images ({span})")
    return words


def _at(sizes: Sequence[int], compared: Sequence) -> str:
    return "at every shared size" if len(sizes) == len(compared) > 1 else f"at {_images(sizes)}"


def _images(sizes: Sequence[int]) -> str:
    return f"{listing([count(size) for size in sizes])} images"
