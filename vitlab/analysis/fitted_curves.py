"""A model's learning curve in a report: the line through its sizes, and what it foretells a little beyond them.

The line is the average of curve_extrapolation.py; the power law with offset (learning_curves.py) stands beside it for
its three numbers, which papers quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitlab.analysis.curve_extrapolation import CurveEstimate, Prediction, estimate_curve
from vitlab.analysis.learning_curves import MIN_SIZES, PowerLaw, fit_power_law

REACH = 3.0  # how far beyond the largest size a report foretells, as a factor


@dataclass(frozen=True)
class FittedCurve:
    """The curve of one model's test errors.

    Args:
        power_law: a, b and c of a power law with offset, or the reason why there is none.
        estimate: the curve itself, or None where it has too few sizes with errors.
    """

    power_law: PowerLaw
    estimate: CurveEstimate | None = field(repr=False)

    def predict(self, train_sizes: Sequence[float]) -> np.ndarray | None:
        """Return the errors (0 to 1) at the sizes, or None without a curve."""
        return None if self.estimate is None else self.estimate.predict(train_sizes).errors

    @property
    def weights(self) -> dict[str, float]:
        """Return the share of each form in what is foretold, heaviest first; they add up to 1."""
        shares: dict[str, float] = {}
        for candidate in self.estimate.candidates if self.estimate else []:
            shares[candidate.form.name] = shares.get(candidate.form.name, 0.0) + candidate.weight
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def extrapolation(self) -> Prediction | None:
        """Return the error at REACH times the largest size with its 90 % interval, or None without a curve."""
        return None if self.estimate is None else self.estimate.predict([REACH * self.estimate.sizes[-1]])


def fit_curve(errors: dict[int, Sequence[float]], seed: int = 0, largest: float | None = 1.0) -> FittedCurve:
    """Return the curve through the errors of all seeds.

    Args:
        errors: test errors (0 to 1), one a seed, by train size. An error of 0 has no logarithm: where some seed has
            none, the mean stands for all (leaving that seed out would raise it), and a mean of 0 is left out.
        seed: seed of the resamples.
        largest: the largest value that the quantity can take: 1 for an error, None for NLL.
    """
    power_law = fit_power_law(list(errors), [float(np.mean(own)) for own in errors.values()])
    usable = {size: list(own) if min(own) > 0 else [float(np.mean(own))] for size, own in errors.items()}
    rows = [(size, error) for size, own in usable.items() for error in own if error > 0]
    if len({size for size, _ in rows}) < MIN_SIZES:
        return FittedCurve(power_law, None)
    return FittedCurve(power_law, estimate_curve(*zip(*rows, strict=True), largest, seed))
