"""A weighted sum of mean errors at each size, with its interval and p-value: a difference, or a difference of two.

Models whose seeds are shared stand in one group and are resampled together, so that what a seed does to all of them
cancels. Groups are independent: their variances add up, with the degrees of freedom of Welch (1947, Biometrika 34).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.significance import paired_p_values


@dataclass(frozen=True)
class Group:
    """Models on the same seeds.

    Args:
        errors: test errors, NaN where missing; every size has a seed that all models share.
        weights: of each model in the sum.

    Shape:
        errors: (models, sizes, seeds).
    """

    errors: np.ndarray
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of mean errors by size.

    Args:
        values: at each size.
        intervals: lower and upper ends of 95 % intervals, of each size alone; None where one seed leaves no noise to
            know.
        p_values: two-sided, of each size alone; None likewise.
        num_seeds: seeds of the group that has the fewest.

    Shape:
        values, p_values, num_seeds: (sizes,); intervals: two of them.
    """

    values: np.ndarray
    intervals: tuple[np.ndarray, np.ndarray] | None
    p_values: np.ndarray | None
    num_seeds: np.ndarray


def measure_contrast(groups: Sequence[Group], seed: int | list[int] = 0) -> Contrast:
    """Return the weighted sum over all groups at each size.

    Args:
        groups: of the same sizes.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a size has no seed that all models of a group share.
    """
    seeds = [seed] if isinstance(seed, int) else list(seed)
    values, draws, variances, degrees, num_seeds = [], [], [], [], []
    for number, group in enumerate(groups):
        weights = np.asarray(group.weights, dtype=float)
        means, drawn = bootstrap.draw_means(group.errors, [*seeds, number])
        shared = (~np.isnan(group.errors).any(axis=0)).sum(axis=1)
        values.append(weights @ means)
        num_seeds.append(shared)
        if drawn is not None:
            spread, total = bootstrap.contrast_spread(group.errors, group.weights)
            draws.append(np.tensordot(drawn, weights, axes=([1], [0])))
            variances.append(spread**2 / shared)
            degrees.append(total)
    summed = np.round(sum(values), 12)  # no float dust makes a difference of equal means
    fewest = np.min(num_seeds, axis=0)
    if len(draws) < len(groups):
        return Contrast(summed, None, None, fewest)
    variance = sum(variances)
    split = sum(own**2 / total for own, total in zip(variances, degrees, strict=True))
    welch = np.divide(variance**2, split, out=np.full(len(variance), float(np.min(degrees))), where=split > 0)
    p_values = paired_p_values(summed, np.sqrt(variance), welch, np.ones(len(variance)))
    return Contrast(summed, bootstrap.interval(sum(draws)), p_values, fewest)
