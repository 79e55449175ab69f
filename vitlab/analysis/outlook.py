"""How narrow the interval of a crossover would become with more seeds or another size: looked at before they are run.

What a candidate would measure is not known, only believed: at a measured size the difference that power.py expects
there, at a new one what the curves between its neighbors say, in both cases with the noise from seed to seed. A few
equally likely outcomes are tried; in each, the resamples of the means move and tighten as they would, the leads are
tested again and the interval is read off again (a preposterior analysis; Raiffa and Schlaifer 1961). The outcomes and
resamples are the same for every candidate, so that candidates differ by what they are and not by luck.

How little is known is one number, the logarithm of the interval's upper end over its lower one. A side of the crossing
on which no lead is clear counts as if the interval went on there by another factor of `REACH`. Where one model leads
throughout, the interval is made of the sizes at which it does not do so for sure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import special

from vitlab.analysis import bootstrap
from vitlab.analysis.crossover import Crossover, find_crossover
from vitlab.analysis.differences import Difference, compare_sizes
from vitlab.analysis.lead_changes import (
    STEPS,
    ends_of_doubt,
    errors_at,
    in_doubt,
    places_between,
    shares_ahead,
    signs_of_leads,
)
from vitlab.analysis.significance import ALPHA, holm, paired_p_values

REACH = 3.0  # factor beyond the measured sizes up to which a crossing is looked for
NARROW = 1.25  # upper over lower end of an interval that is narrow enough
NUM_OUTCOMES = 8
Foretold = tuple[int, tuple[float, float]]
NUM_RESAMPLES = 2000
_OF_AN_OUTCOME = 400  # resamples: the first ones, the same for all outcomes and before them
_STEPS = 12  # places between two sizes at which an outcome's leads are looked at
_LEAST = np.log(1.02)  # log-width below which nothing is gained


@dataclass(frozen=True)
class Outlook:
    """What two models' errors say of their crossover, and what it takes to foresee more of them.

    Args:
        models: first and second name.
        train_sizes: growing sizes, in images.
        differences: the paired comparison at each.
        crossover: what follows from it.
        foretold: None, or a size beyond the measured ones by which the fitted curves cross, and both errors that they
            foretell there; a lead at all measured sizes is then not the end of the matter.
        draws: resampled mean errors.

    Shape:
        draws: (resamples, 2, sizes).
    """

    models: tuple[str, str]
    train_sizes: list[int]
    differences: list[Difference]
    crossover: Crossover
    foretold: Foretold | None
    draws: np.ndarray = field(repr=False)

    @property
    def log_width(self) -> float:
        """Return the logarithm of the interval's upper over its lower end, open ends counted as said above."""
        state = _State.of(self, 1, self.draws)
        return float(state.log_widths(STEPS, self.foretold is not None)[0])

    @cached_property
    def rough_log_width(self) -> float:
        """Return the same as outcomes are judged: from fewer resamples, at fewer places."""
        state = _State.of(self, 1, self.draws[:_OF_AN_OUTCOME])
        return float(state.log_widths(_STEPS, self.foretold is not None)[0])

    @property
    def is_settled(self) -> bool:
        """Return whether more trials are of no use: the interval is narrow, or one model leads for sure everywhere."""
        return self.crossover.verdict != "undecided" and self.log_width <= np.log(NARROW)


def look(
    models: tuple[str, str], train_sizes: list[int], errors: np.ndarray, foretold: Foretold | None = None, seed: int = 0
) -> Outlook | None:
    """Return how things stand between two models, or None with one seed a size, which says nothing about noise.

    Args:
        models: first and second name.
        train_sizes: growing sizes, in images, that both were measured at.
        errors: NaN where a trial is missing.
        foretold: as in `Outlook`.
        seed: seed of the bootstrap.

    Shape:
        errors: (2, sizes, seeds).
    """
    _, draws = bootstrap.draw_means(errors, seed, NUM_RESAMPLES)
    if draws is None:
        return None
    differences = compare_sizes(models, train_sizes, errors, draws)
    crossover = find_crossover(models, differences, draws)
    return Outlook(models, list(train_sizes), differences, crossover, foretold, draws)


def expected_log_ratio(outlook: Outlook, seeds: Mapping[int, int]) -> float:
    """Return the mean logarithm of how many times as wide the interval becomes: below 0 where it shrinks.

    The width is that of `Outlook.log_width`: -0.7 says that the interval's log-width halves.

    Args:
        outlook: how things stand.
        seeds: what is added: seeds for both models by train size, measured before or not.
    """
    after = _State.of(outlook, NUM_OUTCOMES, outlook.draws[:_OF_AN_OUTCOME])
    for (train_size, number), quantiles in zip(sorted(seeds.items()), _outcomes(len(seeds)).T, strict=True):
        if train_size in after.train_sizes:
            after.add_seeds(outlook.differences, train_size, number, quantiles)
        else:
            after.add_size(train_size, number, quantiles, outlook.foretold)
    becomes = after.log_widths(_STEPS, outlook.foretold is not None)
    return float(np.mean(np.log(np.maximum(becomes, _LEAST) / max(outlook.rough_log_width, _LEAST))))


def _outcomes(num_additions: int) -> np.ndarray:
    """Return standard normal quantiles, each as likely as the others; (outcomes, additions)."""
    quantiles = special.ndtri((np.arange(NUM_OUTCOMES) + 0.5) / NUM_OUTCOMES)
    rng = np.random.default_rng(0)  # a Latin hypercube: every addition meets every quantile once
    columns = [quantiles] + [rng.permutation(quantiles) for _ in range(num_additions - 1)]
    return np.stack(columns, axis=1)


@dataclass
class _State:
    """How things would stand, in several outcomes."""

    train_sizes: list[int]
    means: np.ndarray  # (outcomes, 2, sizes)
    draws: np.ndarray  # (outcomes, resamples, 2, sizes)
    spread: np.ndarray  # (sizes,), of the difference from seed to seed
    degrees: np.ndarray
    num_seeds: np.ndarray

    @classmethod
    def of(cls, outlook: Outlook, num_outcomes: int, draws: np.ndarray) -> _State:
        rows = outlook.differences
        means = np.array([row.mean_errors for row in rows]).T
        return cls(
            list(outlook.train_sizes),
            np.repeat(means[None], num_outcomes, axis=0),
            np.repeat(draws[None], num_outcomes, axis=0),
            np.array([row.spread for row in rows]),
            np.array([row.degrees for row in rows]),
            np.array([row.num_seeds for row in rows]),
        )

    def add_seeds(self, before: list[Difference], train_size: int, number: int, quantiles: np.ndarray) -> None:
        """Move the difference towards what is believed of the true one, and tighten its noise."""
        n = self.train_sizes.index(train_size)
        (row,) = (row for row in before if row.train_size == train_size)
        expected, doubt = row.belief
        if any(other.clear_leader for other in before):
            doubt = 1.0  # each measured difference is then expected to be the true one, give or take all its noise
        variance = row.spread**2 * (1 / number + doubt / row.num_seeds)
        share = number / (row.num_seeds + number)
        shift = share * (expected + quantiles * np.sqrt(variance) - row.difference)
        tighter = np.sqrt(1 - share) * _student(row.degrees + number) / _student(row.degrees)
        moved = np.clip(self.means[:, :, n] + _to_both(shift), 0, 1)
        noise = self.draws[:, :, :, n] - self.means[:, None, :, n]
        self.draws[:, :, :, n] = np.clip(moved[:, None] + tighter * noise, 0, 1)
        self.means[:, :, n] = moved
        self.degrees[n] += number
        self.num_seeds[n] += number

    def add_size(self, train_size: int, number: int, quantiles: np.ndarray, foretold: Foretold | None) -> None:
        """Measure a new size where the curves say, give or take their doubt and the noise of its seeds."""
        logs, place = np.log(self.train_sizes), np.log(train_size)
        spread = float(np.exp(np.interp(place, logs, np.log(np.maximum(self.spread, 1e-6)))))
        near = int(np.argmin(np.abs(logs - place)))
        degrees = number - 1 + min(bootstrap.BORROWED_DEGREES, int(self.degrees[near]))
        drawn = errors_at(self.train_sizes, self.draws, train_size)  # (outcomes, resamples, 2)
        mean = errors_at(self.train_sizes, self.means, train_size)
        if foretold is not None and foretold[0] == train_size:
            mean = np.array([foretold[1]])
        doubt = np.var(drawn[..., 0] - drawn[..., 1], axis=1)
        mean = np.clip(mean + _to_both(quantiles * np.sqrt(spread**2 / number + doubt)), 0, 1)
        noise = spread / np.sqrt(number) * np.random.default_rng(train_size).standard_t(degrees, drawn.shape[1])
        own = np.clip(mean[:, None] + _to_both(noise), 0, 1)
        n = int(np.searchsorted(self.train_sizes, train_size))
        self.train_sizes.insert(n, train_size)
        self.means = np.insert(self.means, n, mean, axis=2)
        self.draws = np.insert(self.draws, n, own, axis=3)
        self.spread = np.insert(self.spread, n, spread)
        self.degrees = np.insert(self.degrees, n, degrees)
        self.num_seeds = np.insert(self.num_seeds, n, number)

    def log_widths(self, steps: int, looks_beyond: bool) -> np.ndarray:
        """Return the width in each outcome, as the report would see it."""
        places = places_between(self.train_sizes, steps)
        shares = shares_ahead(self.train_sizes, self.draws, places) if len(self.train_sizes) > 1 else None
        widths = []
        for n, means in enumerate(self.means):
            gaps = np.round(means[0] - means[1], 12)
            clear = holm(paired_p_values(gaps, self.spread, self.degrees, self.num_seeds)) < ALPHA
            share = np.full(1, 0.0 if clear.any() else 0.5) if shares is None else shares[n]
            widths.append(_log_width(np.log(self.train_sizes), gaps, clear, places, share, looks_beyond))
        return np.array(widths)


def _student(degrees: int) -> float:
    return -float(special.stdtrit(degrees, 0.025))


def _to_both(shift: np.ndarray) -> np.ndarray:
    """Share a change of the difference between the two models; (..., 2)."""
    return shift[..., None] * np.array([0.5, -0.5])


def _log_width(
    logs: np.ndarray, gaps: np.ndarray, clear: np.ndarray, places: np.ndarray, share: np.ndarray, looks_beyond: bool
) -> float:
    """Return one outcome's width; which sizes its interval lies between is decided as in crossover.py.

    Args:
        logs: log(train size).
        gaps: mean error of the first model minus that of the second.
        clear: whether the gap is beyond the noise.
        places: log(train size) between and at the sizes.
        share: of the resamples in which the first model has the higher error, at the places.
        looks_beyond: whether a lead throughout is no end.
    """
    signs = signs_of_leads(gaps[None])[0]
    changes, leads = np.nonzero(signs[1:] != signs[:-1])[0], np.nonzero(clear)[0]
    turns = [(first, last) for first, last in itertools.pairwise(leads) if signs[first] != signs[last]]
    reach = float(np.log(REACH))
    if turns:
        return _extent(logs, places, share, *turns[-1])
    if len(changes):
        at = changes[-1]
        below = [n for n in leads if n <= at and signs[n] == signs[at]]
        above = [n for n in leads if n > at and signs[n] == signs[at + 1]]
        ends = below[-1] if below else 0, above[0] if above else len(logs) - 1
        return _extent(logs, places, share, *ends) + ((not below) + (not above)) * reach
    if len(leads) and not looks_beyond:
        doubt = in_doubt(share)
        extent = np.ptp(places[doubt]) if doubt.any() else 0.0
        return max(float(extent) + (int(doubt[0]) + int(doubt[-1])) * reach, float(np.log(NARROW)))
    return float(logs[-1] - logs[0]) + 2 * reach


def _extent(logs: np.ndarray, places: np.ndarray, share: np.ndarray, first: int, last: int) -> float:
    within = (places >= logs[first] - 1e-9) & (places <= logs[last] + 1e-9)
    low, high, *_ = ends_of_doubt(places[within], share[within])
    return high - low
