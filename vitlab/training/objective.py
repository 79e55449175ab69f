"""What a kind of target asks of a model: a loss to train with, metrics to report; one file a kind.

Metrics have the same names where they mean the same, so that sweeps and reports, which read `val/accuracy` and
`val/nll`, work for every kind: accuracy is the share of what was asked for that is right, nll the loss itself, in nats.

Sums are kept in whole numbers, because those do not depend on the order of their terms: one process and many report the
same digits. torchmetrics' MeanMetric adds float32 (and leaves out what is not a number, which should be seen).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torchmetrics import Metric

UNIT = 2**24  # units to 1: what float32 tells apart just below 1


class ExactMean(Metric):
    """Mean of numbers up to 2**32, rounded to 1/UNIT each; NaN if one of them is larger or no number."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count", "num_lost"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor, count: Tensor | None = None) -> None:
        """Add numbers.

        Args:
            values: Any shape.
            count: What to divide their sum by, in place of how many they are.
        """
        usable = values.abs() < 2**32
        self.total += in_units(values.where(usable, 0)).sum()
        self.count += values.numel() if count is None else count
        self.num_lost += (~usable).sum()

    def compute(self) -> Tensor:
        """Return the mean."""
        mean = self.total / (self.count * UNIT)
        return mean.where(self.num_lost == 0, torch.nan)


def in_units(values: Tensor) -> Tensor:
    """Return numbers as whole multiples of 1/UNIT, int64."""
    return (values * UNIT).round().long()


class Objective(nn.Module, ABC):
    """Parent of all objectives: the loss, and a set of metrics each for validation and test data.

    Args:
        num_classes: Classes, 1 or more.
        label_smoothing: Probability mass spread over all classes in the training targets.
    """

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.metrics = nn.ModuleDict({f"{stage}_metrics": self.make_metrics() for stage in ("val", "test")})

    @abstractmethod
    def make_metrics(self) -> nn.ModuleDict:
        """Return one set of the metrics by name."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss of a batch, a mean over images."""

    @abstractmethod
    def update(self, metrics: nn.ModuleDict, logits: Tensor, targets: Tensor) -> None:
        """Add a batch to one set of the metrics."""

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """Return what the logits say."""

    def evaluate(self, stage: str, logits: Tensor, targets: Tensor) -> dict[str, Metric]:
        """Add a batch to the metrics of a stage, and return them by name.

        Args:
            stage: `val` or `test`.
            logits: What the model gave.
            targets: What was asked for.
        """
        metrics = self.metrics[f"{stage}_metrics"]
        self.update(metrics, logits, targets)
        return dict(metrics.items())


def check_shape(logits: Tensor, fits: bool, wanted: str, head: str) -> None:
    """Refuse logits that are not of the shape that the targets ask for.

    Args:
        logits: What the model gave.
        fits: Whether they do.
        wanted: The shape, in words.
        head: The head that gives such logits.

    Raises:
        ValueError: They do not fit.
    """
    if not fits:
        raise ValueError(
            f"the targets of this data set ask for logits {wanted}, and the model gave {tuple(logits.shape)}; give it "
            f"`head: vitlab.models.{head}` (in the model's init_args)"
        )
