"""Fits of a curve's form in log error: bounded, from several starts, and many at a time.

Log error, so that an error of 0.01 counts as much as one of 0.5 and a fit never depends on the unit. A Levenberg and
Marquardt iteration runs for all fits of a batch together (fits differ in which sizes count, how much, and where they
start); parameters that the step would push through a bound stay on it. Analyses need hundreds of fits of one curve
(windows, cut curves, resamples): one by one they took half a minute, as a batch a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis.curve_models import CurveForm

_FIRST_STEPS, _MAX_STEPS = 12, 80  # from every start; then from where the best of them came to
_LEAST_GAIN = 1e-6  # of the squared residuals in one step; below it, a fit has arrived
_PATIENCE = 2  # such steps in a row
_LARGEST_DAMPING = 1e9


@dataclass(frozen=True)
class FittedForm:
    """One form fitted to one curve.

    Args:
        form: what was fitted.
        values: its parameters, for log sizes counted from `middle`.
        middle: log size that the form counts from.
        residual: root mean square of log(measured / fitted), weighted.
    """

    form: CurveForm
    values: np.ndarray
    middle: float
    residual: float

    def predict(self, sizes: Sequence[float]) -> np.ndarray:
        """Return the fitted errors at the sizes."""
        log_sizes = np.log(np.asarray(sizes, dtype=float)) - self.middle
        return np.exp(self.form.evaluate(self.values[None], log_sizes)[0][0])


def fit_form(
    form: CurveForm,
    sizes: Sequence[float],
    errors: Sequence[float],
    weights: Sequence[float] | None = None,
    largest: float | None = 1.0,
) -> FittedForm:
    """Return the form closest to the errors in log error.

    Args:
        form: one of `curve_models.FORMS`.
        sizes: distinct numbers of images or examples, each above 0.
        errors: at each size, above 0.
        weights: how much each size counts, such as 1 / variance of the log error; equal by default.
        largest: the largest value that the quantity can take, 1 for an error; None if it has no end, such as NLL.

    Raises:
        ValueError: if a size or error is not positive, or there are fewer sizes than parameters.
    """
    sizes, errors = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    if sizes.shape != errors.shape or not ((sizes > 0).all() and (errors > 0).all()):
        raise ValueError(f"a curve needs one positive error per positive size; got sizes {sizes} and errors {errors}")
    if len(sizes) < len(form.parameters):
        raise ValueError(f"{form.name} has {len(form.parameters)} parameters and needs as many sizes; got {len(sizes)}")
    order = np.argsort(sizes)
    log_sizes = np.log(sizes[order])
    middle = float(log_sizes.mean())
    weights = np.ones(len(sizes)) if weights is None else np.asarray(weights, dtype=float)[order]
    values, losses = fit_batch(form, log_sizes - middle, np.log(errors[order]), weights[None], largest)
    return FittedForm(form, values[0], middle, float(np.sqrt(losses[0])))


def fit_batch(
    form: CurveForm,
    log_sizes: np.ndarray,
    log_errors: np.ndarray,
    weights: np.ndarray,
    largest: float | None,
    starts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of weights the parameters of the best fit and its weighted mean squared residual.

    Args:
        form: what to fit.
        log_sizes: growing, counted from the curve's middle.
        log_errors: one curve for all fits, or a curve for each.
        weights: how much each size counts in each fit; 0 leaves it out.
        largest: the largest value that the quantity can take, or None.
        starts: one start for each fit; by default the form's own starts, of which the best end is kept.

    Shape:
        log_sizes: (sizes,); log_errors: (sizes,) or (fits, sizes); weights: (fits, sizes); starts: (fits, parameters);
        result: (fits, parameters), (fits,).
    """
    log_errors = np.broadcast_to(log_errors, weights.shape)
    owners, begins, lowers, uppers = [], [], [], []
    for fit, (own_errors, own_weights) in enumerate(zip(log_errors, weights, strict=True)):
        kept = own_weights > 0
        seen = log_sizes[kept], np.exp(own_errors[kept]), largest
        lower, upper = form.limits(*seen)
        own = form.starts(*seen) if starts is None else [starts[fit]]
        owners += [fit] * len(own)
        begins += own
        lowers += [lower] * len(own)
        uppers += [upper] * len(own)
    owners, lower, upper = np.array(owners), np.array(lowers), np.array(uppers)
    inside = 1e-6 * (np.minimum(upper, 10.0) - np.maximum(lower, -10.0))  # a start on a bound may never leave it
    values = np.clip(np.array(begins), lower + inside, upper - inside)
    roots = np.sqrt(weights / weights.sum(axis=1, keepdims=True))
    if starts is None:
        values, losses = _descend(
            form, log_sizes, log_errors[owners], roots[owners], values, lower, upper, _FIRST_STEPS
        )
        order = np.lexsort((losses, owners))
        best = order[np.unique(owners[order], return_index=True)[1]]
        values, lower, upper = values[best], lower[best], upper[best]
    return _descend(form, log_sizes, log_errors, roots, values, lower, upper, _MAX_STEPS)


def _descend(
    form: CurveForm,
    log_sizes: np.ndarray,
    log_errors: np.ndarray,
    roots: np.ndarray,
    values: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    max_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Run the damped Gauss-Newton iteration of all fits at once; those that have arrived drop out."""

    def look(active: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fitted, derivatives = form.evaluate(at, log_sizes)
        residuals = roots[active] * (fitted - log_errors[active])
        return residuals, roots[active][..., None] * derivatives, (residuals**2).sum(axis=1)

    active = np.arange(len(values))
    residuals, jacobian, losses = look(active, values)
    damping, still = np.full(len(values), 1e-2), np.zeros(len(values), dtype=int)
    for _ in range(max_steps):
        low, high = lower[active], upper[active]
        step = _step(jacobian, residuals, values[active], low, high, damping[active])
        moved = np.clip(values[active] + step, low, high)
        new_residuals, new_jacobian, new_losses = look(active, moved)
        better = new_losses < losses[active]  # False for NaN as well
        gain = np.where(better, losses[active] - new_losses, 0.0)
        still[active] = np.where(gain <= _LEAST_GAIN * losses[active], still[active] + better, 0)
        values[active[better]], losses[active[better]] = moved[better], new_losses[better]
        residuals[better], jacobian[better] = new_residuals[better], new_jacobian[better]
        damping[active] *= np.where(better, 0.25, 5.0)
        going = (still[active] < _PATIENCE) & (damping[active] < _LARGEST_DAMPING)
        active, residuals, jacobian = active[going], residuals[going], jacobian[going]
        if not len(active):
            break
    return values, losses


def _step(
    jacobian: np.ndarray,
    residuals: np.ndarray,
    values: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    damping: np.ndarray,
) -> np.ndarray:
    gradient = (residuals[:, None, :] @ jacobian)[:, 0]
    held = ((values <= lower) & (gradient > 0)) | ((values >= upper) & (gradient < 0))
    jacobian = np.where(held[:, None, :], 0.0, jacobian)
    normal = jacobian.transpose(0, 2, 1) @ jacobian
    diagonal = np.einsum("fpp->fp", normal)
    scale = diagonal + 1e-9 * diagonal.max(axis=1, keepdims=True) + 1e-300
    index = np.arange(values.shape[1])
    normal[:, index, index] += damping[:, None] * scale + np.where(held, scale.max(axis=1, keepdims=True) + 1.0, 1e-14)
    return np.where(held, 0.0, np.linalg.solve(normal, -gradient[..., None])[..., 0])
