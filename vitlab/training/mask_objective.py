"""N vectors to N labels, one a pixel: cross entropy; pixel accuracy and mean intersection over union.

Long et al., arXiv 1411.4038, section 5, "Metrics". Intersections and unions are counted over the whole data set (as in
PASCAL VOC), not image by image; a class that is neither there nor predicted is left out of the mean.
"""

from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from vitlab.training.objective import ExactMean, Objective, check_shape


class MaskObjective(Objective):
    """Cross entropy of one label a pixel, averaged over pixels.

    Args:
        num_classes: Classes, 1 or more.
        label_smoothing: Probability mass spread over all classes in the training targets.

    Shape: logits (batch, classes, height, width); masks (batch, height, width) int64.
    """

    def make_metrics(self) -> nn.ModuleDict:
        """Return nll and accuracy, per pixel, and mean_iou."""
        return nn.ModuleDict(
            {
                "nll": ExactMean(),
                "accuracy": MulticlassAccuracy(self.num_classes, average="micro"),
                "mean_iou": MulticlassJaccardIndex(self.num_classes, average="macro"),
            }
        )

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        _check(logits, targets)
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def update(self, metrics: nn.ModuleDict, logits: Tensor, targets: Tensor) -> None:
        """Add a batch to one set of the metrics."""
        _check(logits, targets)
        metrics["nll"].update(functional.cross_entropy(logits, targets, reduction="none"))
        predicted = self.predict(logits)
        for name in ("accuracy", "mean_iou"):
            metrics[name].update(predicted, targets)

    def predict(self, logits: Tensor) -> Tensor:
        """Return each pixel's class, (batch, height, width)."""
        return logits.argmax(dim=1)


def _check(logits: Tensor, targets: Tensor) -> None:
    fits = logits.ndim == 4 and logits.shape[2:] == targets.shape[1:]
    check_shape(logits, fits, f"(batch, classes, {targets.shape[1]}, {targets.shape[2]})", "DenseHead")
