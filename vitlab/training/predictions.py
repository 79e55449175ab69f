"""What a model says of single test images: a CSV file for `vitlab predict`, and arrays for a sweep to keep.

In the CSV a label comes with its probability; a sequence is written out, its entries joined by spaces. A mask does not
fit a row. With several processes the first one has what all have predicted, in the order of the images.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from torch import distributed

from vitlab.atomic_file import atomic_file
from vitlab.training.transcription import PADDING, edit_distance

Share = tuple[np.ndarray, torch.Tensor]


class PredictionWriter(BasePredictionWriter):
    """Write image index, what is true, what was predicted and, of a label, its probability to `predictions.csv`.

    Raises:
        ValueError: The data set asks for masks.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse what has no row, before any work; Lightning calls this."""
        if trainer.datamodule.target == "mask":
            raise ValueError(
                "vitlab predict writes one row per image, and the target here is a mask; call the model from Python: "
                "Classifier.load_from_checkpoint(...)(images).argmax(dim=1)"
            )

    def write_on_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file; Lightning calls this with what predict_step gave for every batch."""
        # Lightning may have been told to stop early: as many images as there are predictions.
        answers = torch.cat(list(predictions)).cpu()
        planned = np.concatenate([plan.positions for plan in trainer.predict_dataloaders.sampler])
        shares = _gathered((planned[: len(answers)], answers))
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule
        positions, answers = np.concatenate([share[0] for share in shares]), torch.cat([share[1] for share in shares])
        order = np.argsort(positions)
        positions, answers = positions[order], answers[torch.from_numpy(order)]
        rows = _label_rows if data.target == "label" else _sequence_rows
        header, *table = rows(data.class_names, data.dataset.test().targets(positions), answers)
        path = Path(trainer.default_root_dir) / "predictions.csv"
        with atomic_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image", *header])
            writer.writerows([position, *row] for position, row in zip(positions.tolist(), table, strict=True))
        print(f"predictions of {len(table):,} test images: {path}")


class TestedImages(NamedTuple):
    """What came out of a test, image by image, in the order of the test set.

    Args:
        fingerprint: The data set's.
        targets: What was asked for, integers (images, ...).
        right: Whether the model was right, (images,).
        predicted: The predicted class, (images,); None where a label is not all that is asked for.
    """

    fingerprint: str
    targets: np.ndarray
    right: np.ndarray
    predicted: np.ndarray | None


class PredictionKeeper(Callback):
    """Keep what a model says of each image while it is tested; `tested` holds it afterwards.

    That stays None in all processes but the first, for masks (which are neither right nor wrong as a whole), for test
    sets that are larger than allowed, and where not all images were tested.

    Args:
        max_images: The largest test set to keep, in images.
    """

    def __init__(self, max_images: int) -> None:
        self.tested: TestedImages | None = None
        self._max_images = max_images
        self._answers: list[torch.Tensor] = []

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the answers to a batch; Lightning calls this with the logits."""
        target = trainer.datamodule.target
        if target == "mask" or trainer.test_dataloaders.sampler.num_images > self._max_images:
            return
        predicted = pl_module.objective.predict(outputs)
        answers = predicted.argmax(dim=-1) if target == "label" else edit_distance(predicted, batch[1]) == 0
        self._answers.append(answers)  # it stays on the device, which nobody has to wait for

    def on_test_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the answers of all processes in order; Lightning calls this after the last batch."""
        if not self._answers:
            return
        answers, order = torch.cat(self._answers).cpu(), trainer.test_dataloaders.sampler
        self._answers.clear()
        planned = np.concatenate([plan.positions for plan in order])
        shares = _gathered((planned[: len(answers)], answers))
        positions = np.concatenate([share[0] for share in shares])
        if not trainer.is_global_zero or len(positions) < order.num_images:
            return
        answers = torch.cat([share[1] for share in shares]).numpy()[np.argsort(positions)]
        data = trainer.datamodule
        targets = data.dataset.test().targets(np.arange(order.num_images))
        is_label = data.target == "label"
        right = answers == targets if is_label else answers
        self.tested = TestedImages(data.dataset.fingerprint, targets, right, answers if is_label else None)


def _gathered(share: Share) -> list[Share]:
    """Return the shares of all processes to the first one, and to the others nothing of use."""
    if not distributed.is_initialized():
        return [share]
    shares = [share] * distributed.get_world_size()
    distributed.gather_object(share, shares if distributed.get_rank() == 0 else None)
    return shares


def _label_rows(names: Sequence[str], labels: np.ndarray, probabilities: torch.Tensor) -> Iterator[list[str]]:
    """Give the header, then a row for each image: probabilities (images, classes)."""
    yield ["label", "predicted", "confidence"]
    confidences, predicted = probabilities.max(dim=-1)
    for label, index, confidence in zip(labels, predicted.tolist(), confidences.tolist(), strict=True):
        yield [names[label], names[index], f"{confidence:.6f}"]


def _sequence_rows(names: Sequence[str], sequences: np.ndarray, decoded: torch.Tensor) -> Iterator[list[str]]:
    """Give the header, then a row for each image: decoded (images, longest), filled up with -1."""
    yield ["sequence", "predicted"]
    for pair in zip(sequences.tolist(), decoded.tolist(), strict=True):
        yield [" ".join(names[entry] for entry in sequence if entry != PADDING) for sequence in pair]
