"""From how many training images on the lead changes, with an interval, or in words why it does not.

The difference of mean errors is drawn piecewise linear in log(train size); the crossover is the last size at which it
changes sign, so that one model stays ahead from there to the largest measured size. Nothing is said about sizes
outside the measured range. Resamples come from the paired bootstrap over seeds (bootstrap.py); one that does not cross
counts as a crossover beyond an end of the range, which leaves that end of the interval open rather than dropped.

A crossover is claimed only if each model leads beyond the noise at one size or more on its side. Curves that meet and
stay together change sign by chance at half of all draws; that is no crossover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.wording import about, count, interval_of_sizes, listing, percent, the


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
    """

    interval: tuple[float | None, float | None]
    share_crossing: float | None
    num_crossings: int
    leader_before: str | None
    leader_after: str | None
    verdict: str
    candidate: float | None
    claim: str
    detail: str

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


@dataclass(frozen=True)
class Difference:
    """Error of the first model minus that of the second at one size; a leader is named only beyond the noise."""

    train_size: int
    difference: float
    interval: tuple[float, float] | None
    clear_leader: str | None
    num_seeds: int


def last_sign_change(train_sizes: Sequence[int], differences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each row where its sign last changes (NaN if never), how often it does, and the last sign.

    Args:
        train_sizes: growing sizes, in images.
        differences: a tie (0) counts for whoever led before it.

    Shape:
        differences: (rows, sizes); each result: (rows,).
    """
    signs = np.sign(differences)
    for size in range(1, signs.shape[1]):
        signs[:, size] = np.where(signs[:, size] == 0, signs[:, size - 1], signs[:, size])
    for size in range(signs.shape[1] - 2, -1, -1):  # ties before the first lead belong to it
        signs[:, size] = np.where(signs[:, size] == 0, signs[:, size + 1], signs[:, size])
    if signs.shape[1] < 2:
        return np.full(len(signs), np.nan), np.zeros(len(signs), dtype=int), signs[:, -1]
    changes = signs[:, 1:] != signs[:, :-1]
    num_changes = changes.sum(axis=1)
    last = changes.shape[1] - 1 - np.argmax(changes[:, ::-1], axis=1)
    rows = np.arange(len(signs))
    before, after = differences[rows, last], differences[rows, last + 1]
    gap = np.where(num_changes > 0, before - after, 1.0)
    log_sizes = np.log(np.asarray(train_sizes, dtype=float))
    where = np.exp(log_sizes[last] + before / gap * (log_sizes[last + 1] - log_sizes[last]))
    return np.where(num_changes > 0, where, np.nan), num_changes, signs[:, -1]


def compare_sizes(
    models: tuple[str, str], train_sizes: Sequence[int], errors: np.ndarray, draws: np.ndarray | None
) -> list[Difference]:
    """Return the paired difference of mean errors at each size.

    Args:
        models: first and second name.
        train_sizes: growing sizes, in images.
        errors: test errors, NaN where missing.
        draws: resampled mean errors, or None with one seed.

    Shape:
        errors: (2, sizes, seeds); draws: (resamples, 2, sizes).
    """
    shared = ~np.isnan(errors).any(axis=0)
    result = []
    for index, size in enumerate(train_sizes):
        kept = shared[index]
        difference = float((errors[0, index, kept] - errors[1, index, kept]).mean())
        interval, leader = None, None
        if draws is not None:
            low, high = bootstrap.interval(draws[:, 0, index] - draws[:, 1, index])
            interval = float(low), float(high)
            leader = models[0] if high < 0 else models[1] if low > 0 else None
        result.append(Difference(size, difference, interval, leader, int(kept.sum())))
    return result


def find_crossover(models: tuple[str, str], differences: Sequence[Difference], draws: np.ndarray | None) -> Crossover:
    """Return where the lead changes for good inside the measured range, or why it does not.

    Args:
        models: first and second name.
        differences: of the mean errors, by growing size.
        draws: resampled mean errors, or None with one seed.

    Shape:
        draws: (resamples, 2, sizes).
    """
    sizes = [difference.train_size for difference in differences]
    means = np.array([[difference.difference for difference in differences]])
    position, num_crossings, final = (values[0] for values in last_sign_change(sizes, means))
    if final == 0:
        claim = f"both models have the same mean error {_range(sizes)}"
        return Crossover((None, None), None, 0, None, None, "equal", None, claim, "")
    after, before = models if final < 0 else models[::-1]
    if num_crossings == 0:
        share = None if draws is None else float(np.isfinite(_where(sizes, draws, -final)).mean())
        verdict, claim, detail = _no_crossing(differences, after, share)
        return Crossover((None, None), share, 0, after, after, verdict, None, claim, detail)
    where = _where(sizes, draws, final)
    share = None if where is None else float(np.isfinite(where).mean())
    interval = _interval(where)
    verdict, claim, detail = _crossing(differences, (before, after), float(position), interval, share)
    if verdict == "crosses" and num_crossings > 1:
        detail += f"; the lead changes {num_crossings} times, this is the last"
    return Crossover(interval, share, int(num_crossings), before, after, verdict, float(position), claim, detail)


def _where(sizes: Sequence[int], draws: np.ndarray | None, final: float) -> np.ndarray | None:
    """Return each resample's crossover to the same leader; infinite where it lies beyond an end of the range."""
    if draws is None:
        return None
    position, num_crossings, last = last_sign_change(sizes, draws[:, 0] - draws[:, 1])
    inside = np.where(num_crossings == 0, -np.inf, position)
    return np.where(last == final, inside, np.inf)


def _interval(where: np.ndarray | None) -> tuple[float | None, float | None]:
    if where is None:
        return None, None
    low, high = (float(end) for end in bootstrap.interval(where))
    return low if np.isfinite(low) else None, high if np.isfinite(high) else None


def _crossing(
    differences: Sequence[Difference],
    leaders: tuple[str, str],
    position: float,
    interval: tuple[float | None, float | None],
    share: float | None,
) -> tuple[str, str, str]:
    """Return verdict, claim and detail where the mean curves change the lead."""
    before, after = leaders
    both = f"{the(before)} leads up to about {about(position)} images, {the(after)} from there on"
    if share is None:
        return "crosses", both, "one seed per size: no interval, and this change of lead may be noise"
    sizes = [difference.train_size for difference in differences]
    resamples = f"{percent(share, 0)} of resamples cross"
    clear_before = [d.train_size for d in differences if d.train_size < position and d.clear_leader == before]
    clear_after = [d.train_size for d in differences if d.train_size > position and d.clear_leader == after]
    if clear_before and clear_after:
        return "crosses", both, f"95 % interval {interval_of_sizes(interval, sizes[0], sizes[-1])}; {resamples}"
    meet = f"the mean curves meet at about {about(position)} images; {resamples}"
    return "undecided", _clear_leads(differences, leaders), meet


def _clear_leads(differences: Sequence[Difference], leaders: tuple[str, str]) -> str:
    """Say who leads beyond the noise where, if anyone does."""
    sizes = [difference.train_size for difference in differences]
    clear = {model: [d.train_size for d in differences if d.clear_leader == model] for model in leaders}
    if not any(clear.values()):
        return f"no clear leader {_range(sizes, 'any')}"
    parts, rest = [], "elsewhere"
    for model, where in clear.items():
        if where and where == sizes[: len(where)]:
            parts.append(f"{the(model)} leads {'up to' if len(where) > 1 else 'at'} {count(where[-1])} images")
            rest = "above that"
        elif where and where == sizes[-len(where) :]:
            parts.append(f"{the(model)} leads from {count(where[0])} images on")
            rest = "below that"
        elif where:
            parts.append(f"{the(model)} leads at {_listed(where)}")
    return f"{'; '.join(parts)}; {rest if len(parts) == 1 else 'elsewhere'} no lead is clear"


def _no_crossing(differences: Sequence[Difference], leader: str, share: float | None) -> tuple[str, str, str]:
    """Return verdict, claim and detail where one model has the lower mean error throughout."""
    sizes = [difference.train_size for difference in differences]
    clear = [difference.train_size for difference in differences if difference.clear_leader == leader]
    claim = f"{the(leader)} leads {_range(sizes)}"
    if share is None:
        return "leads throughout", claim, "one seed per size: no interval, and this lead may be noise"
    if not clear:
        detail = f"{the(leader)} is ahead on average, but nowhere beyond the noise"
        return "undecided", f"no clear leader {_range(sizes, 'any')}", detail
    return "leads throughout", claim, "" if len(clear) == len(sizes) else f"beyond the noise at {_listed(clear)}"


def _range(sizes: Sequence[int], which: str = "every") -> str:
    if len(sizes) == 1:
        return f"at the one measured size, {count(sizes[0])} images"
    return f"at {which} measured size from {count(sizes[0])} to {count(sizes[-1])} images"


def _listed(sizes: Sequence[int]) -> str:
    return f"{listing([count(size) for size in sizes])} images"
