"""N vectors to one label: cross entropy; accuracy, top-5 accuracy and calibration.

Label smoothing: arXiv 1512.00567, section 7; expected calibration error with 15 bins: arXiv 1706.04599, section 2.
"""

from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from vitlab.training.objective import Objective, check_shape


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
                "nll": MeanMetric(),
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "calibration_error": MulticlassCalibrationError(classes, n_bins=15),
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
