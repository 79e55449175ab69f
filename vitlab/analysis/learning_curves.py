"""Error as a power law of the number of training images, with an offset: err(n) = a n^-b + c.

The form is M2 of Alabdulmohsin et al. (arXiv 2209.06640, section 3); c is the error that more data of this kind does
not take away within the budget. Fitted in log error, so that small errors count as much as large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGEST_EXPONENT = 3.0
MIN_SIZES = 3
_CLEAR_GAIN = 4.0  # an F ratio; the offset must explain more than chance would with so few sizes


@dataclass(frozen=True)
class PowerLaw:
    """A fitted curve err(n) = a n^-b + c, or the reason why there is none.

    Args:
        a: scale, or None without a fit.
        b: exponent, 0 to 3.
        c: offset: the error that stays, 0 to the smallest measured error.
        residual: root mean square of log(measured / fitted).
        offset_identified: whether the sizes tell c from 0; if not, do not read c as an irreducible error.
        reason: what is missing or was left out, in words; empty if nothing.
    """

    a: float | None
    b: float | None
    c: float | None
    residual: float | None
    offset_identified: bool
    reason: str

    def predict(self, train_sizes: Sequence[float]) -> np.ndarray | None:
        """Return the fitted errors at the sizes, or None without a fit."""
        if self.a is None:
            return None
        return self.a * np.asarray(train_sizes, dtype=float) ** -self.b + self.c


def fit_power_law(train_sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """Return the power law with offset that is closest to the mean errors in log error.

    Args:
        train_sizes: distinct numbers of training images, each above 0.
        errors: mean error at each size, 0 to 1; sizes without any error are left out, since they have no logarithm.

    Raises:
        ValueError: if the lengths differ or a size is not positive.
    """
    sizes, errors = np.asarray(train_sizes, dtype=float), np.asarray(errors, dtype=float)
    if sizes.shape != errors.shape or (sizes <= 0).any():
        raise ValueError(f"fit_power_law needs one error per positive size; got sizes {sizes} and errors {errors}")
    kept = errors > 0
    dropped = int((~kept).sum())
    reason = f"{dropped} of {len(sizes)} sizes left out of the fit: no test error there" if dropped else ""
    sizes, errors = sizes[kept], errors[kept]
    if len(sizes) < MIN_SIZES:
        reason = f"no fit: {len(sizes)} of the {MIN_SIZES} sizes with errors that it needs"
        return PowerLaw(None, None, None, None, False, reason)
    scaled = sizes / np.exp(np.log(sizes).mean())  # a and b are hardly correlated around the middle size
    with_offset = _best(scaled, errors, offset=True)
    without = _best(scaled, errors, offset=False)
    identified = _offset_is_identified(len(sizes), with_offset, without, errors.min())
    if len(sizes) == MIN_SIZES:
        reason = "; ".join(filter(None, [reason, "three sizes for three parameters: the fit cannot be checked"]))
    (log_a, b, c), cost = with_offset
    c = c if c > 1e-6 * errors.min() else 0.0  # the optimizer stops a hair inside its bounds
    a = float(np.exp(log_a) * (sizes / scaled)[0] ** b)
    return PowerLaw(a, float(b), float(c), float(np.sqrt(2 * cost / len(sizes))), identified, reason)


def _best(scaled: np.ndarray, errors: np.ndarray, offset: bool) -> tuple[np.ndarray, float]:
    """Return parameters (log a, b, c) and half the squared residuals of the best of several starts."""
    from scipy.optimize import least_squares  # half a second to import: only reports that fit a curve pay it

    log_n, log_errors, smallest = np.log(scaled), np.log(errors), errors.min()
    largest_offset = smallest if offset else smallest * 1e-9
    slope = np.polyfit(log_n, log_errors, 1)[0]

    def residuals(parameters: np.ndarray) -> np.ndarray:
        log_a, b, c = parameters
        return np.log(np.exp(log_a - b * log_n) + c) - log_errors

    def jacobian(parameters: np.ndarray) -> np.ndarray:
        log_a, b, c = parameters
        power = np.exp(log_a - b * log_n)
        return np.stack([power, -log_n * power, np.ones_like(power)], axis=1) / (power + c)[:, None]

    best: tuple[np.ndarray, float] | None = None
    for share in (0.02, 0.5, 0.95) if offset else (0.5,):
        for exponent in {float(np.clip(-slope * stretch, 0.02, 2.5)) for stretch in (1.0, 2.0)}:
            start = share * largest_offset
            log_a = float(np.mean(np.log(np.maximum(errors - start, 1e-3 * smallest)) + exponent * log_n))
            fit = least_squares(
                residuals,
                [np.clip(log_a, -29, 9), exponent, start],
                jac=jacobian,
                bounds=([-30.0, 0.0, 0.0], [10.0, LARGEST_EXPONENT, largest_offset]),
                x_scale=[1.0, 1.0, smallest],
                max_nfev=200,
            )
            if best is None or fit.cost < best[1]:
                best = fit.x, float(fit.cost)
    return best


def _offset_is_identified(
    num_sizes: int, with_offset: tuple[np.ndarray, float], without: tuple[np.ndarray, float], smallest: float
) -> bool:
    if num_sizes <= MIN_SIZES:
        return False
    (_, b, c), cost = with_offset
    gain = (without[1] - cost) / max(cost / (num_sizes - MIN_SIZES), 1e-12)
    return bool(gain > _CLEAR_GAIN and c > 0.05 * smallest and b < 0.999 * LARGEST_EXPONENT)
