"""Whether two models differ at a size beyond the noise of seeds: a paired t-test, corrected for the number of sizes.

The t-test takes the differences seed by seed and the moderated spread of the bootstrap (bootstrap.py), so that without
a correction it says the same as the 95 % interval. With two models that are compared at many sizes, one in twenty
would differ by chance; Holm's step-down correction (1979, Scandinavian Journal of Statistics 6(2)) keeps the chance
that any of a family of tests is wrong at 5 %, whatever the dependence between them. Whether they differ beyond the
choice of the test images is another question: image_comparison.py.
"""

from __future__ import annotations

import numpy as np
from scipy import special  # scipy.stats has the same and takes half a second more to import

ALPHA = 0.05  # chance that any of the corrected tests of a pair of models is wrong


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
