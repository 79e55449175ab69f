"""Errors at sizes that were not measured: an average of forms, weighted by how well each foretold the curve's own end.

Between the sizes the form that fits best describes the curve; beyond the last one the average of curve_backtest.py
does, and the two are blended within the last third. A prediction interval has four parts: the forms' disagreement;
refits to resamples (over seeds where there are some, else over the rows' scatter); what the average missed when it
foretold the curve's own end, growing with distance; and the noise of one new measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitlab.analysis.curve_backtest import WINDOWS, Backtest, Key
from vitlab.analysis.curve_fitting import fit_batch
from vitlab.analysis.curve_models import FORMS, CurveForm
from vitlab.analysis.curve_rows import gather_rows

NUM_DRAWS = 400
_NUM_RESAMPLES = 20  # of each form and window


@dataclass(frozen=True)
class Candidate:
    """A form on a window of the curve.

    Args:
        form: the form.
        window: share of the curve that it is fitted to, counted from the end in log size.
        weight: in the average; all weights add up to 1.
        missed: root mean square of log(foretold / measured) behind the cuts; None if the curve is too short to cut.
        values: parameters: of the fit in the first row, of the fits to resamples in the others.
    """

    form: CurveForm
    window: float
    weight: float
    missed: float | None
    values: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Prediction:
    """Errors at some sizes, with the interval that holds a new measurement there."""

    sizes: np.ndarray
    errors: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class CurveEstimate:
    """A learning curve, known between its sizes and foretold beyond them.

    Args:
        sizes: measured sizes, growing.
        errors: mean error at each.
        largest: the largest value that the quantity can take, or None.
        candidates: forms and windows that are averaged beyond the last size, heaviest first.
        inner: the form that describes the curve between its sizes, with its resamples.
        noise: standard deviation of one new measurement's log error.
        level: standard deviation of the log error that a whole curve may be off by.
        drift: standard deviation of the log error that the average gains per e-fold outside the sizes.
        remark: what was done to the rows or is missing, in words; empty if nothing.
        seed: seed of the draws.
    """

    sizes: np.ndarray
    errors: np.ndarray
    largest: float | None
    candidates: list[Candidate]
    inner: Candidate
    noise: float
    level: float
    drift: float
    remark: str
    seed: int

    def predict(self, sizes: Sequence[float], coverage: float = 0.9) -> Prediction:
        """Return the errors at the sizes and the interval that holds a new measurement with the given probability.

        Args:
            sizes: positive; the interval widens with the distance from the measured sizes.
            coverage: of the interval, above 0 and below 1.

        Raises:
            ValueError: if a size is not positive or the coverage not between 0 and 1.
        """
        from scipy.special import ndtri  # half a second to import

        sizes = np.asarray(sizes, dtype=float)
        if not (sizes > 0).all() or not 0 < coverage < 1:
            raise ValueError(f"sizes must be above 0 and coverage between 0 and 1; got {sizes} and {coverage}")
        log_errors = self._log_errors(sizes)
        spread = np.sqrt(self.draw(sizes).var(axis=0) + self.noise**2) * ndtri(0.5 + coverage / 2)
        bounds = [np.exp(log_errors + sign * spread) for sign in (0, -1, 1)]
        return Prediction(sizes, *(np.minimum(values, self.largest or np.inf) for values in bounds))

    def draw(self, sizes: Sequence[float]) -> np.ndarray:
        """Return log errors of curves that the measurements allow, without the noise of a new measurement.

        Shape:
            result: (NUM_DRAWS, sizes).
        """
        rng = np.random.default_rng(self.seed)
        weights = [candidate.weight for candidate in self.candidates]
        chosen = np.searchsorted(np.cumsum(weights), (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS).clip(0, len(weights) - 1)
        resample = rng.permutation(NUM_DRAWS)
        log_sizes, share_beyond, beyond = self._place(sizes)
        inner = self._evaluate(self.inner, log_sizes)[1:]
        draws = (1 - share_beyond) * inner[resample % len(inner)]
        for index, candidate in enumerate(self.candidates):
            curves = self._evaluate(candidate, log_sizes)[1:]
            draws[chosen == index] += share_beyond * curves[resample[chosen == index] % len(curves)]
        average = self._average(log_sizes)
        disagreement = share_beyond**2 * sum(
            candidate.weight * (self._evaluate(candidate, log_sizes)[0] - average) ** 2 for candidate in self.candidates
        )
        # What the average misses is in part what the forms disagree about, which the draws have already.
        missing = np.sqrt(np.maximum((self.drift * beyond) ** 2 - disagreement, 0))
        shift, tilt = rng.standard_normal((2, NUM_DRAWS, 1))
        return draws + self.level * shift + missing * tilt

    def _average(self, log_sizes: np.ndarray) -> np.ndarray:
        return sum(candidate.weight * self._evaluate(candidate, log_sizes)[0] for candidate in self.candidates)

    def _log_errors(self, sizes: np.ndarray) -> np.ndarray:
        log_sizes, share_beyond, _ = self._place(sizes)
        return (1 - share_beyond) * self._evaluate(self.inner, log_sizes)[0] + share_beyond * self._average(log_sizes)

    def _evaluate(self, candidate: Candidate, log_sizes: np.ndarray) -> np.ndarray:
        return candidate.form.evaluate(candidate.values, log_sizes)[0]

    def _place(self, sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log sizes from the middle, the share of the average there, and the log distance outside the sizes.

        The average takes over from the inner form within the last window, so that the curve has no step.
        """
        own = np.log(self.sizes)
        log_sizes = np.log(np.asarray(sizes, dtype=float))
        last = (own[-1] - own[0]) * WINDOWS[-1]
        share = np.clip(1 - (own[-1] - log_sizes) / last, 0, 1)
        return log_sizes - own.mean(), share, np.maximum(np.maximum(log_sizes - own[-1], own[0] - log_sizes), 0)


def estimate_curve(
    sizes: Sequence[float], errors: Sequence[float], largest: float | None = 1.0, seed: int = 0
) -> CurveEstimate:
    """Return the curve through measured errors.

    Args:
        sizes: numbers of images or examples, above 0; a size may stand there several times, once for each seed.
        errors: above 0, in the same order.
        largest: the largest value that the quantity can take, 1 for an error; None if it has no end, such as NLL.
        seed: seed of the resamples and draws.

    Raises:
        ValueError: if a size or error is not positive, or there are fewer than three different sizes.
    """
    rows = gather_rows(sizes, errors, seed)
    backtest = Backtest(rows, largest)
    weights, missed = backtest.weights()
    inner_key = backtest.inner.name, 1.0
    values = _with_refits(backtest, {inner_key, *weights}, largest, seed)
    heaviest_first = sorted(weights.items(), key=lambda item: -item[1])
    return CurveEstimate(
        sizes=rows.sizes,
        errors=rows.errors,
        largest=largest,
        candidates=[Candidate(FORMS[key[0]], key[1], own, missed[key], values[key]) for key, own in heaviest_first],
        inner=Candidate(backtest.inner, 1.0, 1.0, None, values[inner_key]),
        noise=backtest.scatter if rows.noise is None else rows.noise,
        # How far to lift a running best rests on an assumption, so all of the lift is uncertain.
        level=float(np.hypot(backtest.level, rows.lift)),
        drift=backtest.drift(weights),
        remark=rows.remark,
        seed=seed,
    )


def _with_refits(backtest: Backtest, keys: set[Key], largest: float | None, seed: int) -> dict[Key, np.ndarray]:
    """Return for each form and window its parameters: of the fit, and of fits to resamples that begin there."""
    rows = backtest.rows
    resampled = rows.resample(backtest.scatter, _NUM_RESAMPLES, seed)
    result = {}
    for form in backtest.forms:
        own = sorted(key for key in keys if key[0] == form.name)
        if not own:
            continue
        weights = [rows.weights * rows.window(len(rows.sizes), window) for _, window in own]
        starts = [backtest.values(key) for key in own]
        refits, _ = fit_batch(
            form,
            rows.log_sizes,
            np.tile(resampled, (len(own), 1)),
            np.repeat(weights, _NUM_RESAMPLES, axis=0),
            largest,
            np.repeat(starts, _NUM_RESAMPLES, axis=0),
        )
        for index, key in enumerate(own):
            mine = refits[index * _NUM_RESAMPLES : (index + 1) * _NUM_RESAMPLES]
            result[key] = np.vstack([starts[index], mine])
    return result
