"""How well each form foretells a curve's own end: the curve is cut before it, and the rows behind the cut are scored.

Held-out extrapolation decides, never the fit to rows that a form has seen (Alabdulmohsin et al., arXiv 2209.06640,
section 4). Every form is fitted on the whole curve and on its last half and third alone: a form that is wrong for the
start, where a model is near chance, may be right from some size on.
"""

from __future__ import annotations

import numpy as np

from vitlab.analysis.curve_fitting import fit_batch
from vitlab.analysis.curve_models import FORMS, POWER, CurveForm
from vitlab.analysis.curve_rows import MIN_SIZES, CurveRows

WINDOWS = (1.0, 1 / 2, 1 / 3)  # shares of the curve, in log size, counted from its end
CUTS = tuple(0.05 * step for step in range(1, 7))  # shares of the curve that lie behind a cut
HORIZON = 0.15  # how far behind a cut is scored, as a share of the curve: about as far as one would extrapolate it
FEW_SIZES = 12  # below this the plain power law joins the forms that contain it
_LEAST_WEIGHT = 0.01  # lighter forms are dropped

Key = tuple[str, float]  # a form's name and a window


class Backtest:
    """All fits of a curve, whole and cut, and what they missed behind the cuts.

    Args:
        rows: the curve.
        largest: the largest value that the quantity can take, or None.
    """

    def __init__(self, rows: CurveRows, largest: float | None) -> None:
        self.rows = rows
        self.forms = _forms_for(len(rows.sizes))
        self.cuts = _rows_before_cuts(rows)
        self._values: dict[Key, list[np.ndarray | None]] = {}  # for the whole curve first, then for each cut
        self._losses: dict[Key, float] = {}  # on the whole curve
        for form in self.forms:
            self._fit(form, largest)
        self.inner = min(self.forms, key=self._criterion)
        self.level, self.scatter = self._misfit()
        self._misses = {key: self._missed_by(key) for key in self._values}

    def values(self, key: Key) -> np.ndarray:
        """Return the parameters of a form on a window of the whole curve."""
        return self._values[key][0]

    def weights(self) -> tuple[dict[Key, float], dict[Key, float | None]]:
        """Return each form's weight in the average, and the root mean square of what it missed, None without cuts.

        A weight is one over the squared error behind the cuts, with the rows' scatter as a floor: what is below it
        is luck.
        """
        squares = {
            key: [None if miss is None else float(np.mean(miss**2)) for miss in misses]
            for key, misses in self._misses.items()
        }
        num_cuts = len(self.cuts)
        # A form with too many parameters for a cut curve is charged there what the worst of the others missed.
        worst = [max(own[cut] for own in squares.values() if own[cut] is not None) for cut in range(num_cuts)]
        scores = dict.fromkeys(squares, 0.0)
        if num_cuts:
            for key, own in squares.items():
                charged = [worst[cut] if square is None else square for cut, square in enumerate(own)]
                scores[key] = float(np.mean(charged))
        weights = {key: 1 / (score + self.scatter**2) for key, score in scores.items()}
        least = _LEAST_WEIGHT * sum(weights.values())
        kept = {key: weight for key, weight in weights.items() if weight >= least}
        total = sum(kept.values())
        missed = {key: float(np.sqrt(score)) if num_cuts else None for key, score in scores.items()}
        return {key: weight / total for key, weight in kept.items()}, missed

    def drift(self, weights: dict[Key, float]) -> float:
        """Return what the average missed behind the cuts, per e-fold of distance."""
        squares = distances = 0.0
        for cut, num_rows in enumerate(self.cuts):
            fitted = {key: self._misses[key][cut] for key in weights if self._misses[key][cut] is not None}
            if not fitted:
                continue
            total = sum(weights[key] for key in fitted)
            average = sum(weights[key] * miss for key, miss in fitted.items()) / total
            squares += np.mean(average**2)
            distances += np.mean((self.rows.log_sizes[self._scored(num_rows)] - self.rows.log_sizes[num_rows - 1]) ** 2)
        return float(np.sqrt(squares / distances)) if distances else 0.0

    def _fit(self, form: CurveForm, largest: float | None) -> None:
        places, kept = [], []
        for stage, num_rows in enumerate([len(self.rows.sizes), *self.cuts]):
            for window in WINDOWS:
                rows = self.rows.window(num_rows, window)
                needed = _rows_needed(form) if window == 1.0 else 2 * len(form.parameters)
                if rows.sum() >= needed:
                    places.append((stage, window))
                    kept.append(rows)
        weights = self.rows.weights * np.array(kept)
        values, losses = fit_batch(form, self.rows.log_sizes, self.rows.log_errors, weights, largest)
        for (stage, window), own, loss in zip(places, values, losses, strict=True):
            key = form.name, window
            if stage == 0:
                self._values[key] = [None] * (1 + len(self.cuts))
                self._losses[key] = float(loss)
            if key in self._values:
                self._values[key][stage] = own

    def _criterion(self, form: CurveForm) -> float:
        """Return Akaike's criterion for few rows: between the rows, unlike beyond them, the fit itself may choose."""
        num_rows, num_values = len(self.rows.sizes), len(form.parameters) + 1
        few = 2 * num_values * (num_values + 1) / max(num_rows - num_values - 1, 0.1)
        return num_rows * np.log(self._losses[form.name, 1.0] + 1e-12) + 2 * num_values + few

    def _misfit(self) -> tuple[float, float]:
        """Return how far off the inner curve may be as a whole, and how much the rows scatter around it.

        Scatter without memory averages out over the rows; neighbors that err alike are a misfit, which stays.
        """
        fitted = self.inner.evaluate(self.values((self.inner.name, 1.0))[None], self.rows.log_sizes)[0][0]
        residuals = self.rows.log_errors - fitted
        num_rows = len(residuals)
        squares = float(residuals @ residuals)
        scatter = float(np.sqrt(squares / max(num_rows - len(self.inner.parameters), 1))) + 1e-6
        alike = float(residuals[1:] @ residuals[:-1]) / max(squares, 1e-30)
        return scatter * float(np.sqrt(np.clip(alike, 1 / num_rows, 1))), scatter

    def _missed_by(self, key: Key) -> list[np.ndarray | None]:
        """Return log(foretold / measured) behind each cut, None where there were too few rows to fit."""
        misses: list[np.ndarray | None] = []
        for num_rows, values in zip(self.cuts, self._values[key][1:], strict=True):
            scored = self._scored(num_rows)
            if values is None:
                misses.append(None)
                continue
            foretold = FORMS[key[0]].evaluate(values[None], self.rows.log_sizes[scored])[0][0]
            misses.append(foretold - self.rows.log_errors[scored])
        return misses

    def _scored(self, num_rows: int) -> np.ndarray:
        """Return the rows behind a cut that lie within the horizon, or the next one if none does."""
        end = self.rows.log_sizes[num_rows - 1] + HORIZON * self.rows.length + 1e-9
        return np.arange(num_rows, max(int((self.rows.log_sizes <= end).sum()), num_rows + 1))


def _rows_needed(form: CurveForm) -> int:
    return len(form.parameters) + 1  # with as many rows as parameters, any form fits and says nothing


def _forms_for(num_sizes: int) -> list[CurveForm]:
    forms = [form for form in FORMS.values() if form is not POWER and num_sizes >= _rows_needed(form)]
    return [POWER, *forms] if num_sizes < FEW_SIZES else forms


def _rows_before_cuts(rows: CurveRows) -> list[int]:
    """Return how many rows stand before each cut, the latest cut first; two cuts between the same rows are one."""
    ends = [rows.log_sizes[-1] - share * rows.length + 1e-9 for share in CUTS]
    kept = {int((rows.log_sizes <= end).sum()) for end in ends}
    return sorted((number for number in kept if MIN_SIZES <= number < len(rows.sizes)), reverse=True)
