"""How many more seeds would settle who leads at a size: a power calculation from what was measured so far.

The seeds at hand stay, so k new ones move the mean from where it is, towards the true difference. That one is itself
known only up to the noise of the seeds at hand, and the chance is averaged over what it may be (a predictive power;
Spiegelhalter, Freedman and Blackburn 1986, doi:10.1016/0197-2456(86)90003-6). `beliefs` says what it may be: where the
pair has a clear lead at some size, the curves are known to differ, and each measured difference is taken for the true
one. Where no lead is clear, all of them may be noise, and the one that looks largest is so partly by chance: then all
are shrunk by what is common to them (empirical Bayes; Efron and Morris 1973, JASA 68). The true spread is averaged over
in either case. scripts/crossover_simulation measures how often the seeds then do what is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special  # scipy.stats has the same and takes half a second more to import

POWER = 0.8
MAX_SEEDS = 200  # no sweep is run with more
_NUMBERS = np.arange(1, MAX_SEEDS + 1)
_SPREADS = (np.arange(16) + 0.5) / 16  # quantiles at which the true spread is tried


@dataclass(frozen=True)
class MoreSeeds:
    """What would make a lead at one size clear.

    Args:
        train_size: in images.
        more_seeds: seeds to add there, for both models; None if more than `MAX_SEEDS`.
        power: chance that the lead is clear afterwards.
    """

    train_size: int
    more_seeds: int | None
    power: float


def beliefs(
    differences: np.ndarray, spread: np.ndarray, num_seeds: np.ndarray, clear: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the expected true differences, and how much of the seeds' variance counts as doubt about them (0 to 1).

    Args:
        differences: measured mean paired differences.
        spread: their standard deviations from seed to seed.
        num_seeds: seeds at hand.
        clear: whether a lead is clear.

    Shape:
        all and the expected differences: (sizes,).
    """
    if clear.any():
        return differences, 0.0
    noise = spread**2 / num_seeds
    squares = np.divide(differences**2, noise, out=np.zeros(len(noise)), where=noise > 0).mean()
    kept = max(0.0, 1 - 1 / squares) if squares > 0 else 0.0  # noise alone makes the mean square 1
    return kept * differences, kept


def power_of_more_seeds(
    more: np.ndarray,
    difference: float,
    spread: float,
    degrees: int,
    num_seeds: int,
    alpha: float,
    belief: tuple[float, float],
) -> np.ndarray:
    """Return the chance that a paired t-test names a leader, whichever it is, after more seeds.

    Args:
        more: numbers of seeds to add, 1 or more each.
        difference: measured mean paired difference.
        spread: its measured standard deviation from seed to seed, above 0.
        degrees: degrees of freedom of the spread.
        num_seeds: seeds at hand.
        alpha: level of the test, between 0 and 1.
        belief: the expected true difference, and how much of the seeds' variance counts as doubt about it.

    Shape:
        more and result: (numbers,).
    """
    expected, doubt = belief
    more = np.asarray(more, dtype=float)[:, None]
    total = num_seeds + more
    true = spread * np.sqrt(degrees / special.chdtri(degrees, 1 - _SPREADS))  # (spreads,)
    later = np.sqrt((degrees * spread**2 + more * true**2) / (degrees + more))  # the spread measured then
    needed = -special.stdtrit(degrees + more, alpha / 2) * later / np.sqrt(total)
    # How the mean may move: by the noise of the new seeds, and by what they find the true difference to be.
    moves = true * np.sqrt(more / total**2 + doubt * (more / total) ** 2 / num_seeds)
    mean = (num_seeds * difference + more * expected) / total
    chance = special.ndtr((mean - needed) / moves) + special.ndtr((-mean - needed) / moves)
    return chance.mean(axis=1)


def seeds_to_clear(
    difference: float,
    spread: float,
    degrees: int,
    num_seeds: int,
    alpha: float,
    belief: tuple[float, float],
    power: float = POWER,
) -> int | None:
    """Return how many more seeds give the wanted power, or None if more than `MAX_SEEDS`.

    Args:
        difference: measured mean paired difference.
        spread: its measured standard deviation from seed to seed.
        degrees: degrees of freedom of the spread.
        num_seeds: seeds at hand.
        alpha: level of the test, between 0 and 1.
        belief: the expected true difference, and how much of the seeds' variance counts as doubt about it.
        power: wanted chance that the test names a leader, between 0 and 1.
    """
    if spread <= 0:
        return None  # seeds that never differ will not begin to
    enough = power_of_more_seeds(_NUMBERS, difference, spread, degrees, num_seeds, alpha, belief) >= power
    return int(_NUMBERS[np.argmax(enough)]) if enough.any() else None
