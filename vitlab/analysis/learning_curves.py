"""Error as a power law of the number of training images, with an offset: err(n) = a n^-b + c.

The form is M2 of Alabdulmohsin et al. (arXiv 2209.06640, section 3); c is the error that more data of this kind does
not take away within the budget. It describes the measured sizes; curve_extrapolation.py says what lies beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis.curve_fitting import FittedForm, fit_form
from vitlab.analysis.curve_models import LARGEST_EXPONENT, OFFSET, POWER

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
    with_offset, without = fit_form(OFFSET, sizes, errors), fit_form(POWER, sizes, errors)
    identified = _offset_is_identified(len(sizes), with_offset, without, errors.min())
    if len(sizes) == MIN_SIZES:
        reason = "; ".join(filter(None, [reason, "three sizes for three parameters: the fit cannot be checked"]))
    log_b, exponent, offset = with_offset.values
    offset = float(offset) if offset > 1e-6 * errors.min() else 0.0  # the fit stops a hair inside its bounds
    scale = float(np.exp(log_b + exponent * with_offset.middle))
    return PowerLaw(scale, float(exponent), offset, with_offset.residual, identified, reason)


def _offset_is_identified(num_sizes: int, with_offset: FittedForm, without: FittedForm, smallest: float) -> bool:
    if num_sizes <= MIN_SIZES:
        return False
    _, exponent, offset = with_offset.values
    squares, squares_without = num_sizes * with_offset.residual**2, num_sizes * without.residual**2
    gain = (squares_without - squares) / max(squares / (num_sizes - MIN_SIZES), 2e-12)
    return bool(gain > _CLEAR_GAIN and offset > 0.05 * smallest and exponent < 0.999 * LARGEST_EXPONENT)
