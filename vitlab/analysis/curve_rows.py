"""The rows of one learning curve: a mean error for each size, how much it counts, and what is known of its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis.running_best import undo_running_best

MIN_SIZES = 3
_WORTH_SAYING = 0.001  # a lift of a tenth of a percent


@dataclass(frozen=True)
class CurveRows:
    """Rows of a curve, one a size.

    Args:
        sizes: growing and distinct.
        errors: mean over the seeds, as measured.
        log_sizes: counted from their mean.
        log_errors: of the mean errors; lifted where the rows are a running best.
        weights: one over the variance of the log error, as far as it is known; 1 on average.
        lift: by how much, at most, the log errors were lifted; 0 where they were not.
        noise: standard deviation of one measurement's log error; None if only the scatter around a fit can tell.
        by_seed: log errors of the single measurements at each size.
        remark: what was done to the rows, in words; empty if nothing.
    """

    sizes: np.ndarray
    errors: np.ndarray
    log_sizes: np.ndarray
    log_errors: np.ndarray
    weights: np.ndarray
    lift: float
    noise: float | None
    by_seed: list[np.ndarray]
    remark: str

    @property
    def length(self) -> float:
        """Return how long the curve is, in e-folds of size."""
        return float(self.log_sizes[-1] - self.log_sizes[0])

    def window(self, num_rows: int, share: float) -> np.ndarray:
        """Return which rows the last share, in log size, of the first `num_rows` rows holds."""
        first, last = self.log_sizes[0], self.log_sizes[num_rows - 1]
        kept = self.log_sizes >= last - share * (last - first) - 1e-9
        return kept & (np.arange(len(self.sizes)) < num_rows)

    def resample(self, scatter: float, count: int, seed: int) -> np.ndarray:
        """Return log errors of resamples: over the seeds of a size where it has several, else around the row.

        Args:
            scatter: standard deviation of the rows around the curve, for sizes with one measurement.
            count: how many resamples.
            seed: seed of the resamples.

        Shape:
            result: (count, sizes).
        """
        rng = np.random.default_rng([seed, 1])
        shifts = scatter * rng.standard_normal((count, len(self.sizes)))
        for index, values in enumerate(self.by_seed):
            if len(values) > 1:
                # A bootstrap of k values is too narrow by (k - 1) / k in variance: a lot for three seeds.
                widened = np.sqrt(len(values) / (len(values) - 1))
                drawn = rng.choice(values, (count, len(values))).mean(axis=1)
                shifts[:, index] = widened * (drawn - values.mean())
        return self.log_errors + shifts


def gather_rows(sizes: Sequence[float], errors: Sequence[float], seed: int = 0) -> CurveRows:
    """Return the rows of a curve from its measurements.

    Args:
        sizes: numbers of images or examples, above 0, in any order; one entry for each seed.
        errors: above 0, in the same order.
        seed: seed of the curves that are simulated to undo a running best.

    Raises:
        ValueError: if a size or error is not positive and finite, or there are fewer than three different sizes.
    """
    sizes, errors = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    both = sizes.shape == errors.shape and np.isfinite(sizes).all() and np.isfinite(errors).all()
    if not both or (sizes <= 0).any() or (errors <= 0).any():
        raise ValueError(f"a curve needs one positive error per positive size; got sizes {sizes} and errors {errors}")
    distinct = np.unique(sizes)
    if len(distinct) < MIN_SIZES:
        raise ValueError(f"a curve needs {MIN_SIZES} different sizes or more; got {len(distinct)}: measure more sizes")
    by_seed = [np.log(errors[sizes == size]) for size in distinct]
    counts = np.array([len(values) for values in by_seed])
    means = np.array([errors[sizes == size].mean() for size in distinct])
    log_sizes, log_errors = np.log(distinct), np.log(means)
    lift, remark = 0.0, ""
    if (counts > 1).any():
        noise, weights = _weights_from_seeds(by_seed, counts)
    else:
        weights = np.ones(len(distinct))
        lifted, noise = undo_running_best(log_sizes, log_errors, seed)
        lift = float((lifted - log_errors).max())
        if lift > _WORTH_SAYING:
            remark = f"never rising: taken for the best so far and lifted by up to {100 * np.expm1(lift):.1f} %"
        log_errors = lifted
    log_sizes = log_sizes - log_sizes.mean()
    return CurveRows(distinct, means, log_sizes, log_errors, weights, lift, noise, by_seed, remark)


def _weights_from_seeds(by_seed: list[np.ndarray], counts: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the pooled noise of one seed, and weights from each size's own variance, drawn to the pooled one.

    Two or three seeds at a size hardly know their variance: it is averaged with the pooled one, which counts as much
    as four seeds do.
    """
    squares = np.array([((values - values.mean()) ** 2).sum() for values in by_seed])
    pooled = squares.sum() / (counts - 1).sum()
    own = (squares + 4 * pooled) / (counts - 1 + 4)
    if pooled == 0:
        return 0.0, counts / counts.mean()
    weights = counts / own
    return float(np.sqrt(pooled)), weights / weights.mean()
