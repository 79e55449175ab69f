"""Whether one model is right more often than another on the same test images: McNemar's test, at each size.

McNemar (1947, Psychometrika 12(2)) asks it of two trained networks: of the images that only one of them has right, is
it as often the one as the other? Dietterich (1998, Neural Computation 10(7), section 3.1) recommends it for models that
were trained once. It speaks for other test images and for the networks as they are trained, and not for other seeds or
training images; the paired t-test over seeds (significance.py) does that, and takes the test images as they are.

With several seeds each image is judged by a pair of networks a seed, and an image that one pair finds hard the others
find hard as well: counted one by one, such answers would claim more evidence than there is. So the image is the unit.
Its score is the number of seeds at which only the first model has it right, minus those at which only the second has.
If neither model is better, a score is as likely as its opposite, however the seeds depend on each other: given how far
the scores are from 0, their signs are tosses of a fair coin, and the distribution of their sum is known exactly. With
many images it is normal, and sum / sqrt(sum of squares) is the test of Durkalski et al. (2003, Statistics in Medicine
22(15)), a McNemar test for clustered pairs. With one seed the two are McNemar's exact and his chi-square test.

The p-values are corrected by Holm's method for the number of sizes that are tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import special  # scipy.stats has the same and takes half a second more to import

from vitlab.analysis.selection import Record
from vitlab.analysis.significance import holm
from vitlab.analysis.wording import count, listing, plural
from vitlab.sweep.kept_predictions import MAX_IMAGES, KeptPredictions, read_predictions

_MANY = 1000  # images with a score; from there on the normal distribution is within a tenth of a p-value of 5 %


@dataclass(frozen=True)
class McNemar:
    """How the answers of two models differ on the same test images.

    Args:
        first_only: answers that only the first has right, summed over seeds.
        second_only: answers that only the second has right, summed over seeds.
        num_images: test images.
        num_seeds: seeds at which both models' predictions are kept.
        p_value: two-sided; exact for up to 1,000 images on which the models differ.
        adjusted_p_value: the same after Holm's correction over the sizes.
    """

    first_only: int
    second_only: int
    num_images: int
    num_seeds: int
    p_value: float
    adjusted_p_value: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Return McNemar's test of two models on the same test images, with the image as the unit.

    Args:
        first: which test images the first model has right, at each seed.
        second: which the second has right, at the same seeds and in the same order.

    Shape:
        both: (seeds, images), boolean.

    Raises:
        ValueError: if the two do not list the same seeds and images.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            "predictions must be of the same seeds and images, (seeds, images) each; got shapes "
            f"{first.shape} and {second.shape}"
        )
    first_only, second_only = first & ~second, second & ~first
    scores = first_only.sum(axis=0) - second_only.sum(axis=0)
    p_value = _p_value(scores[scores != 0])
    return McNemar(int(first_only.sum()), int(second_only.sum()), first.shape[1], first.shape[0], p_value, p_value)


def _p_value(scores: np.ndarray) -> float:
    """Return the two-sided p-value of the sum of scores whose signs are tosses of a fair coin."""
    if not len(scores):
        return 1.0
    if len(scores) > _MANY:
        return 2 * float(special.ndtr(-abs(scores.sum()) / np.sqrt(np.square(scores).sum())))
    sizes, numbers = np.unique(np.abs(scores), return_counts=True)
    chances = np.ones(1)  # of each sum of the scores above 0
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        own = np.zeros(size * number + 1)
        own[::size] = _coin_tosses(number)
        chances = np.convolve(chances, own)
    lesser = min(int(scores[scores > 0].sum()), int(-scores[scores < 0].sum()))
    return min(1.0, 2 * float(chances[: lesser + 1].sum()))


def _coin_tosses(number: int) -> np.ndarray:
    """Return the chance of 0, 1, ... heads in a number of tosses."""
    heads = np.arange(number + 1)
    ways = special.gammaln(number + 1) - special.gammaln(heads + 1) - special.gammaln(number - heads + 1)
    return np.exp(ways - number * np.log(2))


@dataclass(frozen=True)
class ClassCounts:
    """How far one class prevails among the test images, and among what a trial answered.

    Args:
        test_set: hash of the test images and of what was asked of them.
        num_images: test images.
        most_frequent: test images of the class that most of them belong to.
        most_answered: test images for which the trial gave the class that it gave most often.
    """

    test_set: str
    num_images: int
    most_frequent: int
    most_answered: int


class ImageAnswers:
    """Which test images the tested trials of a sweep have right; each file is read once.

    Args:
        folder: the sweep folder; None where there is none, and so no predictions.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, KeptPredictions | str] = {}
        self._counts: dict[str, ClassCounts] = {}

    def of(self, trial: Record) -> KeptPredictions | str:
        """Return a trial's answers, or "missing" or "unusable".

        Args:
            trial: record of a tested trial.
        """
        if trial["id"] not in self._known:
            self._known[trial["id"]] = self._read(trial)
        return self._known[trial["id"]]

    def counts_of(self, trial: Record) -> ClassCounts | None:
        """Return how far one class prevails in a trial; None without its answers, or where they are no labels.

        Args:
            trial: record of a tested trial.
        """
        self.of(trial)
        return self._counts.get(trial["id"])

    def _read(self, trial: Record) -> KeptPredictions | str:
        try:
            kept = None if self._folder is None else read_predictions(self._folder, trial["id"])
        except ValueError:  # a report does not stand or fall with it, and says that it is not used
            return "unusable"
        if kept is None:
            return "missing"
        if not kept.fits(trial):
            return "unusable"
        if kept.labels is not None:  # counted now, since labels and answers of all trials would fill the memory
            numbers = (_most(values) for values in (kept.labels, kept.predicted))
            self._counts[trial["id"]] = ClassCounts(kept.test_set, len(kept.right), *numbers)
        return KeptPredictions(kept.test_set, kept.right)


def _most(classes: np.ndarray) -> int:
    """Return how many images the most frequent class has."""
    if classes.dtype in (np.uint8, np.uint16):  # as files hold them: ten times as quick, and the table stays small
        return int(np.bincount(classes).max())
    return int(np.unique_counts(classes).counts.max())


def compare_images(
    models: tuple[str, str], train_sizes: Sequence[int], selected: Sequence[Record], answers: ImageAnswers
) -> tuple[dict[int, McNemar], str]:
    """Return McNemar's test at each size at which predictions are kept, and in words what is lacking.

    Args:
        models: names of the two models.
        train_sizes: sizes that both were measured at, in images.
        selected: the tested trials at the chosen learning rates, of any models.
        answers: what these trials have right.
    """
    tests: dict[int, McNemar] = {}
    lacking: Counter[str] = Counter()
    for size in train_sizes:
        by_model = [{t["seed"]: t for t in selected if (t["model"], t["train_size"]) == (m, size)} for m in models]
        shared = sorted(set(by_model[0]) & set(by_model[1]))
        found = {seed: [answers.of(own[seed]) for own in by_model] for seed in shared}
        lacking.update(one for pair in found.values() for one in pair if isinstance(one, str))
        usable = [pair for pair in found.values() if not any(isinstance(one, str) for one in pair)]
        same = [pair for pair in usable if {one.test_set for one in pair} == {usable[0][0].test_set}]
        lacking["other images"] += 2 * (len(usable) - len(same))
        if same:
            tests[size] = mcnemar(*(np.array([pair[which].right for pair in same]) for which in (0, 1)))
    return _corrected(tests), _remark(lacking)


def _corrected(tests: Mapping[int, McNemar]) -> dict[int, McNemar]:
    adjusted = holm(np.array([test.p_value for test in tests.values()]))
    return {
        size: replace(test, adjusted_p_value=float(p)) for (size, test), p in zip(tests.items(), adjusted, strict=True)
    }


def _remark(lacking: Mapping[str, int]) -> str:
    reasons = {
        "missing": f"kept none (as older versions; nor are any kept of masks or of more than {count(MAX_IMAGES)} "
        "test images)",
        "unusable": "have a file that does not fit (`vitlab verify` names it)",
        "other images": "were tested on other images",
    }
    parts = [f"{plural(lacking[key], 'trial')} {words}" for key, words in reasons.items() if lacking.get(key)]
    return f"McNemar's test over the test images lacks predictions: {listing(parts)}" if parts else ""
