"""The bootstrap over seeds: what the mean errors might have been with other seeds.

A seed is one draw of the nested subsets, one order of the images and one set of initial weights, shared by all models
and sizes; so it is the unit that is resampled, jointly for all models (paired) and sizes. Sampling three seeds with
replacement knows only ten different results, all between the lowest and the highest seed: such an interval covers at
most 75 % where it says 95 %. We use random weights on the seeds' deviations instead (multiplier bootstrap; Wu 1986,
Annals of Statistics 14(4)), with Student's tails, which is exact for means of normal noise at any number of seeds.

Two or three seeds say little about their own spread. A size's spread is therefore moderated by that of the other sizes
(Smyth 2004, doi:10.2202/1544-6115.1027), which count like `BORROWED_DEGREES` more seeds. Deviations travel between
sizes in units of sqrt(error (1 - error)), the way test noise scales. Beyond that, noise tends to shrink as images
become many, so near sizes count more than far ones: by one over the square of the distance in the list of sizes. Three
degrees and no more, because what a seed does at one size it partly repeats at the next, which is no new evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BORROWED_DEGREES = 3
NUM_RESAMPLES = 4000
_SMALLEST_ERROR = 1e-3  # keeps the unit of a size without any error above zero


def draw_means(
    errors: np.ndarray,
    seed: int | list[int] = 0,
    num_resamples: int = NUM_RESAMPLES,
    largest: float | None = 1.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mean errors and resamples of them.

    Args:
        errors: error rates between 0 and 1; NaN where a trial is missing. A seed that one model lacks at a size is left
            out for all models there, so that means stay paired.
        seed: seed of the resampling.
        num_resamples: how many resamples to draw.
        largest: 1 for error rates; None for another quantity that is 0 or more and has no end, such as NLL, whose noise
            scales with its mean.

    Shape:
        errors: (models, sizes, seeds); means: (models, sizes); resamples: (num_resamples, models, sizes), or None where
        no size has two seeds, since one seed says nothing about noise.

    Raises:
        ValueError: if a size has no seed that all models share.
    """
    means, deviations, num_seeds = _around_means(errors)
    if not (num_seeds > 1).any():
        return means, None
    unit = _unit(means) if largest == 1.0 else np.maximum(means, _SMALLEST_ERROR)
    noise = _noise(deviations, unit, num_seeds - 1, np.random.default_rng(seed), num_resamples)
    return means, np.clip(means + noise / np.sqrt(num_seeds), 0.0, largest)


def paired_spread(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return how far the difference between two models varies from seed to seed, moderated as in the resamples.

    Args:
        errors: as for `draw_means`, of two models.

    Shape:
        errors: (2, sizes, seeds); standard deviations and their degrees of freedom: (sizes,) each, or None where no
        size has two seeds.

    Raises:
        ValueError: if a size has no seed that both models share.
    """
    return contrast_spread(errors, (1.0, -1.0))


def contrast_spread(errors: np.ndarray, weights: Sequence[float]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return how far a weighted sum of the models' errors varies from seed to seed, moderated as in the resamples.

    Args:
        errors: as for `draw_means`.
        weights: of each model, such as (1, -1) for a difference.

    Shape:
        errors: (models, sizes, seeds); standard deviations and their degrees of freedom: (sizes,) each, or None where
        no size has two seeds.

    Raises:
        ValueError: if a size has no seed that all models share.
    """
    means, deviations, num_seeds = _around_means(errors)
    degrees = num_seeds - 1
    if not degrees.any():
        return None
    in_units = deviations / _unit(means)[:, :, None]
    spread, total = np.empty(len(degrees)), np.empty(len(degrees), dtype=int)
    for size, unit in enumerate(_unit(means).T):
        summed = np.tensordot(np.asarray(weights) * unit, in_units, axes=1)  # (sizes, seeds), in this size's own units
        squares = (summed**2).sum(axis=1)
        shares, borrowed = _borrowing(degrees, size)
        total[size] = degrees[size] + borrowed
        spread[size] = np.sqrt((squares[size] + shares @ squares) / total[size])
    return spread, total


def interval(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends over the first axis; infinite draws are allowed.

    Args:
        draws: resamples along the first axis.
        level: share of the resamples inside, between 0 and 1.
    """
    tail = (1 - level) / 2
    # inverted_cdf picks an actual draw: interpolating between a number and infinity would give NaN.
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return low, high


def _around_means(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the means (models, sizes), the deviations from them (0 where missing) and the shared seeds by size."""
    errors = np.asarray(errors, dtype=float)
    present = ~np.isnan(errors).any(axis=0)  # (sizes, seeds)
    num_seeds = present.sum(axis=1)
    if errors.ndim != 3 or (num_seeds == 0).any():
        raise ValueError("errors must be (models, sizes, seeds) with at least one shared seed per size")
    filled = np.where(present, errors, 0.0)
    means = filled.sum(axis=2) / num_seeds
    return means, np.where(present, filled - means[:, :, None], 0.0), num_seeds


def _unit(means: np.ndarray) -> np.ndarray:
    bounded = np.clip(means, _SMALLEST_ERROR, 1 - _SMALLEST_ERROR)
    return np.sqrt(bounded * (1 - bounded))  # (models, sizes)


def _borrowing(degrees: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Return how much each other size's squared deviations count at this one, and for how many degrees in all."""
    distance = np.abs(np.arange(len(degrees)) - size)
    weights = np.divide(1.0, distance**2, out=np.zeros(len(degrees)), where=(distance > 0) & (degrees > 0))
    weighted = weights @ degrees
    if weighted == 0:
        return weights, 0
    # Of a weighted sum of squares (Satterthwaite 1946), rounded down: never more than the seeds elsewhere have.
    borrowed = min(BORROWED_DEGREES, max(1, int(weighted**2 / (weights**2 @ degrees))))
    return weights * (borrowed / weighted), borrowed


def _noise(
    deviations: np.ndarray, unit: np.ndarray, degrees: np.ndarray, rng: np.random.Generator, num_resamples: int
) -> np.ndarray:
    """Draw noise with each size's moderated covariance between models; (num_resamples, models, sizes)."""
    num_models, num_sizes, num_seeds = deviations.shape
    own = rng.standard_normal((num_resamples, num_seeds))
    noise = np.empty((num_resamples, num_models, num_sizes))
    for size in range(num_sizes):
        weights, borrowed = _borrowing(degrees, size)
        total = degrees[size] + borrowed
        draw = own @ deviations[:, size].T  # the same weight per seed at every size keeps sizes correlated as measured
        if borrowed:
            pooled = np.sqrt(weights)[:, None] * deviations / unit[:, :, None] * unit[:, size, None, None]
            draw = draw + rng.standard_normal((num_resamples, num_sizes * num_seeds)) @ pooled.reshape(num_models, -1).T
        student = np.sqrt(total / rng.chisquare(total, num_resamples))
        noise[:, :, size] = draw / np.sqrt(total) * student[:, None]
    return noise
