"""Five forms of a learning curve: error as a function of the number of training images or examples seen.

    M1  e = b x^-c                               a power law
    M2  e = b x^-c + e_inf                       with an offset: the error that more data does not take away
    M3  e = b (1/x + d)^c                        shifted: a power law until x is near 1/d, then level at b d^c
    M4  (e - e_inf) / (e_0 - e)^alpha = b x^-c   leaves a first level e_0 and ends at e_inf; holds M1 and M2
    broken  e = b x^-c_0 (1 + (x/d)^(1/f))^(f (c_0 - c_1)) + e_inf   two exponents and a smooth break of width f

M1 to M4 are those of Alabdulmohsin et al. (arXiv 2209.06640, section 3), the last is the broken neural scaling law of
Caballero et al. (arXiv 2210.14891) with one break. All work on log sizes counted from the curve's middle and give log
errors with derivatives, for many sets of parameters at a time: fitting on windows, on cut curves and on resamples is
then one batch. In the parameters b and d of "broken" stand as logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LARGEST_EXPONENT = 3.0
_LOG_SCALE = 60.0  # bounds of log b, far outside what any curve asks for
_LEAST_ALPHA, _LARGEST_ALPHA = 0.02, 4.0
_LEAST_WIDTH, _LARGEST_WIDTH = 0.1, 3.0  # of a break, in e-folds of size: sharper ones follow single points
_UNBOUNDED_START = 10.0  # a quantity without an upper end may have begun at this many times its largest value


@dataclass(frozen=True)
class CurveForm:
    """One form of a learning curve.

    Args:
        name: how tables call it.
        formula: for people.
        parameters: names, in the order of every array of parameters.
        evaluate: maps parameters and log sizes to log errors and their derivatives.
        limits: lower and upper bounds of the parameters for given errors.
        starts: where a fit to given log sizes and errors may begin.

    Shape:
        evaluate: (fits, parameters), (sizes,) to (fits, sizes), (fits, sizes, parameters).
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    evaluate: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    limits: Callable[[np.ndarray, np.ndarray, float | None], tuple[list[float], list[float]]]
    starts: Callable[[np.ndarray, np.ndarray, float | None], list[list[float]]]


def _softplus(values: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, values)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def _columns(parameters: np.ndarray) -> list[np.ndarray]:
    return [parameters[:, index, None] for index in range(parameters.shape[1])]  # each: (fits, 1)


def _line(log_sizes: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the height and the falling slope, within the exponents' bounds, of the line through values."""
    slope, height = np.polyfit(log_sizes, values, 1)
    return float(height), float(np.clip(-slope, 0.02, LARGEST_EXPONENT - 0.1))


# M1


def _power(parameters: np.ndarray, log_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_b, c = _columns(parameters)
    ones = np.ones_like(log_b * log_sizes)
    return log_b - c * log_sizes, np.stack([ones, -log_sizes * ones], axis=-1)


def _power_limits(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> tuple[list, list]:
    return [-_LOG_SCALE, 0.0], [_LOG_SCALE, LARGEST_EXPONENT]


def _power_starts(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> list[list[float]]:
    return [list(_line(log_sizes, np.log(errors)))]


# M2


def _offset(parameters: np.ndarray, log_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_b, c, e_inf = _columns(parameters)
    falling = np.exp(log_b - c * log_sizes)
    errors = falling + e_inf
    derivatives = np.stack([falling, -log_sizes * falling, np.ones_like(falling)], axis=-1)
    return np.log(errors), derivatives / errors[..., None]


def _offset_limits(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> tuple[list, list]:
    return [-_LOG_SCALE, 0.0, 0.0], [_LOG_SCALE, LARGEST_EXPONENT, errors.min() * (1 - 1e-6)]


def _offset_starts(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> list[list[float]]:
    offsets = [share * errors.min() for share in (0.02, 0.5, 0.9)]
    return [[*_line(log_sizes, np.log(errors - e_inf)), e_inf] for e_inf in offsets]


# M3


def _shifted(parameters: np.ndarray, log_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_b, c, d = _columns(parameters)
    shifted = np.exp(-log_sizes) + d
    log_shifted = np.log(shifted)
    derivatives = [np.ones_like(shifted), log_shifted, c / shifted]
    return log_b + c * log_shifted, np.stack(derivatives, axis=-1)


def _shifted_limits(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> tuple[list, list]:
    return [-_LOG_SCALE, 0.0, 0.0], [_LOG_SCALE, LARGEST_EXPONENT, np.exp(-log_sizes[0])]


def _shifted_starts(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> list[list[float]]:
    shifts = [share * np.exp(-log_sizes[-1]) for share in (0.05, 0.5, 3.0)]
    return [[*_line(-np.log(np.exp(-log_sizes) + d), np.log(errors)), d] for d in shifts]


# M4


def _saturating(parameters: np.ndarray, log_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve for e = e_inf + (e_0 - e_inf) sigmoid(u): the form says u + (alpha - 1) softplus(u) = target."""
    log_b, c, e_inf, alpha, e_0 = _columns(parameters)
    span = e_0 - e_inf
    target = log_b - c * log_sizes + (alpha - 1) * np.log(span)
    u = target.copy()  # left of the root where the left side is concave, right of it where convex: Newton is monotone
    for _ in range(50):
        step = (u + (alpha - 1) * _softplus(u) - target) / (1 + (alpha - 1) * _sigmoid(u))
        u -= step
        if np.abs(step).max() < 1e-9:
            break
    share = _sigmoid(u)
    errors = e_inf + span * share
    # Along the curve, d error = span share (1 - share) du, and du follows from the equation that u solves.
    slope = span * share * (1 - share) / (1 + (alpha - 1) * share)
    by_span = slope * (alpha - 1) / span
    by_alpha = slope * (np.log(span) - _softplus(u))
    derivatives = [slope, -log_sizes * slope, 1 - share - by_span, by_alpha, share + by_span]
    return np.log(errors), np.stack(derivatives, axis=-1) / errors[..., None]


def _saturating_limits(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> tuple[list, list]:
    top = errors.max()
    highest = max(_UNBOUNDED_START * top if largest is None else largest, 1.001 * top)
    lower = [-_LOG_SCALE, 0.0, 0.0, _LEAST_ALPHA, top * (1 + 1e-6)]
    return lower, [_LOG_SCALE, LARGEST_EXPONENT, errors.min() * (1 - 1e-6), _LARGEST_ALPHA, highest]


def _saturating_starts(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> list[list[float]]:
    highest = _saturating_limits(log_sizes, errors, largest)[1][-1]
    e_0 = min(1.02 * errors.max(), 0.5 * (errors.max() + highest))
    starts = []
    for e_inf in (0.05 * errors.min(), 0.6 * errors.min()):
        for alpha in (0.3, 1.0):
            odds = np.log(errors - e_inf) - alpha * np.log(e_0 - errors)
            starts.append([*_line(log_sizes, odds), e_inf, alpha, e_0])
    return starts


# Broken


def _broken(parameters: np.ndarray, log_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_b, before, after, log_d, width, e_inf = _columns(parameters)
    distance = (log_sizes - log_d) / width
    past = width * _softplus(distance)  # 0 well before the break, log(size / d) well after it
    is_past = _sigmoid(distance)
    falling = np.exp(log_b - before * (log_sizes - past) - after * past)
    errors = falling + e_inf
    bend = before - after
    derivatives = [np.ones_like(falling), past - log_sizes, -past, -bend * is_past]
    derivatives += [bend * (past / width - distance * is_past), 1 / falling]
    return np.log(errors), np.stack(derivatives, axis=-1) * (falling / errors)[..., None]


def _broken_limits(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> tuple[list, list]:
    lower = [-_LOG_SCALE, 0.0, 0.0, log_sizes[0], _LEAST_WIDTH, 0.0]
    exponents = [LARGEST_EXPONENT, LARGEST_EXPONENT]
    return lower, [_LOG_SCALE, *exponents, log_sizes[-1], _LARGEST_WIDTH, errors.min() * (1 - 1e-6)]


def _broken_starts(log_sizes: np.ndarray, errors: np.ndarray, largest: float | None) -> list[list[float]]:
    starts = []
    for share in (0.25, 0.5, 0.75):
        log_d = log_sizes[0] + share * (log_sizes[-1] - log_sizes[0])
        for e_inf in (0.02 * errors.min(), 0.5 * errors.min()):
            height, slope = _line(log_sizes, np.log(errors - e_inf))
            starts += [[height, 0.3 * slope, 1.5 * slope, log_d, 0.5, e_inf]]
            starts += [[height, 1.5 * slope, 0.5 * slope, log_d, 0.5, e_inf]]
    return starts


POWER = CurveForm("M1", "b x^-c", ("log_b", "c"), _power, _power_limits, _power_starts)
OFFSET = CurveForm("M2", "b x^-c + e_inf", ("log_b", "c", "e_inf"), _offset, _offset_limits, _offset_starts)
SHIFTED = CurveForm("M3", "b (1/x + d)^c", ("log_b", "c", "d"), _shifted, _shifted_limits, _shifted_starts)
SATURATING = CurveForm(
    "M4",
    "(e - e_inf) / (e_0 - e)^alpha = b x^-c",
    ("log_b", "c", "e_inf", "alpha", "e_0"),
    _saturating,
    _saturating_limits,
    _saturating_starts,
)
BROKEN = CurveForm(
    "broken",
    "b x^-c_0 (1 + (x/d)^(1/f))^(f (c_0 - c_1)) + e_inf",
    ("log_b", "c_0", "c_1", "log_d", "f", "e_inf"),
    _broken,
    _broken_limits,
    _broken_starts,
)
FORMS = {form.name: form for form in (POWER, OFFSET, SHIFTED, SATURATING, BROKEN)}
