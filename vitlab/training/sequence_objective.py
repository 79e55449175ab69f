"""N vectors to N' labels, as many as the model decides: the CTC loss; exact match, edit distance, character errors.

Graves et al., Connectionist Temporal Classification, ICML 2006: the loss sums over all ways in which the steps can
spell the sequence (section 4.1).
"""

from torch import Tensor, nn
from torch.nn import functional

from vitlab.training.objective import ExactMean, Objective, check_shape
from vitlab.training.transcription import edit_distance, fewest_steps, greedy_decode, sequence_lengths


class SequenceObjective(Objective):
    """Negative log-likelihood of the whole sequence, averaged over images (not divided by lengths).

    Args:
        num_classes: Classes, 1 or more, the blank not counted.
        label_smoothing: Must be 0; CTC has no single right answer a step to smooth.

    Shape: logits (batch, steps, classes + 1), the blank last; sequences (batch, longest) int64, filled up with -1.

    Raises:
        ValueError: label_smoothing is not 0.
    """

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        if label_smoothing:
            raise ValueError(
                f"label_smoothing is {label_smoothing}, and sequences trained with CTC take none; set it to 0"
            )
        super().__init__(num_classes)

    def make_metrics(self) -> nn.ModuleDict:
        """Return nll, accuracy (the whole sequence right), edit_distance (mean) and character_error_rate."""
        names = ("nll", "accuracy", "edit_distance", "character_error_rate")
        return nn.ModuleDict({name: ExactMean() for name in names})

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean negative log-likelihood."""
        return self._nll(logits, targets).mean()

    def update(self, metrics: nn.ModuleDict, logits: Tensor, targets: Tensor) -> None:
        """Add a batch to one set of the metrics."""
        metrics["nll"].update(self._nll(logits, targets))
        distances = edit_distance(self.predict(logits), targets).float()
        metrics["accuracy"].update((distances == 0).float())
        metrics["edit_distance"].update(distances)
        # Errors over characters, both summed over the data set: long sequences count by their length.
        metrics["character_error_rate"].update(distances, count=sequence_lengths(targets).sum())

    def predict(self, logits: Tensor) -> Tensor:
        """Return the sequences, (batch, steps), filled up with -1."""
        return greedy_decode(logits)

    def _nll(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-likelihood of each sequence, (batch,)."""
        fits = logits.ndim == 3 and logits.shape[2] == self.num_classes + 1
        check_shape(logits, fits, f"(batch, steps, {self.num_classes + 1})", "TranscriptionHead")
        batch, steps, _ = logits.shape
        needed = int(fewest_steps(targets).max())
        if needed > steps:  # no way of spelling it: the loss would be infinite
            raise ValueError(
                f"a target takes {needed} steps (one an entry, and a blank between equal neighbors), and the model has "
                f"{steps}; use a smaller patch_size or wider images"
            )
        return functional.ctc_loss(
            logits.float().log_softmax(dim=-1).transpose(0, 1),  # (steps, batch, classes + 1)
            targets.clamp(min=0),  # past its length a target is not read
            logits.new_full((batch,), steps, dtype=targets.dtype),
            sequence_lengths(targets),
            blank=self.num_classes,
            reduction="none",
        )
