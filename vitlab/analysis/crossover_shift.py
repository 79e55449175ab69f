"""Whether the crossover of two models lies elsewhere in one sweep than in another: the ratio of the two sizes.

Both crossovers are resampled, jointly where the sweeps share sizes, seeds and images; a resample in which the later
leader leads throughout, or does not lead at the largest size, crosses below or above all measured sizes and leaves an
end of the interval open. The crossovers differ where the 95 % interval of their ratio does not hold 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.lead_changes import places_of_change
from vitlab.analysis.selection import Point, paired_errors

_ENOUGH = 0.8  # share of resamples that must say something of the ratio


@dataclass(frozen=True)
class CrossoverShift:
    """How many times farther out the crossover of the second sweep is than that of the first.

    Args:
        ratio: crossover of the second over that of the first.
        interval: 95 % interval; None at an end that lies outside the measured sizes, and as a whole where seeds are too
            few.
        share_crossing: share of resamples in which both cross in this direction inside their measured sizes.
        is_paired: whether both were resampled jointly.
        has_moved: whether the interval excludes 1.
    """

    ratio: float
    interval: tuple[float | None, float | None] | None
    share_crossing: float | None
    is_paired: bool
    has_moved: bool


def measure_shift(
    points: Sequence[Point],
    pairs: tuple[tuple[str, str], tuple[str, str]],
    crossovers: tuple[float, float],
    afters: tuple[int, int],
    may_pair: bool,
    seed: int = 0,
) -> CrossoverShift:
    """Return the ratio of two crossovers with its interval.

    Args:
        points: of both sweeps, models called apart.
        pairs: the two models in the first and in the second sweep.
        crossovers: where they cross there, in images.
        afters: which of the two models, 0 or 1, leads in the end there.
        may_pair: whether equal seeds drew equal images in both sweeps.
        seed: seed of the bootstrap.
    """
    ratio = crossovers[1] / crossovers[0]
    places, is_paired = _resampled(points, pairs, afters, may_pair, seed)
    if places is None:
        return CrossoverShift(ratio, None, None, is_paired, False)
    known = (places[0] > 0) & (places[1] > 0) & np.isfinite(places).all(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = places[1] / places[0]
    told = ratios[~np.isnan(ratios)]  # both outside at one end say nothing of the ratio
    share = float(known.mean())
    if len(told) < _ENOUGH * len(ratios):
        return CrossoverShift(ratio, None, share, is_paired, False)
    low, high = (float(end) for end in bootstrap.interval(told))
    interval = (low if low > 0 else None, high if np.isfinite(high) else None)
    return CrossoverShift(ratio, interval, share, is_paired, low > 1 or high < 1)


def _resampled(
    points: Sequence[Point],
    pairs: tuple[tuple[str, str], tuple[str, str]],
    afters: tuple[int, int],
    may_pair: bool,
    seed: int,
) -> tuple[np.ndarray | None, bool]:
    """Return the places of both crossovers in each resample, (2, resamples), and whether they were drawn jointly."""
    own = [paired_errors(points, pair) for pair in pairs]
    sizes, errors = paired_errors(points, (*pairs[0], *pairs[1])) if may_pair else ([], None)
    names = zlib.crc32(" ".join((*pairs[0], *pairs[1])).encode())
    if sizes and sizes == own[0][0] == own[1][0]:
        _, draws = bootstrap.draw_means(errors, [seed, names])
        if draws is None:
            return None, True
        both = [places_of_change(sizes, draws[:, 2 * n : 2 * n + 2], afters[n]) for n in (0, 1)]
        return np.array(both), True
    drawn = [bootstrap.draw_means(errors, [seed, names, n])[1] for n, (_, errors) in enumerate(own)]
    if any(draws is None for draws in drawn):
        return None, False
    both = [places_of_change(own[n][0], drawn[n], afters[n]) for n in (0, 1)]
    return np.array(both), False
