"""What a curve may show: the test error, the negative log likelihood, or how far confidence is from accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from vitlab.analysis.wording import percent


@dataclass(frozen=True)
class Target:
    """A quantity that trials measure on test data.

    Args:
        name: its key in records and summaries.
        words: how people call it.
        unit: that it is shown in.
        factor: from the recorded number to the shown one.
        largest: the largest recorded value that it can take; None if it has no end.
        least_step: of an axis, as shown.
        is_fitted: whether it falls with more images as a learning curve does, so that a curve can be fitted.
    """

    name: str
    words: str
    unit: str
    factor: float
    largest: float | None
    least_step: float
    is_fitted: bool

    def tell(self, value: float) -> str:
        """Return a recorded value as tables and tooltips give it."""
        return percent(value) if self.unit == "%" else f"{value:.3f}"


TARGETS = {
    target.name: target
    for target in (
        Target("error", "test error", "%", 100.0, 1.0, 0.1, True),
        Target("nll", "test NLL", "nats", 1.0, None, 0.001, True),
        Target("calibration_error", "calibration error", "%", 100.0, 1.0, 0.1, False),
    )
}
ERROR, NLL, CALIBRATION = TARGETS.values()
BESIDE_ERROR = (NLL, CALIBRATION)
