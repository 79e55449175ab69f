"""Where two fitted learning curves cross: between the measured sizes, or beyond them and then marked as extrapolated.

crossover.py compares models at sizes that both were measured at, seed by seed. Here the curves may stand at any sizes,
as curves from papers and logs do, and each is drawn many times from what its measurements allow; pairs of draws cross
where their difference last changes sign. Draws that do not cross leave an end of the interval open. A crossing at
measured sizes is claimed where each model leads beyond doubt on its side. One beyond them is an estimate: it is named
if at least two of three draws have it, as extrapolated, and with its interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitlab.analysis.curve_extrapolation import CurveEstimate
from vitlab.analysis.lead_changes import last_sign_change
from vitlab.analysis.wording import about, count, percent

REACH = 4.0  # how far beyond the sizes that both have, as a factor: farther, intervals say only that anything may be
_CLEAR = 0.975  # share of draws in which a model that leads beyond doubt is ahead
_LIKELY = 2 / 3  # share of draws that cross beyond the measured sizes, below which nothing is said of it
_WORTH_SAYING = 0.05  # share of draws that cross beyond the measured sizes, above which "in sight" would be too sure
_NUM_SIZES = 160


@dataclass(frozen=True)
class CurveCrossing:
    """Where the lead changes (last) between two fitted curves.

    Args:
        verdict: "crosses", "extrapolated", "leads" or "undecided".
        size: where the curves cross, in images or examples; None if no crossing is claimed.
        interval: 95 % interval of it; None at an end that lies outside the sizes looked at.
        share_crossing: share of draws in which the lead changes in this direction; where one leads throughout the
            measured sizes, in which it is lost beyond them; None if undecided.
        leader_before: who leads before the crossing, or throughout the measured sizes; None if undecided.
        leader_after: who leads from there on.
        measured: smallest and largest size between which both curves are measured.
        words: all this as half a sentence.
    """

    verdict: str
    size: float | None
    interval: tuple[float | None, float | None]
    share_crossing: float | None
    leader_before: str | None
    leader_after: str | None
    measured: tuple[float, float]
    words: str

    @property
    def extrapolated(self) -> bool:
        """Return whether the crossing lies beyond the measured sizes."""
        return self.verdict == "extrapolated"


def cross_curves(models: tuple[str, str], first: CurveEstimate, second: CurveEstimate) -> CurveCrossing:
    """Return where two curves cross, or who leads.

    Args:
        models: their names.
        first: the first model's curve.
        second: the second model's curve, of the same quantity.

    Raises:
        ValueError: if the curves share no range of sizes.
    """
    start, end = max(first.sizes[0], second.sizes[0]), min(first.sizes[-1], second.sizes[-1])
    if start >= end:
        raise ValueError(
            f"the curves of {models[0]} ({count(first.sizes[0])} to {count(first.sizes[-1])}) and {models[1]} "
            f"({count(second.sizes[0])} to {count(second.sizes[-1])}) share no range of sizes: measure both in one"
        )
    inside, beyond = np.geomspace(start, end, _NUM_SIZES), np.geomspace(end, REACH * end, _NUM_SIZES // 2)[1:]
    sizes = np.concatenate([inside, beyond])
    means = np.log(first.predict(sizes).errors) - np.log(second.predict(sizes).errors)
    # Both curves draw from the same stream: unshuffled, their errors would be alike and cancel.
    shuffled = np.random.default_rng([first.seed, second.seed]).permutation(len(second.draw(sizes[:1])))
    draws = first.draw(sizes) - second.draw(sizes)[shuffled]
    measured = float(start), float(end)
    crossing = _crossing(models, sizes[: len(inside)], means[: len(inside)], draws[:, : len(inside)], measured)
    if crossing is None:
        crossing = _crossing_beyond(models, sizes, means, draws, measured)
    return crossing or _no_crossing(models, sizes, draws, measured)


def _crossing(
    models: tuple[str, str], sizes: np.ndarray, means: np.ndarray, draws: np.ndarray, measured: tuple[float, float]
) -> CurveCrossing | None:
    where, num_changes, final = (values[0] for values in last_sign_change(sizes, means[None]))
    if not num_changes:
        return None
    after, before = models if final < 0 else models[::-1]
    ahead = (np.sign(draws) == final).mean(axis=0)  # share of draws in which the later leader leads
    if ahead[sizes < where].min() > 1 - _CLEAR or ahead[sizes > where].max() < _CLEAR:
        return None
    interval, share = _interval(sizes, draws, final)
    words = f"{before} leads at first and {after} from about {about(where)} on ({_interval_words(interval, sizes)})"
    return CurveCrossing("crosses", float(where), interval, share, before, after, measured, words)


def _crossing_beyond(
    models: tuple[str, str], sizes: np.ndarray, means: np.ndarray, draws: np.ndarray, measured: tuple[float, float]
) -> CurveCrossing | None:
    where, num_changes, final = (values[0] for values in last_sign_change(sizes, means[None]))
    if not num_changes or where <= measured[1]:
        return None
    after, before = models if final < 0 else models[::-1]
    at_end = int(np.searchsorted(sizes, measured[1]))
    interval, share = _interval(sizes, draws, final)
    led_before = (np.sign(draws[:, at_end]) == -final).mean() >= _CLEAR
    if not led_before or share < _LIKELY:
        return None
    words = (
        f"{before} leads up to {count(measured[1])}, the largest size of both; extrapolated, {after} leads from about "
        f"{about(where)} on ({_interval_words(interval, sizes)}; {percent(share, 0)} of draws cross)"
    )
    return CurveCrossing("extrapolated", float(where), interval, share, before, after, measured, words)


def _no_crossing(
    models: tuple[str, str], sizes: np.ndarray, draws: np.ndarray, measured: tuple[float, float]
) -> CurveCrossing:
    first_leads = (draws[:, sizes <= measured[1]] < 0).mean(axis=0)
    span = f"from {count(measured[0])} to {count(measured[1])}"
    for leads, leader in ((first_leads, models[0]), (1 - first_leads, models[1])):
        # Curves may start together, near chance: leading on most of the range and never clearly behind will do.
        if np.mean(leads >= _CLEAR) > 0.5 and leads.min() > 1 - _CLEAR and leads[-1] >= _CLEAR:
            behind = draws[:, sizes > measured[1]] * (1 if leader == models[0] else -1) > 0
            share = float(behind.any(axis=1).mean())
            sight = "no crossing is in sight"
            if share >= _WORTH_SAYING:
                sight = f"{percent(share, 0)} of draws cross before {about(sizes[-1])}, too few to name a size"
            words = f"{leader} leads {span}, and {sight}"
            return CurveCrossing("leads", None, (None, None), share, leader, leader, measured, words)
    words = f"who leads {span} is undecided at this noise"
    return CurveCrossing("undecided", None, (None, None), None, None, None, measured, words)


def _interval(sizes: np.ndarray, draws: np.ndarray, final: float) -> tuple[tuple[float | None, float | None], float]:
    """Return the 95 % interval of the last change to the final sign, and the share of draws that have it."""
    where, num_changes, last = last_sign_change(sizes, draws)
    crossed = (num_changes > 0) & (last == final)
    # The final leader ahead throughout: crossed before the range; the other one ahead at its end: after it.
    places = np.where(crossed, where, np.where(last == final, 0.0, np.inf))
    low, high = np.quantile(places, [0.025, 0.975], method="inverted_cdf")
    ends = float(low) if low > 0 else None, float(high) if np.isfinite(high) else None
    return ends, float(crossed.mean())


def _interval_words(interval: tuple[float | None, float | None], sizes: np.ndarray) -> str:
    low = f"below {about(sizes[0])}" if interval[0] is None else about(interval[0])
    high = f"beyond {about(sizes[-1])}" if interval[1] is None else about(interval[1])
    return f"95 % interval {low} to {high}"
