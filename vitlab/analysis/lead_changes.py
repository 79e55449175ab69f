"""Where curves that are known at a few sizes change the lead, and between which sizes no lead is clear.

Between measured sizes the logarithm of each error is drawn as a piecewise cubic in log(train size) that does not
overshoot (Fritsch and Carlson 1980, doi:10.1137/0717021). Straight lines would be simpler, but learning curves bend:
where two cross between measured sizes is then off by up to their noise, and 95 % intervals cover less than 90 %.

The interval is the set of sizes at which the resamples do not agree who leads: at its ends 2.5 % of them say the
contrary. For a single crossing that is the percentile interval of the resamples' crossings, and the inverted test of
"no difference here" (Fieller 1954, JRSS B 16(2)).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

STEPS = 32  # places tried between two measured sizes
_TAIL = 0.025
_FLOOR = 1e-3  # added to errors: zero has no logarithm, and the lead stays whose it is


def signs_of_leads(differences: np.ndarray) -> np.ndarray:
    """Return the sign of each difference; a tie (0) counts for whoever led before it, or else after it.

    Args:
        differences: by growing size.

    Shape:
        differences and result: (rows, sizes).
    """
    signs = np.sign(differences)
    for size in range(1, signs.shape[1]):
        signs[:, size] = np.where(signs[:, size] == 0, signs[:, size - 1], signs[:, size])
    for size in range(signs.shape[1] - 2, -1, -1):  # ties before the first lead belong to it
        signs[:, size] = np.where(signs[:, size] == 0, signs[:, size + 1], signs[:, size])
    return signs


def last_sign_change(train_sizes: Sequence[int], differences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each row where its sign last changes (NaN if never), how often it does, and the last sign.

    Rows are joined by straight lines in log(train size): for curves known at many sizes.

    Args:
        train_sizes: growing sizes, in images.
        differences: a tie (0) counts for whoever led before it.

    Shape:
        differences: (rows, sizes); each result: (rows,).
    """
    signs = signs_of_leads(differences)
    if signs.shape[1] < 2:
        return np.full(len(signs), np.nan), np.zeros(len(signs), dtype=int), signs[:, -1]
    changes = signs[:, 1:] != signs[:, :-1]
    num_changes = changes.sum(axis=1)
    last = changes.shape[1] - 1 - np.argmax(changes[:, ::-1], axis=1)
    rows = np.arange(len(signs))
    before, after = differences[rows, last], differences[rows, last + 1]
    gap = np.where(num_changes > 0, before - after, 1.0)
    log_sizes = np.log(np.asarray(train_sizes, dtype=float))
    where = np.exp(log_sizes[last] + before / gap * (log_sizes[last + 1] - log_sizes[last]))
    return np.where(num_changes > 0, where, np.nan), num_changes, signs[:, -1]


def last_change(
    train_sizes: Sequence[int], errors: np.ndarray, first: int = 0, last: int | None = None
) -> tuple[float | None, int]:
    """Return where the lead last changes, in images (None if never), and how often it does.

    Args:
        train_sizes: growing sizes, in images.
        errors: of both models.
        first: index of the size from which on changes count.
        last: index of the size up to which they count; by default the largest.

    Shape:
        errors: (2, sizes).
    """
    last = len(train_sizes) - 1 if last is None else last
    signs = signs_of_leads((errors[0] - errors[1])[None])[0, first : last + 1]
    changes = first + np.nonzero(signs[1:] != signs[:-1])[0]
    if not len(changes):
        return None, 0
    log_sizes = np.log(np.asarray(train_sizes, dtype=float))
    curves = _curves(log_sizes, errors)
    ends = log_sizes[changes[-1]], log_sizes[changes[-1] + 1]
    return float(np.exp(brentq(lambda place: np.subtract(*curves(place)), *ends))), len(changes)


def share_that_changes(draws: np.ndarray, leader: int) -> float:
    """Return the share of resamples in which one model leads at some size and the other at a later one.

    Args:
        draws: resampled mean errors.
        leader: index of the model that leads first, 0 or 1.

    Shape:
        draws: (resamples, 2, sizes).
    """
    ahead = signs_of_leads(draws[:, 1 - leader] - draws[:, leader]) > 0
    return float((ahead[:, :-1] & ~ahead[:, 1:]).any(axis=1).mean())


def places_of_change(train_sizes: Sequence[int], draws: np.ndarray, after: int) -> np.ndarray:
    """Return where in each resample one model takes the lead for good, in images.

    Args:
        train_sizes: growing sizes, in images.
        draws: resampled mean errors.
        after: index of the model that leads in the end, 0 or 1.

    Shape:
        draws: (resamples, 2, sizes); result: (resamples,), 0 where the model leads throughout and infinity where it
        does not lead at the largest size.
    """
    log_sizes = np.log(np.asarray(train_sizes, dtype=float))
    places = places_between(train_sizes)
    one, other = np.moveaxis(_curves(log_sizes, draws)(places), 1, 0)
    ahead = other - one if after else one - other  # below 0 where `after` leads
    where, _, last = last_sign_change(np.exp(places), ahead)
    return np.where(last < 0, np.nan_to_num(where, nan=0.0), np.inf)


def unclear_sizes(
    train_sizes: Sequence[int], draws: np.ndarray, first: int | None, last: int | None
) -> tuple[float | None, float | None]:
    """Return from which size to which the resamples do not agree who leads.

    Args:
        train_sizes: growing sizes, in images.
        draws: resampled mean errors.
        first: index of the size at which one model leads for certain, or None if it leads nowhere so; the lower end is
            None (below the measured range) where the leads are unclear from the smallest size on.
        last: index of the size at which the other leads for certain, or None; the upper end likewise.

    Shape:
        draws: (resamples, 2, sizes).
    """
    places = places_between(train_sizes)
    places = places[(first or 0) * STEPS : (len(places) if last is None else last * STEPS + 1)]
    low, high, is_open_below, is_open_above = ends_of_doubt(places, shares_ahead(train_sizes, draws[None], places)[0])
    open_below = first is None and is_open_below
    open_above = last is None and is_open_above
    return None if open_below else float(np.exp(low)), None if open_above else float(np.exp(high))


def places_between(train_sizes: Sequence[int], steps: int = STEPS) -> np.ndarray:
    """Return places in log(train size) from the smallest to the largest size, each size among them.

    Args:
        train_sizes: growing sizes, in images.
        steps: from one size to the next.
    """
    log_sizes = np.log(np.asarray(train_sizes, dtype=float))
    segments = [np.linspace(*ends, steps, endpoint=False) for ends in itertools.pairwise(log_sizes)]
    return np.append(np.concatenate([np.empty(0), *segments]), log_sizes[-1])


def shares_ahead(train_sizes: Sequence[int], draws: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the share of resamples in which the first model has the higher error, between the measured sizes.

    Args:
        train_sizes: growing sizes, in images; two or more.
        draws: resampled mean errors of several outcomes.
        places: log(train size), within the measured sizes.

    Shape:
        draws: (outcomes, resamples, 2, sizes); places: (places,); result: (outcomes, places).
    """
    curves = _curves(np.log(np.asarray(train_sizes, dtype=float)), draws)(places)
    one, other = curves[:, :, 0], curves[:, :, 1]
    return (one > other).mean(axis=1) + (one == other).mean(axis=1) / 2


def ends_of_doubt(places: np.ndarray, share: np.ndarray) -> tuple[float, float, bool, bool]:
    """Return between which places the resamples do not agree who leads, and whether they do not at the first and last.

    Args:
        places: growing.
        share: of the resamples in which the first model has the higher error.

    Shape:
        both: (places,).
    """
    unclear = np.nonzero(in_doubt(share))[0]
    if len(unclear):
        lowest, highest = unclear[0], unclear[-1]
    else:  # the change falls between two places that were tried
        highest = int(np.argmax(np.abs(np.diff(share))))
        lowest = highest + 1
    low = _end(places, share, lowest, lowest - 1) if lowest > 0 else places[0]
    high = _end(places, share, highest, highest + 1) if highest + 1 < len(places) else places[-1]
    return float(low), float(high), bool(lowest == 0), bool(highest + 1 == len(places))


def in_doubt(share: np.ndarray) -> np.ndarray:
    """Return where the resamples do not agree who leads: more than 2.5 % of them say the contrary of the others."""
    return (share >= _TAIL) & (share <= 1 - _TAIL)


def errors_at(train_sizes: Sequence[int], errors: np.ndarray, train_size: float) -> np.ndarray:
    """Return errors at a size that was not measured: on the curves between the sizes, on straight lines beyond them.

    Both in logarithms of size and error, so that a line is a power law through the two nearest sizes.

    Args:
        train_sizes: growing sizes, in images; two or more.
        errors: mean errors.
        train_size: the wanted size, in images.

    Shape:
        errors: (rows, 2, sizes); result: (rows, 2).
    """
    log_sizes, place = np.log(np.asarray(train_sizes, dtype=float)), np.log(train_size)
    if log_sizes[0] <= place <= log_sizes[-1]:
        logs = _curves(log_sizes, errors)(place)
    else:
        near, far = (0, 1) if place < log_sizes[0] else (-1, -2)
        ends = np.log(errors[..., near] + _FLOOR), np.log(errors[..., far] + _FLOOR)
        logs = ends[0] + (ends[0] - ends[1]) * (place - log_sizes[near]) / (log_sizes[near] - log_sizes[far])
    return np.clip(np.exp(logs) - _FLOOR, 0.0, 1.0)


def _end(places: np.ndarray, share: np.ndarray, unclear: int, clear: int) -> float:
    """Return where between two neighboring places the share of resamples leaves the tails."""
    level = 1 - _TAIL if share[clear] > 1 - _TAIL else _TAIL
    step = (level - share[clear]) / (share[unclear] - share[clear])
    return places[clear] + step * (places[unclear] - places[clear])


def _curves(log_sizes: np.ndarray, errors: np.ndarray) -> PchipInterpolator:
    return PchipInterpolator(log_sizes, np.log(errors + _FLOOR), axis=-1)
