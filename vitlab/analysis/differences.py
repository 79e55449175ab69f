"""How far two models are apart at each size: with an interval, a corrected p-value, and what would make it clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.image_comparison import McNemar
from vitlab.analysis.power import POWER, beliefs, seeds_to_clear
from vitlab.analysis.significance import ALPHA, holm, paired_p_values


@dataclass(frozen=True)
class Difference:
    """Error of the first model minus that of the second at one size.

    Args:
        train_size: in images.
        difference: of the mean errors over shared seeds.
        interval: 95 % interval, of this size alone; None with one seed.
        clear_leader: who leads beyond the noise, after the correction for the number of sizes; None if neither.
        num_seeds: seeds that both share.
        mean_errors: of the first and the second model over these seeds.
        p_value: of the paired test over seeds, of this size alone; None with one seed.
        adjusted_p_value: the same after Holm's correction over the sizes.
        spread: moderated standard deviation of the difference from seed to seed.
        degrees: degrees of freedom of the spread.
        test_level: level at which this size is tested next to those that are clear already.
        belief: the expected true difference, and the share of the seeds' variance that counts as doubt (power.py).
        more_seeds: seeds to add here to make the lead clear with 80 % power; None if it is clear, or beyond reach.
        mcnemar: the test over test images; None where no predictions are kept.
    """

    train_size: int
    difference: float
    interval: tuple[float, float] | None
    clear_leader: str | None
    num_seeds: int
    mean_errors: tuple[float, float]
    p_value: float | None = None
    adjusted_p_value: float | None = None
    spread: float | None = None
    degrees: int | None = None
    test_level: float | None = None
    belief: tuple[float, float] | None = None
    more_seeds: int | None = None
    mcnemar: McNemar | None = None

    def seeds_to_clear(self, power: float = POWER) -> int | None:
        """Return how many more seeds here make the lead clear, or None if it is beyond reach or nothing is known.

        Args:
            power: wanted chance of a clear lead, between 0 and 1.
        """
        if self.spread is None:
            return None
        measured = self.difference, self.spread, self.degrees, self.num_seeds
        return seeds_to_clear(*measured, self.test_level, self.belief, power)


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
    num_seeds = shared.sum(axis=1)
    # Rounded, so that no float dust makes a leader of equal means.
    mean_errors = np.round(np.where(shared, errors, 0.0).sum(axis=2) / num_seeds, 12)
    means = np.round(mean_errors[0] - mean_errors[1], 12)
    both = [tuple(pair) for pair in mean_errors.T.tolist()]
    if draws is None:
        rows = zip(train_sizes, means, num_seeds, both, strict=True)
        return [Difference(size, float(mean), None, None, int(seeds), pair) for size, mean, seeds, pair in rows]
    lows, highs = bootstrap.interval(draws[:, 0] - draws[:, 1])
    spread, degrees = bootstrap.paired_spread(errors)
    p_values = paired_p_values(means, spread, degrees, num_seeds)
    adjusted = holm(p_values)
    clear = adjusted < ALPHA
    level = ALPHA / max(int((~clear).sum()), 1)  # the next size to become clear is tested at this level
    expected, doubt = beliefs(means, spread, num_seeds, clear)
    result = []
    for n, size in enumerate(train_sizes):
        row = Difference(
            train_size=size,
            difference=float(means[n]),
            interval=(float(lows[n]), float(highs[n])),
            clear_leader=models[int(means[n] > 0)] if clear[n] else None,
            num_seeds=int(num_seeds[n]),
            mean_errors=both[n],
            p_value=float(p_values[n]),
            adjusted_p_value=float(adjusted[n]),
            spread=float(spread[n]),
            degrees=int(degrees[n]),
            test_level=level,
            belief=(float(expected[n]), doubt),
        )
        result.append(row if clear[n] else replace(row, more_seeds=row.seeds_to_clear()))
    return result


def correct_together(families: Sequence[tuple[tuple[str, str], Sequence[Difference]]]) -> list[list[Difference]]:
    """Return the differences with leads that are clear after one correction over all of them, whichever pair they are.

    Args:
        families: names of two models, with their differences by size.
    """
    tested = [row.p_value for _, rows in families for row in rows if row.p_value is not None]
    adjusted = iter(holm(np.array(tested)).tolist())
    result = []
    for models, rows in families:
        own = [row if row.p_value is None else replace(row, adjusted_p_value=next(adjusted)) for row in rows]
        result.append([_with_leader(models, row) for row in own])
    level = ALPHA / max(sum(row.p_value is not None and not row.clear_leader for rows in result for row in rows), 1)
    return [[_with_more_seeds(row, level) for row in rows] for rows in result]


def _with_leader(models: tuple[str, str], row: Difference) -> Difference:
    is_clear = row.adjusted_p_value is not None and row.adjusted_p_value < ALPHA
    return replace(row, clear_leader=models[int(row.difference > 0)] if is_clear else None)


def _with_more_seeds(row: Difference, level: float) -> Difference:
    if row.clear_leader:
        return replace(row, more_seeds=None)
    row = replace(row, test_level=level if row.p_value is not None else None)
    return replace(row, more_seeds=row.seeds_to_clear())
