"""What a curve that never rises hides: rows that keep the best error so far lie below what a new measurement gives.

Published curves are often smoothed to a running minimum. Its steps tell how noisy the measurements were: on steep
stretches the minimum follows them, on level ones it stays at the luckiest of many. Running minima simulated at several
noise levels show which one leaves residuals as large as the curve's own, and by how much it lies too low there. For a
curve that falls faster than its noise the answer is nothing, so the correction needs no switch beyond "never rises".
How many measurements stand behind a row is not known: logs are rarely sparser than the rows kept of them and often much
denser, and two are assumed. Where a row is the best of more, the correction is too small rather than too large.
"""

from __future__ import annotations

import numpy as np

MIN_SIZES = 12  # a shorter curve falls at every step by chance, and its residuals say little
_DEGREE = 6  # of the polynomial in log size that stands for the curve's shape here
_PER_ROW = 2  # measurements behind a row
_NUM_CURVES = 150
_ROUNDS = 3  # the shape comes from the corrected curve, so the two are found in turns


def undo_running_best(log_sizes: np.ndarray, log_errors: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float | None]:
    """Return the log errors lifted to where the measurements were on average, and the noise of one measurement.

    Args:
        log_sizes: growing, at distinct sizes.
        log_errors: at each size.
        seed: seed of the simulated curves.

    Returns:
        The corrected log errors, and the standard deviation of one measurement's log error; the errors as they were
        and None for a curve that rises somewhere or is short.
    """
    num_sizes = len(log_sizes)
    if num_sizes < MIN_SIZES or (np.diff(log_errors) > 0).any() or log_errors[0] == log_errors[-1]:
        return log_errors, None
    degree = min(_DEGREE, num_sizes // 4)
    centered = 2 * (log_sizes - log_sizes[0]) / (log_sizes[-1] - log_sizes[0]) - 1
    shapes, _ = np.linalg.qr(np.polynomial.chebyshev.chebvander(centered, degree))

    def smooth(values: np.ndarray) -> np.ndarray:
        return values @ shapes @ shapes.T

    def roughness(values: np.ndarray) -> float:
        squares = ((values - smooth(values)) ** 2).sum(axis=-1)
        return float(np.sqrt(np.mean(squares) / (num_sizes - degree - 1)))

    def best_so_far(curves: np.ndarray) -> np.ndarray:
        return np.minimum.accumulate(curves, axis=1)[:, _PER_ROW - 1 :: _PER_ROW]

    measured = roughness(log_errors)
    places = np.interp(
        np.arange(1 - _PER_ROW, num_sizes * _PER_ROW - _PER_ROW + 1) / _PER_ROW, np.arange(num_sizes), log_sizes
    )
    noise = np.random.default_rng(seed).standard_normal((_NUM_CURVES, num_sizes * _PER_ROW))
    levels = measured * np.geomspace(0.8, 5.0, 20)
    bias, level = np.zeros(num_sizes), measured
    for _ in range(_ROUNDS):
        shape = smooth(log_errors - bias)
        between = np.interp(places, log_sizes, shape)
        minima = [
            np.minimum.accumulate(between + level * noise, axis=1)[:, _PER_ROW - 1 :: _PER_ROW] for level in levels
        ]
        rough = np.maximum.accumulate([roughness(curves) for curves in minima])
        level = float(np.interp(measured, rough, levels))
        nearest = np.interp(level, levels, np.arange(len(levels)))
        lows = [smooth(curves.mean(axis=0) - shape) for curves in minima]
        below, share = int(nearest), nearest % 1
        bias = (1 - share) * lows[below] + share * lows[min(below + 1, len(lows) - 1)]
    return log_errors - np.minimum(bias, 0.0), level
