"""How many times more training images one model needs for the other's error.

Each mean curve is made non-rising (running minimum over sizes) and interpolated in log-log. At an error level that
both reach inside their measured range, the ratio is the images the one needs over the images the other needs; the
ratio given is the geometric mean over evenly spaced log levels, and single levels have their own. Nothing is
extrapolated: a level that only one model reaches has no ratio, and leaves an end of an interval open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.wording import percent, significant, the

NUM_LEVELS = 33
_SHOWN_LEVELS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # of the way from the highest shared level to the lowest
_NARROWEST = 1.02  # levels that span less than 2 % of the error are one point, not a range
_FLOOR = 1e-4  # stands in for an error of zero, which has no logarithm


@dataclass(frozen=True)
class DataEfficiency:
    """How many times the images of one model the other needs.

    Args:
        ratio: geometric mean over the levels, images of `needs_more` over images of `needs_less`; None if no level.
        reason: why there is no ratio, or a caveat, in words; empty if nothing needs saying.
        interval: 95 % interval of the ratio; may reach below 1 where the direction is not certain; None with one seed.
        needs_more: the less data-efficient model.
        needs_less: the more data-efficient one.
        error_levels: lowest and highest test error that both reach.
        ratio_at_high_error: ratio at the highest of the levels (few images).
        ratio_at_low_error: ratio at the lowest of the levels (many images).
        at_sizes: for each measured size of `needs_less`: the ratio for its error there, or None and the bound.
        at_levels: for a few error levels from high to low: the images each model needs, the ratio and its 95 %
            interval; None at an end that the measured range leaves open, and as a whole with one seed.
    """

    ratio: float | None
    reason: str
    interval: tuple[float, float] | None
    needs_more: str | None
    needs_less: str | None
    error_levels: tuple[float, float] | None
    ratio_at_high_error: float | None
    ratio_at_low_error: float | None
    at_sizes: list[dict]
    at_levels: list[dict] = field(default_factory=list)

    @property
    def words(self) -> str:
        """Return all this as half a sentence."""
        if self.ratio is None:
            return self.reason
        low, high = (percent(level) for level in self.error_levels)
        interval = ""
        if self.interval is not None:
            interval = f" (95 % interval {significant(self.interval[0])} to {significant(self.interval[1])})"
        words = (
            f"{the(self.needs_more)} needs {significant(self.ratio)} times{interval} the images of "
            f"{the(self.needs_less)} for the same error; levels {low} to {high} error"
        )
        ends = self.ratio_at_high_error, self.ratio_at_low_error
        if min(ends) < 0.95 and max(ends) > 1.05:
            words += f"; {significant(ends[0])} times at {high} error, {significant(ends[1])} times at {low}"
        return words


def images_needed(train_sizes: Sequence[int], errors: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return how many images each curve needs to reach each level; NaN outside its measured range.

    Args:
        train_sizes: growing sizes, in images.
        errors: mean errors, above 0.
        levels: error levels, above 0.

    Shape:
        errors: (rows, sizes); levels: (rows, levels); result: (rows, levels).
    """
    log_sizes = np.log(np.asarray(train_sizes, dtype=float))
    curve = np.log(np.minimum.accumulate(errors, axis=1))
    log_levels = np.log(levels)
    reached = curve[:, None, :] <= log_levels[:, :, None] + 1e-12  # (rows, levels, sizes)
    first = np.argmax(reached, axis=2)
    previous = np.maximum(first - 1, 0)
    rows = np.arange(len(curve))[:, None]
    high, low = curve[rows, previous], curve[rows, first]
    drop = np.where(first > 0, high - low, 1.0)
    step = np.clip((high - log_levels) / drop, 0.0, 1.0)
    needed = np.exp(log_sizes[previous] + step * (log_sizes[first] - log_sizes[previous]))
    above = log_levels > curve[:, :1] + 1e-12  # reached with fewer images than the smallest measured size
    return np.where(reached.any(axis=2) & ~above, needed, np.nan)


def compare_efficiency(
    models: tuple[str, str], train_sizes: Sequence[int], means: np.ndarray, draws: np.ndarray | None
) -> DataEfficiency:
    """Return the data-efficiency ratio of two models with its interval.

    Args:
        models: first and second name.
        train_sizes: growing sizes, in images.
        means: mean errors.
        draws: resampled mean errors, or None with one seed.

    Shape:
        means: (2, sizes); draws: (resamples, 2, sizes).
    """
    means = np.maximum(means, _FLOOR)
    log_ratios, levels = _log_ratios(train_sizes, means[None])
    if np.isnan(log_ratios).any():
        return _without_ratio(models, means)
    log_ratio = float(log_ratios[0].mean())
    sign = 1.0 if log_ratio >= 0 else -1.0
    more, less = models if sign > 0 else models[::-1]
    interval, caveat = _interval(train_sizes, draws, sign)
    if draws is not None and interval is None:  # the means happen to share a range, and seeds like these often do not
        return DataEfficiency(None, caveat, None, None, None, None, None, None, [])
    ends = [float(np.exp(sign * log_ratios[0, end])) for end in (0, -1)]
    order = [0, 1] if sign > 0 else [1, 0]
    return DataEfficiency(
        ratio=float(np.exp(sign * log_ratio)),
        reason=caveat,
        interval=interval,
        needs_more=more,
        needs_less=less,
        error_levels=(float(levels[0, -1]), float(levels[0, 0])),
        ratio_at_high_error=ends[0],
        ratio_at_low_error=ends[1],
        at_sizes=_at_sizes(train_sizes, means[order]),
        at_levels=_at_levels(models, train_sizes, means, draws, order),
    )


def _log_ratios(train_sizes: Sequence[int], errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log(images of first / images of second), high to low levels; NaN in rows that share no level."""
    best = np.minimum.accumulate(errors, axis=2)  # (rows, 2, sizes)
    high, low = best[:, :, 0].min(axis=1), best[:, :, -1].max(axis=1)
    shared = high >= low * _NARROWEST
    high, low = np.where(shared, high, np.nan), np.where(shared, low, np.nan)
    steps = np.linspace(0.0, 1.0, NUM_LEVELS)
    levels = np.exp(np.log(high)[:, None] * (1 - steps) + np.log(low)[:, None] * steps)
    first, second = (images_needed(train_sizes, best[:, model], levels) for model in (0, 1))
    return np.log(first / second), levels


def _interval(
    train_sizes: Sequence[int], draws: np.ndarray | None, sign: float
) -> tuple[tuple[float, float] | None, str]:
    if draws is None:
        return None, "one seed per size: no interval"
    log_ratios, _ = _log_ratios(train_sizes, np.maximum(draws, _FLOOR))
    ratios = sign * log_ratios.mean(axis=1)
    ratios = ratios[~np.isnan(ratios)]
    share = len(ratios) / len(draws)
    if share < 0.8:
        return None, (
            f"no ratio: only {percent(share, 0)} of resamples have an error level that both models reach, so how many "
            "times the images one of them needs is open"
        )
    low, high = bootstrap.interval(np.exp(ratios))
    return (float(low), float(high)), ""


def _at_sizes(train_sizes: Sequence[int], ordered: np.ndarray) -> list[dict]:
    """Return how many times its images the first model needs for the second's error at each size."""
    best = np.minimum.accumulate(ordered, axis=1)
    needed = images_needed(train_sizes, best[:1], best[1:])[0]
    rows = []
    for size, level, images in zip(train_sizes, best[1], needed, strict=True):
        ratio, bound = (None, None) if np.isnan(images) else (float(images / size), None)
        if ratio is None:
            never = best[0, -1] > level
            bound = f"more than {significant(train_sizes[-1] / size)}" if never else None
            bound = bound or f"less than {significant(train_sizes[0] / size)}"
        rows.append({"train_size": int(size), "error": float(level), "ratio": ratio, "bound": bound})
    return rows


def _at_levels(
    models: tuple[str, str], train_sizes: Sequence[int], means: np.ndarray, draws: np.ndarray | None, order: list[int]
) -> list[dict]:
    """Return ratio and interval at a few levels, images of the model that needs more over those of the other."""
    best = np.minimum.accumulate(means, axis=1)
    high, low = best[:, 0].min(), best[:, -1].max()
    levels = np.exp(np.log(high) * (1 - _SHOWN_LEVELS) + np.log(low) * _SHOWN_LEVELS)
    more, less = (images_needed(train_sizes, best[[model]], levels[None])[0] for model in order)
    intervals = [None] * len(levels) if draws is None else _level_intervals(train_sizes, draws[:, order], levels)
    return [
        {
            "error": float(level),
            "images": {models[order[0]]: float(one), models[order[1]]: float(other)},
            "ratio": float(one / other),
            "interval": interval,
        }
        for level, one, other, interval in zip(levels, more, less, intervals, strict=True)
    ]


def _level_intervals(
    train_sizes: Sequence[int], draws: np.ndarray, levels: np.ndarray
) -> list[tuple[float | None, float | None]]:
    """Return the interval of each level's ratio; resamples that reach it outside the range count as beyond an end."""
    draws = np.maximum(draws, _FLOOR)
    repeated = np.broadcast_to(levels, (len(draws), len(levels)))
    needed = []
    for model in (0, 1):
        best = np.minimum.accumulate(draws[:, model], axis=1)
        images = images_needed(train_sizes, best, repeated)
        never = best[:, -1:] > levels
        needed.append(np.where(np.isnan(images), np.where(never, np.inf, 0.0), images))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = needed[0] / needed[1]
    intervals = []
    for at_level in ratios.T:
        known = at_level[~np.isnan(at_level)]  # both outside the range says nothing
        low, high = (float(end) for end in bootstrap.interval(known)) if len(known) else (0.0, np.inf)
        intervals.append((low if low > 0 else None, high if np.isfinite(high) else None))
    return intervals


def _without_ratio(models: tuple[str, str], means: np.ndarray) -> DataEfficiency:
    best, first = means.min(axis=1), means[:, 0]
    ahead = 0 if best[0] <= best[1] else 1
    if best[1 - ahead] >= first[ahead]:
        reason = (
            f"no ratio: {the(models[1 - ahead])} never gets below {percent(best[1 - ahead])} error, "
            f"which {the(models[ahead])} is at from the smallest size on"
        )
    else:
        reason = "no ratio: the curves share no range of error levels"
    return DataEfficiency(None, reason, None, None, None, None, None, None, [])
