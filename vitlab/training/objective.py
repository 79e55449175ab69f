"""What a kind of target asks of a model: a loss to train with, metrics to report; one file a kind.

Metrics have the same names where they mean the same, so that sweeps and reports, which read `val/accuracy` and
`val/nll`, work for every kind: accuracy is the share of what was asked for that is right, nll the loss itself, in nats.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchmetrics import Metric


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
