"""N vectors to one label: cross entropy; accuracy, top-5 accuracy and calibration.

Label smoothing: arXiv 1512.00567, section 7; expected calibration error with 15 bins: arXiv 1706.04599, section 2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from vitlab.training.objective import UNIT, ExactMean, Objective, check_shape, in_units

_NUM_BINS = 15


class CalibrationError(Metric):
    """Expected calibration error, as torchmetrics' MulticlassCalibrationError, from sums in whole numbers.

    Within a bin of confidence it is the gap between mean confidence and accuracy, weighed by the images there.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("num_images", "num_right", "confidence"):
            # One more than there are bins: torchmetrics gives a confidence of exactly 1 a bin to itself.
            self.add_state(name, torch.zeros(_NUM_BINS + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add images.

        Shape: probabilities (batch, classes); labels (batch,).
        """
        confidence, predicted = probabilities.nan_to_num().max(dim=-1)
        edges = torch.linspace(0, 1, _NUM_BINS + 1, device=confidence.device, dtype=confidence.dtype)
        bins = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=_NUM_BINS)
        self.num_images.index_add_(0, bins, torch.ones_like(bins))
        self.num_right.index_add_(0, bins, (predicted == labels).long())
        self.confidence.index_add_(0, bins, in_units(confidence))

    def compute(self) -> Tensor:
        """Return the error, from 0 to 1."""
        return (self.num_right * UNIT - self.confidence).abs().sum() / (self.num_images.sum() * UNIT)


class LabelObjective(Objective):
    """Cross entropy of one label an image.

    Args:
        num_classes: Classes, 1 or more.
        label_smoothing: Probability mass spread over all classes in the training targets.

    Shape: logits (batch, classes); labels (batch,) int64, or in training their mixtures (batch, classes).
    """

    def make_metrics(self) -> nn.ModuleDict:
        """Return nll, accuracy, calibration_error and top5_accuracy."""
        classes = self.num_classes
        return nn.ModuleDict(
            {
                "nll": ExactMean(),
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "calibration_error": CalibrationError(),
                "top5_accuracy": MulticlassAccuracy(classes, average="micro", top_k=min(5, classes)),
            }
        )

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        check_shape(logits, logits.ndim == 2, "(batch, classes)", "ClassifierHead")
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def update(self, metrics: nn.ModuleDict, logits: Tensor, targets: Tensor) -> None:
        """Add a batch to one set of the metrics."""
        check_shape(logits, logits.ndim == 2, "(batch, classes)", "ClassifierHead")
        metrics["nll"].update(functional.cross_entropy(logits, targets, reduction="none"))
        probabilities = self.predict(logits)
        for name in ("accuracy", "calibration_error", "top5_accuracy"):
            metrics[name].update(probabilities, targets)

    def predict(self, logits: Tensor) -> Tensor:
        """Return class probabilities, (batch, classes)."""
        return logits.softmax(dim=-1)
