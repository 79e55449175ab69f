"""Whether two models differ at a size: over seeds (a paired t-test) and over test images (McNemar), corrected.

The t-test takes the differences seed by seed and the moderated spread of the bootstrap (bootstrap.py), so that without
a correction it says the same as the 95 % interval. With two models that are compared at many sizes, one in twenty
would differ by chance; Holm's step-down correction (1979, Scandinavian Journal of Statistics 6(2)) keeps the chance
that any of a family of tests is wrong at 5 %, whatever the dependence between them.

McNemar's test (1947, Psychometrika 12(2)) asks of one trained network each whether they err on different images more
often in one direction than in the other. It says nothing about other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special  # scipy.stats has the same and takes half a second more to import

ALPHA = 0.05  # chance that any of the corrected tests of a pair of models is wrong


@dataclass(frozen=True)
class McNemar:
    """How two networks' mistakes differ on the same test images.

    Args:
        first_only: images that only the first has right.
        second_only: images that only the second has right.
        p_value: of the exact two-sided test.
        adjusted_p_value: the same after Holm's correction over the sizes.
    """

    first_only: int
    second_only: int
    p_value: float
    adjusted_p_value: float


def paired_p_values(
    differences: np.ndarray, spread: np.ndarray, degrees: np.ndarray, num_seeds: np.ndarray
) -> np.ndarray:
    """Return two-sided p-values of mean paired differences.

    Args:
        differences: mean error of the first minus that of the second.
        spread: standard deviation of the difference from seed to seed.
        degrees: degrees of freedom of the spread, above 0.
        num_seeds: seeds that both share, 1 or more.

    Shape:
        all: (sizes,).
    """
    error = np.asarray(spread, dtype=float) / np.sqrt(num_seeds)
    distance = np.abs(np.asarray(differences, dtype=float))
    beyond = np.where(distance > 0, np.inf, 0.0)  # seeds that all agree leave no doubt, and no difference no lead
    statistic = np.divide(distance, error, out=beyond, where=error > 0)
    return 2 * special.stdtr(degrees, -statistic)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values after Holm's correction: below 0.05, and all such leads are real with 95 % probability.

    Args:
        p_values: between 0 and 1.

    Shape:
        p_values and result: (tests,).
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Return McNemar's exact test of two networks on the same test images.

    Args:
        first: which test images the first has right.
        second: which the second has right, in the same order.

    Shape:
        both: (images,), boolean.

    Raises:
        ValueError: if the two do not list the same number of images.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"predictions must be of the same images, one entry each; got shapes {first.shape} and {second.shape}"
        )
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    # The binomial test is exact for few such images, and for many it equals the usual chi-square approximation.
    p_value = min(1.0, 2 * float(special.bdtr(min(one, other), one + other, 0.5)))
    return McNemar(one, other, p_value, p_value)


def mcnemar_by_size(predictions: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> dict[int, McNemar]:
    """Return McNemar's test at each size, corrected for the number of sizes.

    Args:
        predictions: by train size, which test images the first and the second network have right.

    Raises:
        ValueError: if two networks at a size do not list the same number of images.
    """
    tests = {size: mcnemar(first, second) for size, (first, second) in sorted(predictions.items())}
    adjusted = holm(np.array([test.p_value for test in tests.values()]))
    return {
        size: replace(test, adjusted_p_value=float(p)) for (size, test), p in zip(tests.items(), adjusted, strict=True)
    }
